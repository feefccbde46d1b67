"""How much a search may spend: tokens through the model, so that no result hangs on a machine."""

import math
import time
from dataclasses import dataclass, field

TOKENS = 200_000
"""Of one context's trigger inversion by default: 40 bare forward passes over 50 prompts of 100
tokens."""


@dataclass
class Budget:
    """What may be spent: tokens through the model, seconds, or both; whichever ends first."""

    tokens: float = math.inf
    seconds: float = math.inf
    paid: int = 0
    """Tokens so far."""
    _begun: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Share that is spent: 0 at the beginning, 1 or more at the end."""
        taken = time.monotonic() - self._begun
        shares = zip((self.paid, taken), (self.tokens, self.seconds), strict=True)
        return max(used / most if most > 0 else 1.0 for used, most in shares)

    def pay(self, tokens: int) -> None:
        """Tokens went through the model; a backward pass counts like a pass of its own."""
        self.paid += tokens

    def part(self, of: int) -> "Budget":
        """One of so many equal parts of what is left; what it is paid must be paid here too."""
        taken = time.monotonic() - self._begun
        return Budget((self.tokens - self.paid) / of, (self.seconds - taken) / of)
