"""The services of domain 0: back ends that act as a privileged domain, through one handle."""
