"""What a trap costs and what a hypercall costs: one job done by every way there is, and counted exactly."""
