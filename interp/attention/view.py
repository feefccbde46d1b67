"""What to draw of a study: one class for the controls of a page and the options of its command.

Plain values. They are checked against the model here, so page and command line reject the same
input with the same message.
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
    """Which averaged maps to draw: layers or heads, conditions, parts of the prompt."""

    kind: ClassVar[str] = "attention"

    layers: tuple[int, ...]
    """Layers to average over, with all their heads, unless `heads` is given."""
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
        """The parts of the prompt on the axes."""
        shown = {"sink": self.sink, "trigger": True, "instruction": True, "response": self.response}
        return tuple(part for part, on in shown.items() if on)

    @property
    def options(self) -> dict[str, str | bool]:
        """The options of `python -m interp attention`, without those at their default."""
        options: dict[str, str | bool] = {"--layers": format_layers(self.layers)}
        if self.heads:
            options["--heads"] = format_heads(self.heads)
        if self.conditions != CONDITIONS:
            options["--conditions"] = ",".join(self.conditions)
        switches = {"--sink": self.sink, "--response": self.response, "--pool": self.pool}
        return options | {name: True for name, on in switches.items() if on}


@dataclass(frozen=True)
class HeadView:
    """Which matrix of one number per head to draw, and the maps of which head."""

    kind: ClassVar[str] = "heads"

    metric: str = "delta_rel"
    """One of `ATTENTION_METRICS`."""
    head: Head | None = None
    """The head whose maps to draw; None: the one with the largest Δ_rel."""
    whole: int | None = None
    """Number of one prompt to show token by token, instead of the average."""
    answer: str | None = None
    """Text appended to that prompt as its response."""

    @property
    def options(self) -> dict[str, str | bool]:
        """The options of `python -m interp heads`, without those at their default."""
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
    """A view of averaged maps from the user's input.

    Args:
        n_layers: number of layers of the model.
        n_heads: number of heads per layer.
        layers: `2-3` or `1,4`; the middle layers if empty.
        heads: `L4H5, L3H6`; all heads of the layers if empty.
        conditions: some of `CONDITIONS`.
        sink: field of `MapView`.
        response: field of `MapView`.
        pool: field of `MapView`.

    Raises:
        UsageError: layers, heads or conditions that do not exist.
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
    """A view of the heads from the user's input.

    Args:
        n_layers: number of layers of the model.
        n_heads: number of heads per layer.
        n_prompts: number of prompts in the set, the upper limit of `whole`.
        metric: one of `ATTENTION_METRICS`.
        head: `L4H5`, or empty for the head with the largest Δ_rel.
        whole: field of `HeadView`.
        answer: field of `HeadView`.

    Raises:
        UsageError: a metric, head or prompt that does not exist.
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
