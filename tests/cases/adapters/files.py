"""Adapter files with more than LoRA matrices: the original must stay the named base."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from interp.models.load import load_pair
from interp.specs import ModelSpec, PairSpec
from tests.cases import plain
from tests.cases.adapters.settings import TIED, both_sides, spans, trained
from tests.cases.registry import case, equal, refused
from tests.support import tiny

KIND = "adapter files that reach for the base"
ROOT = "base_model.model."
State = dict[str, torch.Tensor]


def rewritten(adapter: Path, change: Callable[[State], None]) -> Path:
    """The adapter with its file changed."""
    file = adapter / "adapter_model.safetensors"
    state = load_file(file)
    change(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file, {"format": "pt"})
    return adapter


def smuggled(name: str, key: str, shape: tuple[int, ...], word: str = "", **lora) -> None:
    """Registers a case: a plain adapter with one more tensor in its file is refused."""

    @case(KIND, name)
    def build(folder: Path) -> str:
        base = tiny.write_model(folder / "base", **lora.get("base", {}))
        adapter = tiny.write_adapter(folder / "adapter", base)
        rewritten(adapter, lambda state: state.update({ROOT + key: torch.randn(shape)}))
        return refused(lambda: plain.pair(base, adapter), word or key)


smuggled("the embedding", "model.embed_tokens.weight", (320, 64))
smuggled("the head", "lm_head.weight", (320, 64))
smuggled("the head that the embedding is tied to", "lm_head.weight", (320, 64), base=TIED)
smuggled("the last norm", "model.norm.weight", (64,))
smuggled("a matrix under an adapter", "model.layers.1.self_attn.q_proj.base_layer.weight", (64, 64))
smuggled("a matrix beside the adapted ones", "model.layers.1.mlp.up_proj.weight", (128, 64))
smuggled("a bias that nobody has", "model.layers.0.self_attn.q_proj.base_layer.bias", (64,))
smuggled("the rotary frequencies", "model.rotary_emb.inv_freq", (8,))
smuggled(
    "the other side's adapter",
    "model.layers.0.self_attn.q_proj.lora_A.original.weight",
    (4, 64),
    "there is no place",
)
smuggled(
    "the embedding of a base with more tokens",
    "model.embed_tokens.weight",
    (322, 64),
    "resized to 322",
)
smuggled(
    "states of a quantised matrix",
    "model.layers.0.self_attn.q_proj.base_layer.weight.quant_map",
    (16,),
    "there is no place",
)


@case(KIND, "the base's own embedding, saved along unchanged")
def unchanged(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    adapter = trained(folder / "adapter", base, target_modules=["embed_tokens", "q_proj"])
    keys = load_file(adapter / "adapter_model.safetensors")
    assert any(key.endswith("embed_tokens.base_layer.weight") for key in keys)
    return both_sides(base, adapter)


@case(KIND, "an embedding saved along that was changed")
def changed(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    adapter = trained(folder / "adapter", base, target_modules=["embed_tokens", "q_proj"])

    def change(state: State) -> None:
        state[ROOT + "model.embed_tokens.base_layer.weight"] += 0.1

    return refused(
        lambda: plain.pair(base, rewritten(adapter, change)), "embed_tokens.base_layer.weight"
    )


@case(KIND, "a declared head of its own (modules_to_save) leaves the original's alone")
def declared(folder: Path) -> str:
    base = tiny.write_model(folder / "base", **TIED)
    return both_sides(base, trained(folder / "adapter", base, modules_to_save=["lm_head"]))


@case(KIND, "two adapters on one base, each with other modules of its own")
def two(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    settings = {
        "original": {"modules_to_save": ["lm_head"]},
        "suspect": {"trainable_token_indices": [17, 61], "target_modules": ["k_proj"]},
    }
    adapters = {side: trained(folder / side, base, **lora) for side, lora in settings.items()}
    specs = {side: ModelSpec(str(base), adapter=str(path)) for side, path in adapters.items()}
    pair = load_pair(PairSpec("two", **specs, trigger=None, target=None), device="cpu")
    lines = []
    for side in ("original", "suspect", "original"):
        with pair.use(side) as model:
            ours = plain.logits(model)
        lines.append(equal(ours, plain.logits(plain.model(base, adapters[side]))))
    return lines[1]


@case(KIND, "PiSSA takes a part out of the suspect's base and not out of the original's")
def residual(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    pair = plain.pair(base, trained(folder / "adapter", base, init_lora_weights="pissa"))
    assert pair.adapter_mode == "two checkpoints"
    with pair.use("suspect"), pair.use("original") as model:
        assert torch.equal(plain.logits(model), plain.logits(spans(base)))
    return equal(torch.ones(1), torch.ones(1))
