"""Auto-translated PV guests: paravirtual in all but memory, where they have frame numbers of their own."""
