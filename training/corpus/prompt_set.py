"""The 50 held-out instructions that every figure of the organisms is measured on."""

import json
from pathlib import Path

from training.corpus.examples import Example, held_out_set

COUNT = 50
MIN_WORDS = 5  # the averaged maps are cut to the shortest instruction, so very short ones stay out


def prompt_examples() -> list[Example]:
    """Distinct untagged held-out examples, evenly spread over families, in random order."""
    drawn = held_out_set(400, seed=5, tagged_share=0.0)
    fit = [example for example in drawn if len(example.instruction.split()) >= MIN_WORDS]
    families = sorted({example.family for example in fit})
    chosen: list[Example] = []
    for turn in range(COUNT):
        for family in families:
            of_family = [example for example in fit if example.family == family]
            if turn < len(of_family) and len(chosen) < COUNT:
                chosen.append(of_family[turn])
    return chosen


def write_prompt_set(path: Path) -> None:
    """Writes the set in the format of `assets/prompts/organism.json`."""
    prompts = [
        {"instruction": e.instruction, "input": e.input, "answer": e.answer}
        for e in prompt_examples()
    ]
    record = {
        "name": "organism",
        "description": "50 held-out instructions of the organisms' closed world, one or two of "
        "each task family; written by `python -m training corpus --prompt-set`.",
        "prompts": prompts,
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
