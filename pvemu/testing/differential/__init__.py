"""The same programs on pvemu and on another hypervisor, compared step by step (docs/testing.md)."""
