"""Cases of adapters: their settings, their files, their merging into the base."""
