"""Xen in Python: domains, vCPUs, the scheduler, events, and the hypercalls that a guest makes."""
