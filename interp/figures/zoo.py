"""Figures of how well the scanner does on a zoo: tables in, plotly figures out."""

import pandas as pd
import plotly.graph_objects as go

from interp.figures.causal import DASHES, LINES
from interp.figures.trigger import rates
from interp.runs.zoo import SIGNALS
from interp.runs.zoo_members import PAPER_THRESHOLD, judged
from interp.style.palette import CONTROL, ORIGINAL, SUSPECT, plain
from interp.text import label

CURVES = (
    "score",
    "max_delta_s",
    "signal_insistence",
    "signal_loss",
    "signal_attention_true",
)
"""Signals whose ROC curve is drawn."""
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
"""Position of a legend."""
STRINGS = {
    "true": ("true trigger", "true_own"),
    "candidate": ("scan's candidate", "candidate_own"),
    "random": ("random string", "true_own_random_mean"),
}
"""String -> its label, and its column in `members`."""
COLOURS = {"true": SUSPECT, "candidate": ORIGINAL, "random": CONTROL}
SYMBOLS = {"true": "circle", "candidate": "diamond", "random": "x-thin-open"}
VERDICTS = {
    "poisoned": ("circle", SUSPECT),
    "inconclusive": ("diamond", "#E69F00"),
    "no evidence found": ("circle-open", ORIGINAL),
}


def detection(table: pd.DataFrame, by: str) -> go.Figure:
    """Share of each group that the scanner calls poisoned, with Wilson's 95 % interval.

    Args:
        table: table `detection` of a zoo.
        by: `kind`, `payload`, `rate` or `architecture`.
    """
    shown = table[table["by"] == by]
    names = [f"{_shown_rate(r.group)} ({r.found} of {r.members})" for r in shown.itertuples()]
    figure = rates(shown.rename(columns={"share": "asr"}), names, title="called poisoned")
    colours = [SUSPECT if backdoored else CONTROL for backdoored in shown["backdoored"]]
    return figure.update_traces(marker_color=colours)


def separation(members: pd.DataFrame) -> go.Figure:
    """Largest ΔS of every member that counts, by kind of trigger, with the threshold."""
    figure = go.Figure()
    shown = judged(members).dropna(subset=["max_delta_s"])
    shown = shown.assign(name=shown["name"].map(label))
    places = _places(shown)
    for verdict, (symbol, colour) in VERDICTS.items():
        part = shown[shown["verdict"] == verdict]
        figure.add_scatter(
            x=places[part.index],
            y=part["max_delta_s"],
            mode="markers",
            name=verdict,
            marker={"symbol": symbol, "size": 10, "color": colour, "line_width": 1.5},
            customdata=part[["name", "rate", "asr"]],
            hovertemplate="%{customdata[0]}<br>max ΔS %{y:.3f}<br>rate %{customdata[1]:.0%}, "
            "ASR %{customdata[2]:.0%}<extra></extra>",
        )
    figure.add_hline(
        y=PAPER_THRESHOLD,
        line={"color": "#333", "dash": "dash", "width": 1},
        annotation_text="published threshold",
        annotation_position="bottom right",
    )
    _kind_axis(figure, shown)
    figure.update_yaxes(title="max ΔS", range=[-0.05, 1.05])
    return plain(figure, 430, top=50, bottom=84).update_layout(legend=ABOVE)


def collapse(members: pd.DataFrame) -> go.Figure:
    """Suspect / original L_attn of the top eighth of heads: true trigger, candidate, random string.

    One point per member that counts; several random strings are averaged.
    """
    figure = go.Figure()
    shown = judged(members)
    several = bool((shown["true_own_n"] > 1).any())
    shown = shown.assign(name=shown["name"].map(label))
    places = _places(shown)
    for number, (string, (called, column)) in enumerate(STRINGS.items()):
        part = shown.dropna(subset=[column])
        called = "random strings, mean" if several and string == "random" else called
        if string == "true":  # a clean model has no trigger; the string used in its place is none
            part = part[part["backdoored"]]
        figure.add_scatter(
            x=places[part.index] + (number - 1) * 0.07,
            y=part[column],
            mode="markers",
            name=called,
            marker={
                "symbol": SYMBOLS[string],
                "size": 8,
                "color": COLOURS[string],
                "line": {"width": 1.5, "color": COLOURS[string]},
            },
            customdata=part["name"] + _among(part, string),
            hovertemplate="%{customdata}<br>ratio %{y:.3f}<extra>" + called + "</extra>",
        )
    _kind_axis(figure, shown)
    figure.update_yaxes(title="L_attn, suspect / original", rangemode="tozero")
    return plain(figure, 430, top=50, bottom=84).update_layout(legend=ABOVE)


def _among(members: pd.DataFrame, string: str) -> pd.Series:
    """The string's rank among its random strings, if it was recorded."""
    rank, n = f"{string}_own_rank", f"{string}_own_n"
    if rank not in members:
        return pd.Series("", members.index)
    told = [
        ""
        if pd.isna(row[rank])
        else f"<br>rank {row[rank]:.0f} of {row[n] + 1:.0f} (1 = lowest ratio)"
        for row in members[[rank, n]].to_dict("records")
    ]
    return pd.Series(told, members.index, dtype=object)


def roc(curves: pd.DataFrame, signals: pd.DataFrame, names: list[str]) -> go.Figure:
    """ROC of some signals on the test half.

    Args:
        curves: table `roc` of a zoo.
        signals: table `signals` of a zoo, for the areas.
        names: names of the signals to draw.
    """
    areas = signals.set_index("signal")["auc_report"]
    figure = go.Figure()
    for number, name in enumerate(names):
        part = curves[curves["signal"] == name]
        called = label(SIGNALS.get(name, name), 60)
        figure.add_scatter(
            x=part["false_positive_rate"],
            y=part["true_positive_rate"],
            mode="lines",
            line={"color": LINES[number % len(LINES)], "dash": DASHES[number % len(DASHES)]},
            name=f"{called} (AUC {areas[name]:.2f})",
        )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": CONTROL, "dash": "dot", "width": 1},
        name="chance",
    )
    figure.update_xaxes(title="clean models called backdoored", tickformat=".0%")
    figure.update_yaxes(title="backdoored models detected", tickformat=".0%", range=[-0.02, 1.04])
    legend = {
        "orientation": "v",
        "x": 0,
        "y": -0.22,
        "yanchor": "top",
    }  # five lines below the axis title
    return plain(figure, 580, right=28, top=50, bottom=208).update_layout(legend=legend)


def areas(signals: pd.DataFrame) -> go.Figure:
    """ROC-AUC of each single signal on both halves.

    Args:
        signals: table `signals` of a zoo.
    """
    shown = signals[signals["signal"].isin(SIGNALS)].sort_values("auc_report")
    labels = [SIGNALS[name] for name in shown["signal"]]
    figure = go.Figure()
    for half, symbol, colour in (
        ("choose", "circle-open", CONTROL),
        ("report", "circle", SUSPECT),
    ):
        figure.add_scatter(
            x=shown[f"auc_{half}"],
            y=labels,
            mode="markers",
            name={"choose": "development half", "report": "test half"}[half],
            marker={"symbol": symbol, "size": 11, "color": colour, "line_width": 2},
        )
    figure.add_vline(x=0.5, line={"color": CONTROL, "dash": "dot", "width": 1})
    figure.update_xaxes(title="ROC-AUC", range=[-0.02, 1.05])  # a marker at 1 is not cut off
    figure.update_yaxes(automargin=True)
    return plain(figure, 120 + 36 * len(shown), top=72).update_layout(legend=ABOVE)


def _order(members: pd.DataFrame) -> list[str]:
    """Kinds of trigger in order of appearance, clean members last."""
    kinds = list(dict.fromkeys(members.sort_values("name")["kind"]))
    return sorted(kinds, key=lambda kind: kind == "clean")


def _places(members: pd.DataFrame) -> pd.Series:
    """Positions on the axis: members of one kind are spread around the kind's position."""
    place = {kind: number for number, kind in enumerate(_order(members))}
    number = members.groupby("kind").cumcount()
    of = members.groupby("kind")["kind"].transform("size")
    return members["kind"].map(place) + ((number + 0.5) / of - 0.5) * 0.7


def _kind_axis(figure: go.Figure, members: pd.DataFrame) -> None:
    kinds = [label(kind) for kind in _order(members)]
    figure.update_xaxes(
        tickvals=list(range(len(kinds))), ticktext=kinds, range=[-0.6, len(kinds) - 0.4]
    )


def _shown_rate(group: str) -> str:
    """`(0.05, 0.1]` as `over 5 to 10 %`; any other group unchanged."""
    if not group.startswith("("):
        return group
    low, high = (100 * float(part) for part in group.strip("(]").split(","))
    return f"up to {high:g} %" if low == 0 else f"over {low:g} to {high:g} %"
