"""Names of the stages of a scan: the command line lists them before torch is there."""

STAGES = (
    "beginnings",
    "leakage",
    "motifs",
    "replay",
    "reconstruction",
    "divergence",
    "targets",
    "inversion",
    "verdict",
)
"""In order; `pipeline.STAGES` holds the stages themselves."""
