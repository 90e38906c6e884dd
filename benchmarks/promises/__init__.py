"""What things cost: each benchmark measures pvemu beside something known, and gives their ratio."""
