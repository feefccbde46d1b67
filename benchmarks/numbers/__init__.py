"""Numbers that the texts state: recorded, and checked against the texts."""
