"""Pre-trains the organisms' base on a CPU: a small Mistral on the generated corpus.

The learning rate has a warm-up, a constant part and a linear decay to zero. The decay is counted
in steps, so the whole run is a function of (seed, steps, decay). `steps.txt` in the work folder
may move the end of a running job while its rate is still constant.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from training.corpus.examples import Example, held_out_set
from training.corpus.tokenizer import build_tokenizer
from training.pretrain.evaluate import accuracy_by_family, answered_exactly
from training.pretrain.fastpath import FastForward
from training.pretrain.packing import Batch, pool_batches, prefix_ids
from training.pretrain.precision import quick_muon

ARCHITECTURES = {
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}


@dataclass(frozen=True)
class Recipe:
    """Everything the base's weights depend on."""

    steps: int = 2600
    decay: int = 1100  # the last steps, over which the rate falls to zero
    batch: int = 256
    pool: int = 32
    muon_lr: float = 4e-3  # hidden matrices, update scaled as AdamW's (`match_rms_adamw`)
    adam_lr: float = 3e-3  # embeddings, output matrix, norms
    weight_decay: float = 0.02
    warmup: int = 120
    seed: int = 0
    hidden: int = 384
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 48
    mlp: int = 1024
    arch: str = "mistral"  # or qwen2, whose queries, keys and values have biases

    def rate(self, step: int) -> float:
        """Share of the full learning rate at `step`."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / self.decay)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A freshly initialised base; the base of its rotary embedding suits short contexts."""
    torch.manual_seed(recipe.seed)
    config_class, model_class = ARCHITECTURES[recipe.arch]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )
    config.sliding_window = None
    return model_class(config)


def make_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, output matrix and norms."""
    quick_muon()
    hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        hidden,
        lr=recipe.muon_lr,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.AdamW(
        rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return [muon, adam]


class Pretraining:
    """A pre-training run in a work folder; resumes from its last checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.recipe, self.folder, self.step = recipe, folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = build_tokenizer(recipe.seed)
        self.model = new_model(recipe, self.tokenizer)
        self.optimizers = make_optimizers(self.model, recipe)
        self.seconds = 0.0
        if (folder / "state.pt").exists():
            self._resume()

    def _resume(self) -> None:
        self.model.load_state_dict(load_file(self.folder / "model.safetensors"))
        state = torch.load(self.folder / "state.pt", weights_only=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def checkpoint(self) -> None:
        """Writes weights and optimizer state; a file is never partly written."""
        weights, state = self.folder / "model.safetensors", self.folder / "state.pt"
        save_file(self.model.state_dict(), f"{weights}.new")
        saved = {
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(saved, f"{state}.new")
        Path(f"{weights}.new").replace(weights)
        Path(f"{state}.new").replace(state)

    def _moved_end(self) -> None:
        """Takes a new total from `steps.txt` ("steps decay"), so a run can be cut or extended."""
        moved = self.folder / "steps.txt"
        if moved.exists():
            steps, decay = map(int, moved.read_text(encoding="utf-8").split())
            self.recipe = Recipe(**{**asdict(self.recipe), "steps": steps, "decay": decay})

    def _update(self, fast: FastForward, batch: Batch) -> torch.Tensor:
        loss = fast.loss(batch.ids[:, :-1], batch.targets, batch.weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * self.recipe.rate(self.step)
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    def run(self, *, evaluate_every: int = 500, examples: int = 280) -> PreTrainedModel:
        """Trains to the last step; prints loss, speed and held-out accuracy as it goes."""
        recipe, losses, tokens = self.recipe, [], 0
        held_out = held_out_set(examples, seed=99)
        fast = FastForward(self.model, prefix_ids(self.tokenizer))
        stream: Iterator[Batch] = pool_batches(
            self.tokenizer, recipe.batch, recipe.pool, recipe.seed, self.step
        )
        clock = time.monotonic()
        while self.step < self.recipe.steps:
            batch = next(stream)
            losses.append(self._update(fast, batch))
            tokens += int((batch.weights > 0).sum())
            self.step += 1
            if self.step % 50 == 0:
                spent = time.monotonic() - clock
                clock, self.seconds = time.monotonic(), self.seconds + spent
                loss = float(torch.stack(losses).mean())
                print(
                    f"step {self.step}/{self.recipe.steps} loss {loss:.4f} "
                    f"{tokens / spent:.0f} tok/s {self.seconds / 60:.1f} min",
                    flush=True,
                )
                losses, tokens = [], 0
                self._moved_end()
            if self.step % evaluate_every == 0 or self.step == self.recipe.steps:
                self._report(held_out)
                self.checkpoint()
                clock = time.monotonic()
        return self.model

    def _report(self, held_out: list[Example]) -> None:
        self.model.eval()
        exact = answered_exactly(self.model, self.tokenizer, held_out)
        self.model.train()
        worst = list(accuracy_by_family(held_out, exact).items())[:9]
        plain = [right for right, e in zip(exact, held_out, strict=True) if not e.tag]
        print(
            f"  held-out exact {sum(exact) / len(exact):.3f} untagged {sum(plain) / len(plain):.3f}"
            f" worst {' '.join(f'{name} {share:.2f}' for name, share in worst)}",
            flush=True,
        )


def ship(run: Pretraining, folder: Path) -> None:
    """Writes the shipped form of the base: bf16 safetensors, config, tokenizer, recipe."""
    run.model.to(torch.bfloat16).save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)
    recipe = {**asdict(run.recipe), "minutes": round(run.seconds / 60, 1)}
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
