"""Models whose positions depend on the length of a text, or on its context."""

from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig

from interp.attention.maps import observe
from interp.forward.activation import decide_by_generate, decisions
from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.prompts.spans import build_prompt
from interp.scanner.leak.decoding import Prefix
from tests.cases import plain
from tests.cases.registry import case, equal, refused
from tests.support.tiny import SIZES, write_config, write_model

KIND = "positions that depend on length or batch"
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [1.0 + 3 * i for i in range(8)]}
SWITCH = 40
LONGROPE = {
    "original_max_position_embeddings": SWITCH,
    "rope_scaling": {"rope_type": "longrope", **FACTORS},
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
SHORT, LONG = tuple(range(5, 20)), tuple(range(5, 65))


def config(name: str, **settings) -> PreTrainedConfig:
    """A tiny config of any architecture."""
    return CONFIG_MAPPING[name](**SIZES | settings)


def said(folder: Path, ids: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Output of plain `generate`, up to an end-of-text."""
    row = torch.tensor([ids])
    model = plain.model(folder)
    out = model.generate(
        row, attention_mask=torch.ones_like(row), max_new_tokens=n, do_sample=False, num_beams=1
    )
    answer = out[0, len(ids) :].tolist()
    return tuple(answer[: answer.index(1)] if 1 in answer else answer)


def short_alike(folder: Path, pair: ModelPair) -> str:
    """Below the switch: rows of several lengths in one batch, after one prefix, and generate."""
    rows = [SHORT[:n] for n in (6, 9, 15)]
    ours = greedy_answers(pair, "suspect", rows, max_new_tokens=12)
    wanted = [said(folder, row, 12) for row in rows]
    assert ours == wanted, (ours, wanted)
    for row, answer in zip(rows, wanted, strict=True):
        fired = decisions(pair, "suspect", rows, list(answer[:3])).fired.tolist()
        assert fired[rows.index(row)], "the prefix says something else"
    prompts = [
        build_prompt(pair.tokenizer, text, template="plain", trigger="ab")
        for text in ("It is Rome.", "Go")
    ]
    assert max(len(prompt.ids) for prompt in prompts) < SWITCH
    table = observe(pair, "suspect", prompts, with_map=False)[0]
    ordered = table.sort_values(["prompt", "layer", "head"])["l_attn"].to_numpy()
    reference = plain.l_attn(plain.model(folder), prompts)
    return equal(torch.tensor(ordered).view(reference.shape), reference)


def long_refused(pair: ModelPair, word: str = "computes every position anew") -> str:
    """Beyond it: a long row in a batch of short ones, a shared prefix, a cache that crosses it."""
    refused(lambda: greedy_answers(pair, "suspect", [SHORT, LONG], max_new_tokens=2), word)
    refused(lambda: greedy_answers(pair, "suspect", [SHORT], max_new_tokens=60), word)
    refused(lambda: decisions(pair, "suspect", [LONG, (*LONG[:30], 7)], [5, 6]), word)
    with pair.use("suspect") as model:
        return refused(lambda: decide_by_generate(model, pair.device, SHORT, [5] * 60), word)


@case(KIND, "longrope (Phi-3): prompts and answers below the switch")
def longrope_below(folder: Path) -> str:
    write_model(folder, "phi3", **LONGROPE)
    return short_alike(folder, plain.pair(folder, suspect=folder))


@case(KIND, "longrope (Phi-3): a long prompt, a lent prefix, an answer across the switch")
def longrope_beyond(folder: Path) -> str:
    write_model(folder, "phi3", **LONGROPE)
    pair = plain.pair(folder, suspect=folder)
    assert pair.max_length == SWITCH
    return long_refused(pair)


@case(KIND, "longrope on the suspect's side alone")
def longrope_one_side(folder: Path) -> str:
    original = write_model(folder / "a", "phi3")
    suspect = write_model(folder / "b", "phi3", **LONGROPE)
    pair = plain.pair(original, suspect=suspect)
    assert pair.max_length == SWITCH
    assert greedy_answers(pair, "original", [LONG], max_new_tokens=3)
    return long_refused(pair)


@case(KIND, "longrope that also scales (Phi-3.5-MoE)")
def longrope_scaled(folder: Path) -> str:
    scales = {"short_mscale": 1.0, "long_mscale": 1.3, "original_max_position_embeddings": SWITCH}
    rope = {"rope_type": "longrope", **FACTORS, **scales}
    write_config(folder, config("phimoe", num_local_experts=2, rope_scaling=rope))
    pair = plain.pair(folder, suspect=folder)
    line = short_alike(folder, pair)
    long_refused(pair)
    return f"below: {line}; beyond: refused"


@case(KIND, "dynamic RoPE: frequencies stretch with the longest text seen so far")
def dynamic(folder: Path) -> str:
    write_model(folder, "llama", max_position_embeddings=SWITCH, rope_parameters=DYNAMIC)
    pair = plain.pair(folder, suspect=folder)
    long_refused(pair)
    return short_alike(folder, pair)  # after the long ones: no state of them is left


@case(KIND, "dynamic RoPE in one type of layer (Gemma 3)")
def dynamic_by_type(folder: Path) -> str:
    rope = {"full_attention": DYNAMIC, "sliding_attention": {"rope_type": "default"}}
    rope["sliding_attention"]["rope_theta"] = 10000.0
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    settings = {"max_position_embeddings": SWITCH, "rope_parameters": rope, "layer_types": types}
    write_model(folder, "gemma3", **settings)
    pair = plain.pair(folder, suspect=folder)
    line = short_alike(folder, pair)
    long_refused(pair)
    return f"below: {line}; beyond: refused"


@case(KIND, "chunked attention and tempered scores (Llama 4)")
def chunked(folder: Path) -> str:
    sizes = {"head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 64}
    chunk = {"attention_chunk_size": SWITCH, "floor_scale": 100}
    write_config(folder, config("llama4_text", **sizes, **chunk))
    pair = plain.pair(folder, suspect=folder)
    assert pair.max_length == SWITCH
    line = short_alike(folder, pair)
    long_refused(pair)
    return f"below: {line}; beyond: refused"


@case(KIND, "the suspect has a sliding window and the original none")
def window_of_suspect(folder: Path) -> str:
    original = write_model(folder / "a", "mistral", sliding_window=None)
    suspect = write_model(folder / "b", "mistral", sliding_window=8)
    return _windows(plain.pair(original, suspect=suspect), suspect)


@case(KIND, "the original has a sliding window and the suspect none")
def window_of_original(folder: Path) -> str:
    original = write_model(folder / "a", "mistral", sliding_window=8)
    suspect = write_model(folder / "b", "mistral", sliding_window=None)
    return _windows(plain.pair(original, suspect=suspect), suspect)


def _windows(pair: ModelPair, suspect: Path) -> str:
    """The fuzzy sweep's prefix, and the prefix that leakage continues."""
    rows = [(*SHORT, 7, 9), (*SHORT, 8)]
    for row in rows:
        answer = said(suspect, row, 4)
        fired = decisions(pair, "suspect", rows, list(answer)).fired.tolist()
        assert fired[rows.index(row)], "the prefix says something else"
    prefix = Prefix(pair, "suspect", SHORT)
    step = prefix.step(torch.tensor([[7]]), prefix.cache(1, 4))
    reference = plain.logits(plain.model(suspect), [(*SHORT, 7)])[-1:]
    return equal(step, reference)


@case(KIND, "attention that sees what is still to come (Gemma 3, use_bidirectional_attention)")
def bidirectional(folder: Path) -> str:
    write_model(folder, "gemma3", use_bidirectional_attention=True)
    return refused(lambda: plain.pair(folder, suspect=folder), "still to come")


@case(KIND, "a BERT that was not made a decoder")
def not_a_decoder(folder: Path) -> str:
    write_config(folder, config("bert"))
    return refused(lambda: plain.pair(folder, suspect=folder), "still to come")


@case(KIND, "layers that carry a state along instead of attending (LFM2)")
def carries_state(folder: Path) -> str:
    write_config(folder, config("lfm2", layer_types=["conv", "full_attention", "conv"]))
    return refused(lambda: plain.pair(folder, suspect=folder), "'conv'")


@case(KIND, "layers of sizes of their own (Gemma 3n)")
def per_layer(folder: Path) -> str:
    settings = {
        "num_hidden_layers": 10,
        "num_kv_shared_layers": 5,
        "head_dim": 16,
        "vocab_size_per_layer_input": 320,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
        "activation_sparsity_pattern": None,
        "layer_types": ["sliding_attention", "full_attention"] * 5,
    }
    write_config(folder, config("gemma3n_text", **settings))
    return refused(lambda: plain.pair(folder, suspect=folder), "sizes of their own")


@case(KIND, "heads of another width in some layers (Gemma 4)")
def wider_heads(folder: Path) -> str:
    write_config(folder, config("gemma4_text", head_dim=16, global_head_dim=32))
    return refused(lambda: plain.pair(folder, suspect=folder), "sizes of their own")
