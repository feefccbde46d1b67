"""What holds for every page of the running app."""
