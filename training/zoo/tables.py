"""Tables about the scanner from a zoo: detection by kind and rate, ROC per signal, thresholds.

Tables in, tables out. The paper's rule (poisoned above a ΔS of 0.5) and thresholds chosen on the
development half are both judged on the test half.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.runs.zoo import GROUPS
from interp.runs.zoo_members import PAPER_THRESHOLD, judged
from interp.scanner.judge.verdict import VERDICTS
from interp.stats import Rate

WHOLE = ("score", "max_delta_s", "leak_rate")
"""Signals of a whole scan."""
RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)


@dataclass(frozen=True)
class ZooTables:
    """All tables of a zoo that a page or a document shows."""

    frames: dict[str, pd.DataFrame]
    """`detection` by kind, payload, rate; `roc` points; `signals` with AUC and threshold."""
    figures: dict
    """`detected, backdoored, false_positives, clean, roc_auc` on the test half, and more
    (`held_back`: poisoned or inconclusive)."""


def tables(members: pd.DataFrame) -> ZooTables:
    """All tables of a population.

    Args:
        members: one row per member, as `population.run` writes them.
    """
    counted = judged(members)
    counted = counted.assign(found=counted["verdict"] == "poisoned")
    report = counted[counted["half"] == "report"]
    signals = [name for name in counted if name.startswith("signal_") or name in WHOLE]
    summary = pd.DataFrame([_signal(counted, name) for name in signals])
    curves = [_curve(report, name) for name in signals]
    curves = [curve for curve in curves if curve is not None]
    empty = pd.DataFrame(columns=["signal", "false_positive_rate", "true_positive_rate"])
    frames = {
        "detection": detection(report),
        "signals": summary,
        "roc": pd.concat(curves, ignore_index=True) if curves else empty,
    }
    return ZooTables(frames, _figures(members, counted, report))


def detection(members: pd.DataFrame) -> pd.DataFrame:
    """Share found, with its Wilson 95 % interval, by kind, payload, rate and architecture.

    Args:
        members: with a column `found`.

    Returns:
        One row per group: `by, group, backdoored, found, share, low, high`. The clean members are
        a group too; its share is the false positive rate.
    """
    rate = pd.cut(members["rate"], RATES, right=True)
    frame = members.assign(rate=rate.astype(str).where(members["backdoored"], "clean"))
    rows = []
    for by in GROUPS:
        groups = frame if by != "architecture" else frame[frame["backdoored"]]
        for group, rows_of in groups.groupby(by):
            share = Rate(int(rows_of["found"].sum()), len(rows_of))
            backdoored = bool(rows_of["backdoored"].all())
            rows.append((by, str(group), backdoored, share.fired, share.n, share.share,
                         *share.interval))  # fmt: skip
    columns = ["by", "group", "backdoored", "found", "members", "share", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def auc(members: pd.DataFrame, signal: str) -> float | None:
    """ROC-AUC of a signal over the members that have it; None if one class is missing."""
    there = members.dropna(subset=[signal])
    if there["backdoored"].nunique() < 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(there["backdoored"], there[signal].astype(float)))


def threshold_of(members: pd.DataFrame, signal: str) -> float | None:
    """The threshold with the largest Youden index (sensitivity + specificity - 1).

    If several are equally good, it is the middle of the gap above the lowest, so that a slightly
    lower value of another model still counts.
    """
    there = members.dropna(subset=[signal])
    if there["backdoored"].nunique() < 2:
        return None
    values = np.sort(there[signal].astype(float).unique())
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2])
    hit = [float((there.loc[there["backdoored"], signal] > cut).mean()) for cut in cuts]
    alarm = [float((there.loc[~there["backdoored"], signal] > cut).mean()) for cut in cuts]
    return float(cuts[int(np.argmax(np.subtract(hit, alarm)))])


def _signal(counted: pd.DataFrame, name: str) -> dict:
    choose, report = (counted[counted["half"] == half] for half in ("choose", "report"))
    cut = threshold_of(choose, name)
    row = {"signal": name, "auc_choose": auc(choose, name), "auc_report": auc(report, name)}
    row |= {"threshold": cut, "detected": None, "false_positives": None}
    if cut is not None:
        over = report[name].astype(float) > cut
        row["detected"] = int((over & report["backdoored"]).sum())
        row["false_positives"] = int((over & ~report["backdoored"]).sum())
    return row


def _curve(report: pd.DataFrame, signal: str) -> pd.DataFrame | None:
    there = report.dropna(subset=[signal])
    if there["backdoored"].nunique() < 2:
        return None
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(there["backdoored"], there[signal].astype(float))
    return pd.DataFrame(
        {"signal": signal, "false_positive_rate": false, "true_positive_rate": true}
    )


def _alone(report: pd.DataFrame) -> dict:
    """The same counts of the scans without the original, where members have them."""
    if "verdict_alone" not in report:
        return {}
    found = report["verdict_alone"] == "poisoned"
    area = auc(report, "max_delta_s_alone")
    return {
        "detected_alone": int((found & report["backdoored"]).sum()),
        "false_positives_alone": int((found & ~report["backdoored"]).sum()),
        "roc_auc_alone": area,
        "missed_alone": report.loc[report["backdoored"] & ~found, "name"].tolist(),
    }


def _figures(members: pd.DataFrame, counted: pd.DataFrame, report: pd.DataFrame) -> dict:
    planted, clean = report[report["backdoored"]], report[~report["backdoored"]]
    over = planted["max_delta_s"].astype(float) > PAPER_THRESHOLD
    held_back = report["verdict"] != VERDICTS[0]  # poisoned or inconclusive: not to be deployed
    tried = members[members["verdict"] != "failed"]
    return {
        "detected": int(planted["found"].sum()),
        "backdoored": len(planted),
        "false_positives": int(clean["found"].sum()),
        "clean": len(clean),
        "roc_auc": auc(report, "max_delta_s"),
        "roc_auc_score": auc(report, "score") if "score" in report else None,
        "held_back": int((held_back & report["backdoored"]).sum()),
        "clean_held_back": int((held_back & ~report["backdoored"]).sum()),
        "over_paper_threshold": int(over.sum()),
        "missed": planted.loc[~planted["found"], "name"].tolist(),
        **_alone(report),
        "failed": members.loc[members["verdict"] == "failed", "name"].tolist(),
        "not_planted": int(tried["backdoored"].sum() - counted["backdoored"].sum()),
    }
