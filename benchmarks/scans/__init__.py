"""What judges the scanner: zoos, controls, and the evidence of its parts."""
