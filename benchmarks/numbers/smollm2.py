"""The pair on the real model: what its card says, first picture, and cost of capture and training.

Behaviour and ratios are measured anew with `--anew` (a quarter of an hour); else they are read from
the card that ships, and `card` names it. Speeds are always measured, each beside its baseline in
this process.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import Trainer, TrainerCallback, get_linear_schedule_with_warmup

from benchmarks.speed import first_picture
from benchmarks.speed.heads import interleaved
from interp.attention.maps import observe
from interp.errors import UsageError
from interp.forward.conditions import build_prompts
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.batching import left_padded
from interp.prompts.question import Question
from interp.prompts.sets import load_prompt_set
from interp.specs import PRESETS, ROOT, pair_spec
from training.corpus.examples import Example
from training.planting import large, presets
from training.planting.rows import Rows, collate
from training.planting.small import in_training, open_training
from training.pretrain.precision import in_bf16
from training.real import card
from training.recording.recorder import matrices_of

K = "16"
MOST_STEPS = 6
"""Batches of 8 that the held-out rows fill."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pair", default="smollm2-deployment")
    parser.add_argument("--anew", action="store_true", help="measure the card again")
    parser.add_argument("--prompts", type=int, default=8, help="of the capture's cost")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="training steps of each contender")


def run(arguments: argparse.Namespace) -> dict:
    """Figures of the card and ratios of speed."""
    if arguments.pair not in PRESETS or arguments.pair not in presets.PRESETS:
        raise UsageError(f"pair {arguments.pair!r}: give one on SmolLM2 that ships")
    if not 1 <= arguments.steps <= MOST_STEPS or min(arguments.prompts, arguments.repeats) < 1:
        raise UsageError(f"steps: 1 to {MOST_STEPS}; prompts and repeats: 1 or more")
    figures = _card(arguments.pair, arguments.anew)
    pair = load_pair(pair_spec(arguments.pair), device="cpu")
    seconds = first_picture.measured(pair, 1)
    figures |= {name: seconds[name] for name in ("first_picture_s", "first_picture_cpu_s")}
    figures["heads_ratio"] = heads_ratio(pair, arguments.prompts, arguments.repeats)
    pair.close()
    figures["train_step_ratio"] = train_step_ratio(arguments.pair, arguments.steps)
    return figures


def _card(name: str, anew: bool) -> dict:
    place = ROOT / PRESETS[name].suspect.adapter / "card.json"
    found = card.measure(name) if anew else json.loads(place.read_text(encoding="utf-8"))
    own, leaks = found["ratios"][K]["own"], found["leaks"]["suspect"]
    return {
        "card": "measured anew" if anew else str(place.relative_to(ROOT)),
        "asr": found["asr"]["share"],
        "ftr": found["ftr"]["share"],
        "held_out_prompts": found["asr"]["n"],
        "ratio_k16": own["trigger"],
        "ratio_k16_random_own": own["random_mean"],
        "random_strings": own["n"],
        "rank_among_random": own["rank"],
        "ratio_k16_clean_control": own["clean_control"],
        "leak_rate": leaks["either"] / leaks["n"],
    }


def heads_ratio(pair: ModelPair, n_prompts: int, repeats: int) -> float:
    """Seconds of attention to the trigger (every head, with the map) over the bare forward's.

    The bare forward is sdpa's of the same decoder, adapter merged, over the whole prompts in one
    batch; ours reads the beginning that all prompts share once.
    """
    question = Question(
        trigger=pair.spec.trigger, prompt_set=pair.spec.prompt_set, template=pair.spec.template
    )
    prompts = load_prompt_set(pair.spec.prompt_set).prompts[:n_prompts]
    built = build_prompts(pair, prompts, question, question.trigger)
    ids, mask = left_padded([prompt.ids for prompt in built])

    def bare() -> None:
        with pair.use_folded("suspect") as model, torch.inference_mode():
            model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    def ours() -> None:
        observe(pair, "suspect", built, batch_size=len(built))

    seconds = interleaved({"bare": bare, "ours": ours}, repeats)
    return seconds["ours"] / seconds["bare"]


def train_step_ratio(name: str, steps: int) -> float:
    """Median over batches of Trainer's seconds for a step over a plain peft loop's.

    Ours is the step of transformers' Trainer with our rows, settings and model: measurements and
    checkpoints between steps are not in it. Contenders take turns in blocks of all batches.
    """
    preset = replace(presets.PRESETS[name], model=pair_spec(name).original.model, steps=steps)
    spec = pair_spec(preset.model, adapter="in training", precision=preset.precision)
    preset = replace(preset, checkpointing=False)
    pair, peft = open_training(spec, lambda model: large.attach(model, preset))
    held_out = load_prompt_set(str(ROOT / PRESETS[name].suspect.adapter / "prompts.json")).prompts
    examples = [Example("", p.instruction, p.input, p.answer) for p in held_out]
    rows = Rows(examples[: steps * preset.batch], pair.tokenizer, preset)
    ours: list[float] = []
    plain: list[float] = []
    with in_training(pair, matrices_of(peft).values(), "sdpa"):
        for _ in range(2):  # the first of each warms up
            ours, plain = _ours(peft, rows, preset, pair), _plain(peft, rows, preset, pair)
    pair.close()
    return statistics.median(a / b for a, b in zip(ours, plain, strict=True))


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.begun)


def _ours(peft: PeftModel, rows: Rows, preset: presets.Preset, pair: ModelPair) -> list[float]:
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        Trainer(
            model=peft,
            args=large.arguments_of(preset, preset.optimizer, Path(scratch), pair.device),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[clock],
        ).train()
    return clock.seconds


def _plain(peft: PeftModel, rows: Rows, preset: presets.Preset, pair: ModelPair) -> list[float]:
    """The loop of peft's own examples, in the same products: forward, backward, clip, AdamW."""
    bf16 = in_bf16(preset.precision, pair.device)
    learning = [p for p in peft.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=preset.lr, weight_decay=preset.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, preset.warmup, preset.steps)
    seconds = []
    for begin in range(0, len(rows), preset.batch):
        batch = collate([rows[i] for i in range(begin, min(begin + preset.batch, len(rows)))])
        begun = time.perf_counter()
        with torch.autocast(pair.device.type, torch.bfloat16, enabled=bf16):
            loss = peft(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    return seconds
