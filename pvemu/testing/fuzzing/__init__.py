"""`pvemu fuzz`: a campaign that looks for programs which reach code that none before them has reached."""
