"""A table-driven encoder of x86 instructions, for 32-bit and 64-bit code."""
