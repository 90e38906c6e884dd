"""The words of Xen's public ABI: its numbers, error codes and structure layouts, each once."""
