"""What each statement does to the program; one module for each group, and one table of all of them."""
