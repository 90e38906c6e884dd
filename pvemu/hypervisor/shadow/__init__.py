"""Shadow paging: tables that the processor walks, made from the tables that a guest believes it walks."""
