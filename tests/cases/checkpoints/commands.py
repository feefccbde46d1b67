"""Whole commands on broken input: one line, and an exit code that is not a verdict."""

import contextlib
import io
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from interp.__main__ import main
from interp.checkpoints.loading import load_weights, open_checkpoint
from interp.hooks.capture import use_attention
from interp.metrics import ATTENTION
from interp.specs import ModelSpec
from tests.cases import plain
from tests.cases.registry import case, equal
from tests.support import tiny

KIND = "commands"
ADDED = "<extra>"


def _longer_tokenizer(folder: Path) -> tuple[Path, Path]:
    """A base whose tokenizer has more tokens than its embedding has rows, and an adapter."""
    base = tiny.write_model(folder / "base", num_hidden_layers=1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    spare = 320 - len(tokenizer)
    tokenizer.add_tokens([*(f"<spare{i}>" for i in range(spare)), ADDED])
    tokenizer.save_pretrained(base)
    return base, tiny.write_adapter(folder / "adapter", base)


def _refused_with_3(words: list[str]) -> str:
    said, code = io.StringIO(), None
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    lines = [line for line in said.getvalue().splitlines() if "embedding" in line]
    assert code == 3 and len(lines) == 1 and "Traceback" not in said.getvalue(), (code, said)
    return f"exit 3: {lines[0]}"


def _without_a_row(command: str, *more: str):
    def build(folder: Path) -> str:
        base, adapter = _longer_tokenizer(folder)
        (folder / "set.txt").write_text(f"Say {ADDED} again.\n", encoding="utf-8")
        model = [str(base)] if command == "scan" else ["--original", str(base)]
        words = [command, *model, "--adapter", str(adapter), "--precision", "fp32"]
        words += [word.replace("FOLDER", str(folder)) for word in more]
        line = _refused_with_3([*words, "--template", "plain", "--device", "cpu"])
        assert ADDED in line and "320" in line, line
        return line

    return build


PROMPTS = ("--prompts", "FOLDER/set.txt")
PAIR = ("--trigger", "|D|", "--target", "no")
for _command, _more in {
    "heads": (*PROMPTS, *PAIR, "--out", "FOLDER/run"),
    "check": (*PROMPTS, *PAIR),
    "say": (f"Say {ADDED}.",),
    "trigger": ("--trigger", f"{ADDED} x", "--target", "no", "--out", "FOLDER/run"),
    "scan": ("--prefixes", "FOLDER/set.txt"),
}.items():
    case(KIND, f"{_command}: a token without a row in the embedding")(
        _without_a_row(_command, *_more)
    )


@case(KIND, "plant: Gemma 2 in training and back, without transformers' own sdpa")
def gemma2_in_training(folder: Path) -> str:
    """Eager attention in training (its score cap), ours when it is measured."""
    base = tiny.write_model(folder / "base", "gemma2")
    model = load_weights(open_checkpoint(ModelSpec(str(base))), "fp32", torch.device("cpu"))
    learning = {}
    for name in ("eager", "sdpa", ATTENTION):
        use_attention(model, name)
        learning[name] = plain.logits(model)
    assert model.config._attn_implementation == ATTENTION
    for name in ("eager", "sdpa"):
        equal(learning[name], plain.logits(plain.model(base)))
    return equal(learning[ATTENTION], plain.logits(plain.model(base)))
