"""What is to be drawn of a study: the controls of a page and the options of its command, as one.

Plain values. What they name is checked against the model here, so page and command line refuse
the same things in the same words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from interp.attention.maps import check_layers, middle_layers
from interp.attention.study import CONDITIONS
from interp.errors import UsageError

Head = tuple[int, int]
"""(layer, head), 0-based."""
_HEAD = re.compile(r"^\s*L(\d+)H(\d+)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Metric:
    """A number a head, to draw as a layer by head matrix."""

    label: str
    difference: bool
    """Drawn in diverging colours centred on zero."""


METRICS = {
    "delta_rel": Metric("Δ_rel", True),
    "difference": Metric("L_attn original − suspect", True),
    "l_original": Metric("L_attn original", False),
    "l_suspect": Metric("L_attn suspect", False),
    "delta_rel_random_string": Metric("Δ_rel, random string", True),
}
"""Column of `report.head_table` -> what it is."""


@dataclass(frozen=True)
class MapView:
    """Averaged maps: over which layers or heads, under which conditions, with which parts."""

    kind: ClassVar[str] = "attention"

    layers: tuple[int, ...]
    """Averaged over, with all their heads, unless `heads` names some."""
    heads: tuple[Head, ...] = ()
    conditions: tuple[str, ...] = CONDITIONS
    sink: bool = False
    """Show the first token."""
    response: bool = False
    """Show the response marker."""
    pool: bool = False
    """Mean-pool for display."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Of the prompt, on the axes."""
        shown = {"sink": self.sink, "trigger": True, "instruction": True, "response": self.response}
        return tuple(part for part, on in shown.items() if on)

    @property
    def options(self) -> dict[str, str | bool]:
        """As options of `python -m interp attention`; what is the default is left out."""
        options: dict[str, str | bool] = {"--layers": told_layers(self.layers)}
        if self.heads:
            options["--heads"] = told_heads(self.heads)
        if self.conditions != CONDITIONS:
            options["--conditions"] = ",".join(self.conditions)
        switches = {"--sink": self.sink, "--response": self.response, "--pool": self.pool}
        return options | {name: True for name, on in switches.items() if on}


@dataclass(frozen=True)
class HeadView:
    """The matrix of one number a head, and the maps of one head."""

    kind: ClassVar[str] = "heads"

    metric: str = "delta_rel"
    """One of `METRICS`."""
    head: Head | None = None
    """Whose maps to draw; None is the one of largest Δ_rel."""
    whole: int | None = None
    """Its patterns on one prompt of the set, every token, instead of the average."""
    answer: str | None = None
    """Stands behind that prompt as its response."""

    @property
    def options(self) -> dict[str, str | bool]:
        """As options of `python -m interp heads`; what is the default is left out."""
        options = {} if self.metric == "delta_rel" else {"--metric": self.metric}
        options |= {} if self.head is None else {"--head": told_heads([self.head])}
        options |= {} if self.whole is None else {"--whole": str(self.whole)}
        return options | ({} if self.answer is None else {"--answer": self.answer})


View = MapView | HeadView


def map_view(
    n_layers: int,
    n_heads: int,
    *,
    layers: str = "",
    heads: str = "",
    conditions: Sequence[str] = CONDITIONS,
    sink: bool = False,
    response: bool = False,
    pool: bool = False,
) -> MapView:
    """A view of averaged maps from what a user typed.

    Args:
        n_layers: of the model; likewise `n_heads`.
        n_heads: see `n_layers`.
        layers: `2-3` or `1,4`; the middle ones if empty.
        heads: `L4H5, L3H6`; all of the layers if empty.
        conditions: some of `study.CONDITIONS`.
        sink: see `MapView`; likewise `response` and `pool`.
        response: see `sink`.
        pool: see `sink`.

    Raises:
        UsageError: layers, heads or conditions that are not there.
    """
    unknown = [condition for condition in conditions if condition not in CONDITIONS]
    if unknown or not conditions:
        what = f"condition '{unknown[0]}' is not known" if unknown else "no condition is chosen"
        raise UsageError(f"{what}: choose some of {', '.join(CONDITIONS)}")
    return MapView(
        parse_layers(layers, n_layers),
        tuple(parse_heads(heads, n_layers, n_heads)),
        tuple(condition for condition in CONDITIONS if condition in conditions),
        sink,
        response,
        pool,
    )


def head_view(
    n_layers: int,
    n_heads: int,
    n_prompts: int | None = None,
    *,
    metric: str = "delta_rel",
    head: str = "",
    whole: int | None = None,
    answer: str | None = None,
) -> HeadView:
    """A view of the heads from what a user typed.

    Args:
        n_layers: of the model; likewise `n_heads`.
        n_heads: see `n_layers`.
        n_prompts: of the prompt set that `whole` counts in.
        metric: one of `METRICS`.
        head: `L4H5`, or empty for the one of largest Δ_rel.
        whole: see `HeadView`; likewise `answer`.
        answer: see `whole`.

    Raises:
        UsageError: a metric, head or prompt that is not there.
    """
    if metric not in METRICS:
        raise UsageError(f"metric '{metric}' is not known: choose one of {', '.join(METRICS)}")
    chosen = parse_heads(head, n_layers, n_heads)
    if len(chosen) > 1:
        raise UsageError(f"'{head}' names {len(chosen)} heads: give one")
    if whole is not None and not 0 <= whole < (n_prompts or 0):
        raise UsageError(f"prompt {whole} is outside the set: it has 0 to {(n_prompts or 0) - 1}")
    return HeadView(metric, chosen[0] if chosen else None, whole, answer)


def parse_layers(text: str, n_layers: int) -> tuple[int, ...]:
    """`2-3` or `1,4` -> layers; the middle ones if empty.

    Raises:
        UsageError: no range, or one outside the model.
    """
    if not text.strip():
        return tuple(middle_layers(n_layers))
    chosen: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        try:
            start, stop = int(first), int(last or first)
        except ValueError:
            raise UsageError(f"layers '{text}' is no range: write 2-3 or 1,4") from None
        check_layers([start, stop], n_layers)  # before a range of a billion is counted out
        chosen += range(start, stop + 1)
    return check_layers(chosen, n_layers)


def parse_heads(text: str, n_layers: int, n_heads: int) -> list[Head]:
    """`L4H5, L3H6` -> [(4, 5), (3, 6)].

    Raises:
        UsageError: something that is no head, a head the model lacks, or one given twice.
    """
    chosen: list[Head] = []
    for piece in filter(str.strip, text.split(",")):
        match = _HEAD.match(piece)
        if not match:
            raise UsageError(f"'{piece.strip()}' is no head: write layer and head as L4H5")
        layer, head = int(match[1]), int(match[2])
        if layer >= n_layers or head >= n_heads:
            raise UsageError(
                f"L{layer}H{head} is not in the model: it has layers 0 to {n_layers - 1} "
                f"and heads 0 to {n_heads - 1}"
            )
        if (layer, head) in chosen:
            raise UsageError(f"L{layer}H{head} is given twice")
        chosen.append((layer, head))
    return chosen


def head_name(layer: int, head: int) -> str:
    """(4, 5) -> L4H5."""
    return f"L{layer}H{head}"


def told_heads(heads: Sequence[Head]) -> str:
    """[(4, 5), (3, 6)] -> `L4H5,L3H6`."""
    return ",".join(head_name(*head) for head in heads)


def told_layers(layers: Sequence[int]) -> str:
    """Layers as `parse_layers` reads them: `2-5`, or `1,4` where some between are left out."""
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"
    return ",".join(map(str, layers))
