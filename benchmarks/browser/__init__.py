"""Pages in a real browser: the latency of a click, and whether a server survives for hours."""
