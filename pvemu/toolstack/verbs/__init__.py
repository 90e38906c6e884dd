"""The verbs of the `pvemu` command, one file each."""
