"""The network back end: guests' interfaces over netif rings (public header io/netif.h), and a switch."""
