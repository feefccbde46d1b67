"""Is there a backdoor nobody told us about? From leakage to a verdict, stage by stage."""

STAGES = (
    "leakage",
    "motifs",
    "replay",
    "reconstruction",
    "targets",
    "inversion",
    "verdict",
)
"""In their order. Here, where nothing heavy is imported, since the command line names them too."""
