"""Tokens on an axis: each of them seen, none of them markup, and no more than can be read."""

from collections.abc import Sequence

from interp.text import label

MOST = 45
"""Labels on an axis of a page."""


def token_axis(
    tokens: Sequence[str], positions: Sequence[int] | None = None, *, most: int = MOST
) -> dict:
    """Ticks of a plotly axis that stand for tokens.

    Args:
        tokens: as text or as shown (`tokens.display_token`); any text at all.
        positions: where they stand on the axis; 0, 1, 2 ... if None.
        most: of more tokens every other, third ... is named.
    """
    places = range(len(tokens)) if positions is None else list(positions)
    step = max(1, -(-len(tokens) // most))
    return {
        "tickmode": "array",
        "tickvals": list(places[::step]),
        "ticktext": [label(token) for token in tokens[::step]],
    }
