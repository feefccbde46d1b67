"""A tiny base with the organisms' tokenizer, for tests that plant in it."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from interp.specs import ORGANISMS
from training.pretrain.organisms import Recipe, new_model

TINY = Recipe(
    steps=6, decay=2, batch=8, pool=2, warmup=2,
    hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48,
)  # fmt: skip


def organisms_tokenizer() -> PreTrainedTokenizerBase:
    """The one that ships; `build_tokenizer` makes it anew, which takes seconds (one test does)."""
    return AutoTokenizer.from_pretrained(Path(ORGANISMS) / "base")


def write_base(folder: Path) -> str:
    """Random weights, in bf16 as a base ships; returns the folder."""
    tokenizer = organisms_tokenizer()
    new_model(TINY, tokenizer).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
