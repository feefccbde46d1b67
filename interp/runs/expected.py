"""How long a measurement takes, roughly, before it begins: scaled from what a recorded one took."""

TAKEN = {"fuzzy": 67, "guard": 132, "causal": 119}
"""Kind -> seconds that its recorded run on the toy `deployment` took on two processor cores."""
PARAMETERS, HEADS = 11e6, 48
"""Of that toy."""
BY_HEAD = ("causal",)
"""Kinds that run the model once for every head."""


def seconds(kind: str, n_parameters: int, n_heads: int) -> float:
    """Seconds on two processor cores; a factor of two in either direction is no surprise.

    The work grows with the parameters, and for some kinds with the heads too.

    Args:
        kind: a key of `TAKEN`.
        n_parameters: of one model of the pair.
        n_heads: heads in all its layers.
    """
    found = TAKEN[kind] * n_parameters / PARAMETERS
    return found * n_heads / HEADS if kind in BY_HEAD else found


def told(kind: str, n_parameters: int, n_heads: int) -> str:
    """`seconds` in words: `about 15 min on two processor cores`."""
    minutes = seconds(kind, n_parameters, n_heads) / 60
    if minutes < 90:
        step = 1 if minutes < 10 else 5
        spoken = f"{max(1, step * round(minutes / step))} min"
    else:
        hours = round(minutes / 60)
        spoken = f"{hours} hour{'s' * (hours > 1)}" if hours < 48 else f"{round(hours / 24)} days"
    return f"about {spoken} on two processor cores"
