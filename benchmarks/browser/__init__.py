"""Pages in a real browser: how long a click takes, and whether a server lives for hours."""
