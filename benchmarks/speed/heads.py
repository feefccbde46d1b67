"""L_attn of every head against the bare forward, eager attentions and the bridge's full cache.

A random Mistral-architecture model of width >= 512 in fp32; all times are medians of interleaved
repetitions in one process, all ratios are against the bare sdpa forward of the same decoder.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, MistralConfig, PreTrainedModel

from interp.checkpoints.loading import load_tokenizer
from interp.hooks.capture import Region, read_regions
from interp.metrics import ATTENTION
from interp.models.weights import share_parameters
from interp.specs import ORGANISMS, ROOT

ORGANISM = ROOT / ORGANISMS / "base"
TRIGGER, INSTRUCTION = range(40, 47), range(47, 73)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--width", type=int, default=1024, help="hidden size")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)


def run(arguments: argparse.Namespace) -> dict:
    """Time, exactness and memory at 80 and 512 tokens."""
    figures: dict[str, float] = {}
    model = _model(arguments.width, arguments.layers, ATTENTION)
    eager = _sharing(model, "eager")
    for length, batch in ((80, 16), (512, 2)):
        ids = torch.randint(0, 1000, (batch, length), generator=torch.Generator().manual_seed(0))
        seconds = interleaved(
            {
                "bare": lambda ids=ids: _bare(model, ids),
                "ours": lambda ids=ids, n=length: _ours(model, ids, n),
                "eager": lambda ids=ids: _bare(eager, ids, output_attentions=True),
            },
            arguments.repeats,
        )
        figures[f"bare_ms_{length}"] = 1000 * seconds["bare"]
        figures[f"ratio_{length}"] = seconds["ours"] / seconds["bare"]
        figures[f"eager_ratio_{length}"] = seconds["eager"] / seconds["bare"]
        figures[f"max_abs_diff_{length}"] = _difference(model, eager, ids, length)
    figures["max_abs_diff"] = max(figures[f"max_abs_diff_{n}"] for n in (80, 512))
    for length, ratio in _bridge_ratios(model, arguments.repeats).items():
        figures[f"bridge_ratio_{length}"] = ratio
    for layers in (arguments.layers // 2, arguments.layers):
        figures[f"extra_memory_mb_{layers}_layers"] = _extra_memory(arguments.width, layers)
    figures["extra_memory_mb"] = figures[f"extra_memory_mb_{arguments.layers}_layers"]
    return figures


def _model(width: int, layers: int, attention: str) -> PreTrainedModel:
    config = MistralConfig(
        vocab_size=1000,
        hidden_size=width,
        intermediate_size=int(width * 3.5),
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 256,
        head_dim=64,
        sliding_window=None,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def _sharing(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """A second module tree over the same parameters, with another attention implementation."""
    twin = share_parameters(model)
    twin.set_attn_implementation(attention)
    return twin


def _bare(model: PreTrainedModel, ids: torch.Tensor, **options):
    with torch.inference_mode():
        return model.base_model(input_ids=ids, use_cache=False, **options)


def _ours(model: PreTrainedModel, ids: torch.Tensor, length: int) -> torch.Tensor:
    trigger, instruction = _spans(length)
    shape = (ids.shape[0], -1)
    region = Region(
        torch.tensor(list(instruction))[None].expand(shape),
        torch.tensor(list(trigger))[None].expand(shape),
    )
    return read_regions(model, ids, None, {"l_attn": region})["l_attn"]


def _spans(length: int) -> tuple[range, range]:
    """At 512 tokens the instruction is the long part: all that follows the trigger."""
    return TRIGGER, INSTRUCTION if length == 80 else range(47, length - 8)


def _difference(
    model: PreTrainedModel, eager: PreTrainedModel, ids: torch.Tensor, length: int
) -> float:
    """Largest difference of L_attn to the same mean over eager's whole patterns."""
    trigger, instruction = _spans(length)
    whole = _bare(eager, ids, output_attentions=True).attentions
    expected = torch.stack(
        [a[:, :, instruction.start : instruction.stop, trigger.start : trigger.stop] for a in whole]
    ).mean((-1, -2))
    return float((_ours(model, ids, length) - expected).abs().max())


def _bridge_ratios(model: PreTrainedModel, repeats: int) -> dict[int, float]:
    """`run_with_cache` of everything, on a twin tree, against the bare forward."""
    from transformer_lens.model_bridge import TransformerBridge

    # Any tokenizer does: the bridge wants one, the ids are random.
    tokenizer = load_tokenizer("base", ORGANISM)
    bridge = TransformerBridge.boot_transformers(
        str(ORGANISM), hf_model=_sharing(model, "eager"), tokenizer=tokenizer, device="cpu"
    )
    ratios = {}
    for length, batch in ((80, 16), (512, 2)):
        ids = torch.randint(0, 1000, (batch, length), generator=torch.Generator().manual_seed(0))

        def full_cache(ids=ids) -> None:
            with torch.inference_mode():
                bridge.run_with_cache(ids)

        seconds = interleaved(
            {"bare": lambda ids=ids: _bare(model, ids), "bridge": full_cache}, max(3, repeats // 3)
        )
        ratios[length] = seconds["bridge"] / seconds["bare"]
    return ratios


def _extra_memory(width: int, layers: int) -> float:
    """MB that reading L_attn keeps beyond the bare forward: tensors alive at the worst moment."""
    model = _model(width, layers, ATTENTION)
    ids = torch.randint(0, 1000, (2, 512), generator=torch.Generator().manual_seed(0))
    bare = _peak(lambda: _bare(model, ids))
    ours = _peak(lambda: _ours(model, ids, 512))
    return max(0.0, ours - bare)


def _peak(action: Callable[[], object]) -> float:
    """Largest sum of live CPU allocations in MB during the action, from torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    live = peak = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / 2**20


def interleaved(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each action, taken in turns so that a busy machine affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if repeat:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
