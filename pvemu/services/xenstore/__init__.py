"""The xenstore service: the tree through which domains, back ends and tools find each other."""
