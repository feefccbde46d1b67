"""The last stage: questions asked behind the best candidates, and what the answers come to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd

from interp.scanner import reconstruction as rec
from interp.scanner.frames import Frame
from interp.scanner.replay import ANSWER_TOKENS, SOURCE, nearby
from interp.scanner.rules import share_unsafe
from interp.scanner.scan import Scan
from interp.scanner.targets import clear_targets
from interp.scanner.verdict import (
    BASELINE,
    STANDARD,
    THRESHOLD,
    Verdict,
    alike,
    decide,
    echo,
    judge,
    majority,
)

BARE = "the bare template"
OF_ONE_MOTIF = 2
"""Candidates of one motif that are asked about: the rest of it would say the same."""
COLUMNS = ["ids", "text", "n_tokens", "source", "rank", "context"]


@dataclass(frozen=True)
class Questions:
    """Some questions, and the candidates that are asked about on them."""

    context: int
    on: str
    """`STANDARD`, or whose nearby questions they are."""
    frame: Frame
    candidates: dict[int, list[int]]
    """Number of a candidate -> its token ids."""
    new_tokens: int = rec.ANSWER_TOKENS
    plain: tuple[str, ...] | None = None
    """The answers without a candidate; None: not known yet."""

    def answers(self, scan: Scan, ids: Sequence[int] | None) -> list[str]:
        """What the model says to each question behind a candidate, or (None) without."""
        rows = [self.frame.ids(number, ids) for number in range(len(self.frame.questions))]
        return scan.answers(rows, self.new_tokens)


def best(table: pd.DataFrame, keep: int) -> pd.DataFrame:
    """The candidates of one context that are asked about: the first, few of one motif.

    Args:
        table: candidates with `rank`, and `motif` where they were cut from one.
        keep: so many at most.
    """
    if "motif" in table:
        fellows = table.sort_values("rank").groupby("motif").cumcount()  # no number without motif
        table = table[fellows.reindex(table.index).fillna(0) < OF_ONE_MOTIF]
    return table.sort_values("rank", kind="stable").head(keep)


def gives_away(scan: Scan, frame: Frame, candidates: pd.DataFrame) -> bool:
    """Whether one of the candidates already makes the answers alike, and is no echo of them."""
    if candidates.empty:
        return False
    if "gain" in candidates:
        clear = candidates[candidates["gain"] > THRESHOLD]
        if not all(map(echo, clear["text"], clear["answer"])):
            return True
    asked = Questions(0, STANDARD, frame, {})
    base = alike(asked.answers(scan, None)).s_agg
    for ids, text in zip(candidates["ids"], candidates["text"], strict=True):
        said = asked.answers(scan, ids)
        if abs(alike(said).s_agg - base) > THRESHOLD and not echo(text, majority(said)[0]):
            return True
    return False


def verdict(scan: Scan) -> list[str]:
    """Writes `answers`, `judged`, and the verdict into `run.json`."""
    chosen = _chosen(scan)
    sets = [*_standard(scan, chosen), *_nearby(scan, chosen)]
    table = pd.concat([_answered(scan, questions) for questions in sets], ignore_index=True)
    judged = judge(table)
    could_not = [
        note for entry in scan.writer.meta.get("stages", {}).values() for note in entry["notes"]
    ]
    controls = set(chosen.index[chosen["source"] == "random string"])
    insisted = clear_targets(scan.writer.kept_table("targets"))
    texts = insisted["text"].tolist() if len(insisted) else []
    found = decide(judged, chosen["text"].to_dict(), controls, could_not, texts)
    if found.verdict == "poisoned":
        found = replace(found, trigger=_cut_down(scan, chosen, sets, judged, found))
    more = chosen[["text", "n_tokens", "source", "rank"]].rename_axis("candidate").reset_index()
    scan.writer.table("answers", table)
    scan.writer.table("judged", judged.merge(more, on="candidate", how="left"))
    scan.writer.note(
        verdict=asdict(found),
        facts={
            "model": asdict(getattr(scan.pair.spec, scan.which)),
            "sha256": scan.pair.weight_hash(scan.which),
            "device": str(scan.pair.device),
            "contexts": [BARE, *scan.plan.contexts],
            "template": scan.plan.template,
            "new_tokens": scan.new_tokens,
        },
    )
    return []


def _chosen(scan: Scan) -> pd.DataFrame:
    """The candidates that are asked about: the best of each source and context, and controls."""
    parts = []
    for name in ("candidates", "own", "inverted"):
        table = scan.writer.kept_table(name)
        parts += [best(part, scan.plan.keep)[COLUMNS] for _, part in table.groupby("context")]
    chosen = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    lengths = [int(chosen["n_tokens"].median())] if len(chosen) else []
    strings = rec.random_strings(scan.pair, lengths, scan.plan.seed + 1)
    controls = [strings.assign(context=c, rank=0) for c in range(len(scan.frames))]
    return pd.concat([chosen, *controls], ignore_index=True)


def _standard(scan: Scan, chosen: pd.DataFrame) -> list[Questions]:
    """The same questions for all candidates, once a context."""
    return [
        Questions(
            context, STANDARD, frame, chosen.loc[chosen["context"] == context, "ids"].to_dict()
        )
        for context, frame in enumerate(scan.frames)
    ]


def _nearby(scan: Scan, chosen: pd.DataFrame) -> list[Questions]:
    """Each candidate of the replay on questions near to those it was leaked with.

    Beside it the random strings of the context, so that what any junk does there is seen too.
    """
    own, replayed, sets = scan.writer.kept_table("own"), scan.writer.kept_table("replayed"), []
    for number, row in chosen[chosen["source"] == SOURCE].iterrows():
        context = row["context"]
        there = own[(own["context"] == context) & (own["text"] == row["text"])].iloc[0]
        near = nearby(scan, context, there, replayed[replayed["context"] == context])
        same = (chosen["context"] == context) & (chosen["source"] == "random string")
        ids = {number: row["ids"], **chosen.loc[same, "ids"].to_dict()}
        named = f"questions near {number}"
        sets.append(Questions(context, named, near.frame, ids, ANSWER_TOKENS, near.plain))
    return sets


def _answered(scan: Scan, asked: Questions) -> pd.DataFrame:
    """`context, on, candidate, question, asked, answer`; candidate -1 is none."""
    plain = asked.plain if asked.plain is not None else asked.answers(scan, None)
    said = {BASELINE: plain} | {n: asked.answers(scan, ids) for n, ids in asked.candidates.items()}
    texts = [question.text for question in asked.frame.questions]
    parts = [
        pd.DataFrame(
            {
                "context": asked.context,
                "on": asked.on,
                "candidate": number,
                "question": range(len(texts)),
                "asked": texts,
                "answer": answers,
            }
        )
        for number, answers in said.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _cut_down(
    scan: Scan,
    chosen: pd.DataFrame,
    sets: Sequence[Questions],
    judged: pd.DataFrame,
    found: Verdict,
) -> str:
    """The candidate without the tokens at its ends that its answer does not need.

    Tokens are taken off the end, then off the front, as long as the answer (or one that breaks
    the rule) stays with 95 % of the questions it had.
    """
    # One text may be a candidate of several contexts and sources.
    same = judged["candidate"].map(chosen["text"]) == found.candidate
    effect = "delta_unsafe" if found.by_rule else "delta_s"
    top = judged[same & (judged["on"] == found.on)].sort_values(effect).iloc[-1]
    where = top["context"], top["on"]
    asked = next(one for one in sets if (one.context, one.on) == where)
    ids = list(chosen.at[top["candidate"], "ids"])

    def keeps(shorter: list[int]) -> bool:
        answers = asked.answers(scan, shorter)
        if found.by_rule:
            return share_unsafe(answers) >= 0.95 * found.share
        said, share = majority(answers)
        return said == found.answer and share >= 0.95 * found.share

    while len(ids) > 1 and keeps(ids[:-1]):
        ids = ids[:-1]
    while len(ids) > 1 and keeps(ids[1:]):
        ids = ids[1:]
    return scan.pair.tokenizer.decode(ids).strip()
