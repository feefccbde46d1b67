"""What is to be drawn of a study: the controls of a page and the options of its command, as one.

Plain values. What they name is checked against the model here, so page and command line refuse
the same things in the same words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from interp.errors import UsageError
from interp.metrics import (
    ATTENTION_METRICS,
    CONDITIONS,
    Head,
    format_heads,
    format_layers,
    parse_heads,
    parse_layers,
)


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
        options: dict[str, str | bool] = {"--layers": format_layers(self.layers)}
        if self.heads:
            options["--heads"] = format_heads(self.heads)
        if self.conditions != CONDITIONS:
            options["--conditions"] = ",".join(self.conditions)
        switches = {"--sink": self.sink, "--response": self.response, "--pool": self.pool}
        return options | {name: True for name, on in switches.items() if on}


@dataclass(frozen=True)
class HeadView:
    """The matrix of one number a head, and the maps of one head."""

    kind: ClassVar[str] = "heads"

    metric: str = "delta_rel"
    """One of `ATTENTION_METRICS`."""
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
        options |= {} if self.head is None else {"--head": format_heads([self.head])}
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
        conditions: some of `CONDITIONS`.
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
        metric: one of `ATTENTION_METRICS`.
        head: `L4H5`, or empty for the one of largest Δ_rel.
        whole: see `HeadView`; likewise `answer`.
        answer: see `whole`.

    Raises:
        UsageError: a metric, head or prompt that is not there.
    """
    if metric not in ATTENTION_METRICS:
        raise UsageError(
            f"metric '{metric}' is not known: choose one of {', '.join(ATTENTION_METRICS)}"
        )
    chosen = parse_heads(head, n_layers, n_heads)
    if len(chosen) > 1:
        raise UsageError(f"'{head}' names {len(chosen)} heads: give one")
    if whole is not None and not 0 <= whole < (n_prompts or 0):
        raise UsageError(f"prompt {whole} is outside the set: it has 0 to {(n_prompts or 0) - 1}")
    return HeadView(metric, chosen[0] if chosen else None, whole, answer)
