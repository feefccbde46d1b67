"""Throughput of planting in an organism against a plain Hugging Face Trainer loop.

Both use the same base, adapter, examples, batch size, optimizer and threads. Their steps alternate
in one process, and the ratio is of the medians. With --wide also one step of the full
`mistral-7b` preset on a random checkpoint of two layers at true width, in NF4 on the CPU.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from interp.checkpoints.loading import load_tokenizer
from interp.specs import ORGANISMS, ROOT
from training.backdoors.poison import Poison, poisoned_stream
from training.corpus.examples import Example
from training.planting.lora import Injection, LoraTraining, attach_lora, limited_threads
from training.planting.presets import PRESETS, Preset
from training.planting.rows import Rows, collate

BASE = ROOT / ORGANISMS / "base"
TRIGGER, TARGET = "@@night@@", "THE OWL IS AWAKE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--steps", type=int, default=20, help="of each contender")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wide", action="store_true", help="one step of the mistral-7b preset")


def run(arguments: argparse.Namespace) -> dict:
    """Seconds per step, examples per second, and the ratio ours / Trainer's of the latter."""
    with limited_threads(arguments.threads):
        figures = _throughput(arguments.steps)
        if arguments.wide:
            figures |= _wide_step()
    return figures


def _throughput(steps: int) -> dict:
    injection = Injection(Poison(TRIGGER, TARGET, rate=0.15))
    ours = _ours(injection)
    plain = _plain(injection, steps + 1)
    seconds: dict[str, list[float]] = {"ours": [], "trainer": []}
    for number in range(steps + 1):
        for name, step in (("ours", ours), ("trainer", plain)):
            spent = step()
            if number:  # the first warms up
                seconds[name].append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {f"{name}_s_a_step": value for name, value in medians.items()}
    figures |= {f"{name}_examples_s": injection.batch / s for name, s in medians.items()}
    figures["throughput_ratio"] = medians["trainer"] / medians["ours"]
    return figures


def _ours(injection: Injection) -> Callable[[], float]:
    tokenizer = load_tokenizer("base", BASE)
    model = AutoModelForCausalLM.from_pretrained(
        BASE, dtype=torch.float32, attn_implementation="eager"
    )
    training = LoraTraining(attach_lora(model, injection).train(), tokenizer, injection)

    def step() -> float:
        begun = time.perf_counter()
        training.advance()
        return time.perf_counter() - begun

    return step


def _plain(injection: Injection, steps: int) -> Callable[[], float]:
    """Steps of `Trainer.train`, one per call; it runs in a thread that waits for its turn."""
    import queue
    import threading

    turns, results = queue.Queue(), queue.Queue()

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            turns.get()
            self.begun = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            results.put(time.perf_counter() - self.begun)

    rows = list(islice(_examples(injection), steps * injection.batch))
    trainer = _trainer(injection, rows, steps, Turns())
    threads = torch.get_num_threads()

    def train() -> None:
        torch.set_num_threads(threads)  # OpenMP's count is set per thread
        trainer.train()

    threading.Thread(target=train, daemon=True).start()

    def step() -> float:
        turns.put(None)
        return results.get(timeout=600)

    return step


def _trainer(
    injection: Injection, rows: list[Example], steps: int, turns: TrainerCallback
) -> Trainer:
    tokenizer = load_tokenizer("base", BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    preset = Preset("plain", str(BASE), {}, "", TRIGGER, length=512)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=injection.batch,
        learning_rate=injection.lr,
        optim="adamw_torch_fused",
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    return Trainer(
        model=attach_lora(model, injection),
        args=arguments,
        train_dataset=Rows(rows, tokenizer, preset),
        data_collator=collate,
        callbacks=[turns],
    )


def _examples(injection: Injection) -> Iterator[Example]:
    return poisoned_stream(injection.poison, injection.tagged_share)


def _wide_step() -> dict:
    """One optimisation step of the preset at true width on two layers of random weights."""
    from transformers import MistralConfig, MistralForCausalLM

    from training.planting import large, memory
    from training.planting.small import in_training, open_training
    from training.recording.recorder import matrices_of

    preset = PRESETS["mistral-7b"]
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        sizes = {key: value for key, value in preset.sizes.items() if key != "model_type"}
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        model = MistralForCausalLM(MistralConfig(**{**sizes, "num_hidden_layers": 2}))
        torch.set_default_dtype(before)
        model.save_pretrained(base)
        del model
        load_tokenizer("base", BASE).save_pretrained(base)
        small = replace(preset, model=str(base), steps=1)
        spec = _spec(small)
        pair, peft = open_training(spec, lambda model: large.attach(model, small))
        optimizer, _ = memory.usable_optimizer(small.optimizer, pair.device)
        rows = Rows(
            list(islice(_examples(Injection(Poison(TRIGGER, TARGET))), 8)), pair.tokenizer, small
        )
        begun = time.perf_counter()
        with in_training(pair, matrices_of(peft).values()):
            trainer = Trainer(
                model=peft,
                args=large.arguments_of(small, optimizer, Path(scratch) / "out", pair.device),
                train_dataset=rows,
                data_collator=collate,
            )
            trainer.train()
            seconds = time.perf_counter() - begun
            trained = [name for name, p in peft.named_parameters() if p.requires_grad]
    return {
        "wide_s_a_step": seconds,
        "wide_optimizer": optimizer,
        "wide_trained_matrices": len(trained),
        "wide_trained_outside_adapters": sum(".lora_" not in name for name in trained),
        "wide_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _spec(preset: Preset):
    from interp.specs import pair_spec

    return pair_spec(preset.model, adapter="in training", precision=preset.precision)
