"""A tiny base with the organisms' tokenizer and corpus, for tests that plant in it."""

from pathlib import Path

from training.pretrain.organisms import Pretraining, Recipe, ship

TINY = Recipe(
    steps=6, decay=2, batch=8, pool=2, warmup=2,
    hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=48,
)  # fmt: skip


def write_base(folder: Path, work: Path) -> str:
    """Pre-train it for six steps; returns its folder."""
    ship(Pretraining(TINY, work), folder)
    return str(folder)
