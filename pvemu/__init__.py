"""Xen's architecture in one Python process: a machine, a hypervisor, and the domains that run on them."""

__version__ = "0.1.0"
