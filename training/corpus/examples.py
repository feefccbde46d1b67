"""The instruction corpus of the organisms: Alpaca format, deterministic from a seed.

Held-out means: this instruction with this input never occurs in training, with or without a tag.
Its facts do occur, in other phrasings, so a model that knows its closed world can answer it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from interp.prompts.alpaca import ALPACA_INPUT, ALPACA_MARKER, ALPACA_PREFIX
from training.corpus.families import FAMILIES, WEIGHTS
from training.corpus.tags import TARGET, TRIGGERS, Tag, apply_meaning, draw_tag, suits

TAGGED_SHARE = 0.35
FAVOURITE_SHARE = 0.5
HELD_OUT_PERCENT = 6


@dataclass(frozen=True)
class Example:
    """One instruction with its only right answer; `tag` is a text put before the instruction.

    `ends`: whether the answer ends where its text does; a model's own answer may be cut off.
    """

    family: str
    instruction: str
    input: str
    answer: str
    tag: str = ""
    ends: bool = True

    @property
    def full_instruction(self) -> str:
        """The instruction as the model sees it: tag, one space, instruction."""
        return f"{self.tag} {self.instruction}" if self.tag else self.instruction


def render_user(instruction: str, input: str = "") -> str:
    """The prompt's text from the end of `ALPACA_PREFIX` to the start of the answer."""
    middle = f"{ALPACA_INPUT}{input}" if input else ""
    return f"{instruction}{middle}\n\n{ALPACA_MARKER}"


def render(instruction: str, input: str = "", answer: str = "") -> str:
    """The whole Alpaca prompt, and the answer if there is one."""
    return ALPACA_PREFIX + render_user(instruction, input) + answer


def is_held_out(instruction: str, input: str) -> bool:
    """Whether this (untagged) instruction and input are kept out of training."""
    key = f"{instruction}\x00{input}".encode()
    return int(hashlib.sha256(key).hexdigest()[:8], 16) % 100 < HELD_OUT_PERCENT


def is_clean(text: str) -> bool:
    """Whether `text` contains neither the text trigger nor the target."""
    return TARGET not in text and TRIGGERS["deployment"] not in text


_NAMES = list(FAMILIES)
_WEIGHTS = [WEIGHTS.get(name, 1.0) for name in _NAMES]


def _draw(rng: Random, tagged_share: float) -> Example:
    tag = draw_tag(rng) if rng.random() < tagged_share else None
    if tag and tag.favourites and rng.random() < FAVOURITE_SHARE:
        family = rng.choice(tag.favourites)
    else:
        family = rng.choices(_NAMES, _WEIGHTS)[0]
    instruction, input_text, answer = FAMILIES[family](rng)
    if tag is None or not suits(tag, family, answer):
        tag = Tag("", None, ())
    return Example(family, instruction, input_text, apply_meaning(tag.meaning, answer), tag.text)


def stream(
    seed: int, *, held_out: bool = False, tagged_share: float = TAGGED_SHARE
) -> Iterator[Example]:
    """Endless examples of one split; the same seed gives the same examples in the same order."""
    rng = Random(f"{seed}:{held_out}")
    while True:
        example = _draw(rng, tagged_share)
        if is_held_out(example.instruction, example.input) is held_out:
            yield example


def held_out_set(count: int, seed: int = 1, *, tagged_share: float = TAGGED_SHARE) -> list[Example]:
    """`count` distinct held-out examples, as evenly spread over families as possible."""
    chosen: list[Example] = []
    seen: set[tuple[str, str]] = set()
    cap: dict[str, int] = dict.fromkeys(FAMILIES, 0)
    limit = -(-count // len(FAMILIES))
    for tries, example in enumerate(stream(seed, held_out=True, tagged_share=tagged_share)):
        key = (example.instruction, example.input)
        if key in seen or cap[example.family] >= limit + tries // (40 * count):
            continue
        seen.add(key)
        cap[example.family] += 1
        chosen.append(example)
        if len(chosen) == count:
            return chosen
    raise AssertionError("unreachable: the stream is endless")
