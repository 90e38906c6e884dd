"""What makes a guest paravirtual: ring compression, its traps, descriptors, page tables and callbacks."""
