"""How much a search may spend: tokens through the model, so that no result hangs on a machine."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

TOKENS, SMALL_TOKENS = 150_000, 600_000
"""Of one context's trigger inversion by default, and for a vocabulary up to `SMALL`: as in 30, and
in 120, passes over 50 prompts of 100 tokens. About what two minutes of two cores are enough for."""
SMALL = 4096
"""Tokens of a vocabulary that is searched in full, since no real model's is so small."""


@dataclass
class Budget:
    """What may be spent: tokens through the model, seconds, or both; whichever ends first."""

    tokens: float = math.inf
    seconds: float = math.inf
    each: float = 0.0
    """Seconds that a token takes, about; 0: what a piece of work takes is not asked before it."""
    now: Callable[[], float] = time.monotonic
    """The clock."""
    paid: int = 0
    """Tokens so far."""
    _begun: float | None = None

    def __post_init__(self):
        self._begun = self.now() if self._begun is None else self._begun

    @property
    def spent(self) -> float:
        """Share that is spent: 0 at the beginning, 1 or more at the end."""
        return max(self._shares())

    @property
    def by_clock(self) -> bool:
        """Whether the seconds are nearer to their end than the tokens."""
        tokens, seconds = self._shares()
        return seconds > tokens

    def pay(self, tokens: int) -> None:
        """Tokens went through the model; a backward pass counts like a pass of its own."""
        self.paid += tokens

    def holds(self, tokens: float) -> bool:
        """Whether the seconds hold so many tokens more; True where that is not asked."""
        return not self.each or self._taken() + self.each * tokens <= self.seconds

    @classmethod
    def of(cls, vocabulary: int) -> "Budget":
        """The default for a model with so many tokens."""
        return cls(SMALL_TOKENS if vocabulary <= SMALL else TOKENS)

    def part(self, of: int) -> "Budget":
        """One of so many equal parts of what is left; what it is paid must be paid here too."""
        seconds = (self.seconds - self._taken()) / of
        return Budget((self.tokens - self.paid) / of, seconds, self.each, self.now)

    def _taken(self) -> float:
        return self.now() - self._begun

    def _shares(self) -> tuple[float, float]:
        used = (self.paid, self.tokens), (self._taken(), self.seconds)
        tokens, seconds = (part / most if most > 0 else 1.0 for part, most in used)
        return tokens, seconds
