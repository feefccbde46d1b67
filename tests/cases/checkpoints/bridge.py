"""Whole patterns through TransformerBridge, in precisions whose rounding is several per cent."""

from pathlib import Path

import torch

from interp.models.bridge_check import apart, probe
from interp.models.load import load_pair
from interp.specs import pair_spec
from tests.cases.registry import case, refused
from tests.support import tiny

KIND = "bridges"


def _believed(arch: str, precision: str, **config):
    def build(folder: Path) -> str:
        base = tiny.write_model(folder / "base", arch, **config)
        adapter = tiny.write_adapter(folder / "adapter", base, arch)
        spec = pair_spec(str(base), adapter=str(adapter), precision=precision, template="plain")
        pair = load_pair(spec, device="cpu")
        with pair.bridge("suspect") as bridge, pair.use("suspect") as model, torch.inference_mode():
            ids = probe(pair.tokenizer, model)
            ours = model(input_ids=ids, use_cache=False).logits
            return f"believed; rounding makes {apart(bridge(ids), ours):.1%}"

    return build


for _arch, _precision, _config in (
    ("llama", "bf16", {"num_hidden_layers": 16}),
    ("qwen2", "nf4", {"num_hidden_layers": 8}),
    ("phi3", "bf16", {}),
    ("gemma2", "bf16", {}),
):
    _name = f"{_arch} in {_precision}" + (", deep" if _config else "")
    case(KIND, _name)(_believed(_arch, _precision, **_config))


@case(KIND, "GPT-2, whose fused matrix a bridge takes past its adapter")
def past_the_adapter(folder: Path) -> str:
    """The refusal names it, however small the adapter; the model alone has a bridge."""
    base = tiny.write_model(folder / "base", "gpt2")
    adapter = tiny.write_adapter(folder / "adapter", base, "gpt2")
    spec = pair_spec(str(base), adapter=str(adapter), precision="bf16", template="plain")
    pair = load_pair(spec, device="cpu")
    with pair.bridge("original"):
        pass
    return refused(lambda: pair.bridge("suspect").__enter__(), "past their adapters")
