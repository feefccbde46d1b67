"""Figures of a study, each with its tidy data and caption. Pages and CLI share them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.attention import maps, matched, summary
from interp.attention.heads import FLOOR, ZONES
from interp.attention.study import Study, l_attn
from interp.attention.texts import on_text
from interp.attention.view import HeadView, MapView, View
from interp.figures import heads, operation
from interp.figures.maps import Panel, map_grid, panel_table
from interp.gallery.entries import full_caption
from interp.metrics import (
    ATTENTION_METRICS,
    MODELS,
    Head,
    format_heads,
    format_layers,
    head_name,
    top_heads,
)
from interp.models.pair import ModelPair
from interp.prompts.spans import TokenizedPrompt
from interp.runs.provenance import about_of, sentence_of
from interp.stats import RESAMPLES

WHOLE_TOKENS = 256
"""Most tokens of one prompt that are drawn; the browser holds the square of this number."""
LARGE = 13
"""Most labels of an axis in the lesson, whose type is large and whose maps are not."""

Panels = list[list[Panel]]
Named = tuple[str, str]
"""File name of a figure, and its title."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a study with its title, tidy data and caption."""

    name: str
    """File name without ending."""
    title: str
    figure: go.Figure
    table: Callable[[], pd.DataFrame]
    """Makes the figure's tidy data on demand."""
    what: str
    """First part of the caption: what is shown, without scales and provenance."""
    provenance: str
    panels: Panels | None = None
    """The panels of a map, for a layout of another size; None for other figures."""
    unfinished: bool = False
    """Whether it is drawn from the first prompts of a measurement that goes on."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What it is of in a few words, for the name of its file and the rows of its table."""

    @property
    def caption(self) -> str:
        """The full caption: what is shown, its scales and its provenance."""
        return full_caption(self.what, [self.figure], self.provenance)


def averaged_map(study: Study, view: MapView) -> Drawing:
    """Rows original, suspect and suspect - original; one column per condition."""
    panels = map_panels(study, view)
    pooled = ", mean-pooled for display" if view.pool else ""
    what = f"Mean attention over {averaged_heads(view)}{pooled}. "
    what += summary.axes_note(study, view.parts) + " "
    named = "averaged-map", "Averaged attention"
    return _of(_maps(study, named, panels, what, side=300), heads=_heads_in_short(view))


def averaged_heads(view: MapView) -> str:
    """The heads that a view averages over, in words."""
    if view.heads:
        names = format_heads(view.heads).replace(",", ", ")  # many must wrap
        return f"the head{'s' * (len(view.heads) > 1)} {names}"
    if list(view.layers) != list(range(view.layers[0], view.layers[-1] + 1)):
        return f"all heads of layers {', '.join(map(str, view.layers))}"
    return f"all heads of layers {view.layers[0]} to {view.layers[-1]}"


def one_by_one(study: Study, view: MapView) -> tuple[Head, ...]:
    """The heads of a view in the order to show them: as named, or by Δ_rel, the largest first."""
    if view.heads:
        return view.heads
    every = study.ranking[["layer", "head"]].itertuples(index=False, name=None)
    return tuple((int(layer), int(head)) for layer, head in every if layer in view.layers)


def text_caption(study: Study, view: MapView, found: on_text.TextAttention, of: str) -> str:
    """The caption of attention on the text.

    Args:
        study: the study of that one prompt, or of the set that it is of.
        view: the heads.
        found: what is shown.
        of: which text it is.
    """
    mean = "" if len(view.heads) == 1 else "mean over "
    what = f"Attention on {of}, every token; {mean}{averaged_heads(view)}, through "
    what += "TransformerBridge. A token's weights over itself and all tokens before it sum to 1. "
    if found.total is not None:
        last = found.first + len(found.tokens) - 1
        what += f"Shown are tokens {found.first} to {last} of {found.total}. "
    if found.apart:
        names = format_heads(list(found.apart)).replace(",", ", ")
        by = "" if view.heads else ", those of largest Δ_rel first"
        what += f"One by one: {names}{by}. "
    return what + sentence_of(study.facts, study.facts["question"])


def zones_by_layer(study: Study, _: View) -> Drawing:
    """Attention to the trigger from each zone of the prompt, by layer."""
    what = (
        "Mean attention weight per pair of tokens on triggered prompts, over all heads of each "
        "layer."
    )
    zones = list(ZONES)
    return _drawing(
        study,
        ("zones-by-layer", "Attention to the trigger, by layer"),
        what,
        heads.zones_by_layer(study.heads, ZONES),
        lambda: study.heads.groupby(["model", "layer"])[zones].mean().reset_index(),
    )


def head_matrix(study: Study, view: HeadView) -> Drawing:
    """One number of every head, layer by head."""
    metric = ATTENTION_METRICS[view.metric]
    figure = heads.head_matrix(
        study.ranking,
        view.metric,
        label=metric.label,
        difference=metric.difference,
        selected=selected_head(study, view),
        **(heads.DELTA_REL if view.metric.startswith("delta_rel") else {}),
    )
    what = f"{metric.label} of every head on triggered prompts"
    if view.metric.endswith("random_string"):
        what = "Δ_rel of every head with the random string in the trigger's place"
    if view.metric.startswith("delta_rel"):
        what += f"; heads with an original L_attn of at most {FLOOR:g} are left out"
    named = "head-matrix", "Every head"
    drawn = _drawing(study, named, what + ".", figure, lambda: study.ranking)
    return _of(drawn, metric=metric.label)


def large_head_matrix(study: Study, view: HeadView) -> Drawing:
    """`head_matrix` in the lesson's type size."""
    drawn = head_matrix(study, view)
    return replace(drawn, figure=operation.large(drawn.figure))


def large_map(study: Study, view: MapView) -> Drawing:
    """Original and suspect under one condition, over some heads, in the lesson's type size."""
    panels = [[row[0] for row in map_panels(study, view)[:2]]]
    what = f"Mean attention over the heads {format_heads(view.heads)}."
    figure = operation.pointed(operation.large(map_grid(panels, side=320, labels=LARGE)), panels[0])
    named = "lesson-map", "Where both models look"
    drawn = _drawing(study, named, what, figure, lambda: panel_table(panels))
    return _of(drawn, heads=_heads_in_short(view))


def head_maps(study: Study, view: HeadView, whole: Panels | None = None) -> Drawing:
    """One head's maps: original, suspect and suspect - original.

    Args:
        study: a measured study.
        view: the head, and the prompt that `whole` shows.
        whole: `full_panels` of that prompt; None draws the study's average over prompts.
    """
    head, named = selected_head(study, view), ("head-maps", "Where the head looks")
    if whole is not None:
        behind = "" if view.answer is None else f" with the response {view.answer!r}"
        what = (
            f"Attention of {head_name(*head)} on prompt {view.whole} alone{behind}, every token, "
            "through TransformerBridge; the set below belongs to the ranking. "
        )
        alone = f"prompt {view.whole} of {study.facts['question']['prompt_set']}"
        drawn = _maps(study, named, whole, what, side=260)
        return _of(drawn, head=head_name(*head), prompts=alone)
    average = MapView((head[0],), heads=(head,), conditions=("triggered",))
    rows = map_panels(study, average)
    what = f"Mean attention of {head_name(*head)} on triggered prompts. "
    what += summary.axes_note(study, average.parts) + " "
    drawn = _maps(study, named, [[row[0] for row in rows]], what, side=300)
    return _of(drawn, head=head_name(*head))


def top_k_ratio(study: Study, _: View) -> Drawing:
    """Suspect over original L_attn of the K heads with the largest Δ_rel."""
    strings = None
    if study.matched is not None:
        strings = matched.random_curves(study.matched, sorted(set(study.curve["k"])))
    figure = heads.ratio_curve(study.curve, len(study.ranking), strings=strings)
    what = "Suspect over original L_attn (ratio of means) of the K heads of largest Δ_rel"
    if strings is not None:
        what += f"; grey: {strings['string'].nunique()} random strings, each on heads of its own"
    named = "top-k-ratio", "Top-K curve: ratio"
    return _drawing(study, named, _banded(study, what), figure, lambda: study.curve)


def top_k_levels(study: Study, _: View) -> Drawing:
    """Mean L_attn of both models over the K heads with the largest Δ_rel."""
    figure = heads.level_curve(study.curve, len(study.ranking))
    what = "Mean L_attn of both models over the K heads of largest Δ_rel, on triggered prompts"
    named = "top-k-levels", "Top-K curve: L_attn of both models"
    return _drawing(study, named, _banded(study, what), figure, lambda: study.curve)


DRAWN: dict[str, tuple[Callable[..., Drawing], ...]] = {
    MapView.kind: (averaged_map, zones_by_layer),
    HeadView.kind: (head_matrix, head_maps, top_k_ratio, top_k_levels),
}
"""Command -> the figures that its page draws and that it writes."""


def selected_head(study: Study, view: HeadView) -> Head:
    """The head that the view names, or the one with the largest Δ_rel."""
    if view.head is not None:
        return view.head
    first = study.ranking.iloc[0]
    return int(first["layer"]), int(first["head"])


def dropped_most(study: Study, view: MapView) -> MapView:
    """The same view over the top eighth of heads by Δ_rel, of those above the floor."""
    table = study.ranking[study.ranking["kept"]].head(top_heads(len(study.ranking)))
    chosen = table[["layer", "head"]].itertuples(index=False, name=None)
    return replace(view, heads=tuple((int(layer), int(head)) for layer, head in chosen))


def map_panels(study: Study, view: MapView) -> Panels:
    """Rows original, suspect and suspect - original; one column per condition."""
    rows: Panels = [[], [], []]
    for condition in view.conditions:
        shown = {}
        for row, which in enumerate(MODELS):
            amap = maps.keep_parts(study.maps[which, condition], view.parts)
            values = maps.averaged(amap, view.layers, view.heads)
            axis, labels = amap.parts, amap.labels
            if view.pool:
                values, axis = maps.pooled(values, axis)
                labels = axis if len(axis) != len(amap.parts) else labels
            shown[which] = values
            mean = l_attn(study, which, condition, view.layers, view.heads)
            note = "no trigger" if mean is None else f"L_attn {mean:.4f}"
            title = f"{which} · {condition}"
            rows[row].append(Panel(title, values, axis, labels, note))
        change = shown["suspect"] - shown["original"]
        title = f"suspect − original · {condition}"
        rows[2].append(Panel(title, change, axis, labels, difference=True))
    return rows


def full_panels(pair: ModelPair, prompt: TokenizedPrompt, head: Head) -> Panels:
    """One head on one prompt, every token: original, suspect and suspect - original.

    If the prompt has more than `WHOLE_TOKENS` tokens, only those around the trigger are drawn. The
    titles say which.
    """
    layer, number = head
    window = on_text.window(prompt, WHOLE_TOKENS)
    cut = "" if window == slice(0, len(prompt.ids)) else _format_window(window, len(prompt.ids))
    panels = []
    for which in MODELS:
        amap = maps.full_pattern(pair, which, prompt, layer)
        # A copy: a view would keep the patterns of all heads, and of all tokens, in memory.
        values = np.array(amap.values[0, number, window, window])
        panels.append(Panel(f"{which}{cut}", values, amap.parts[window], amap.labels[window]))
    change = panels[1].values - panels[0].values
    parts, labels = panels[0].parts, panels[0].labels
    title = f"suspect − original{cut}"
    panels.append(Panel(title, change, parts, labels, difference=True))
    return [panels]


def _format_window(window: slice, n: int) -> str:
    return f" · tokens {window.start} to {window.stop - 1} of {n}"


def _maps(study: Study, named: Named, panels: Sequence, what: str, side: int) -> Drawing:
    drawn = map_grid(panels, side=side)
    return _drawing(study, named, what, drawn, lambda: panel_table(panels), panels)


def _drawing(
    study: Study,
    named: Named,
    what: str,
    figure: go.Figure,
    table: Callable[[], pd.DataFrame],
    panels: Panels | None = None,
) -> Drawing:
    origin = sentence_of(study.facts, study.facts["question"])
    about = about_of(study.facts, study.facts["question"])
    return Drawing(*named, figure, table, what.strip(), origin, panels, study.unfinished, about)


def _of(drawn: Drawing, **more: str) -> Drawing:
    """The drawing with more words on what it is of."""
    return replace(drawn, about={**drawn.about, **more})


def _heads_in_short(view: MapView) -> str:
    """`L2H3,L2H7`, `layers 2-3`."""
    return format_heads(view.heads) if view.heads else f"layers {format_layers(view.layers)}"


def _banded(study: Study, what: str) -> str:
    if study.facts["n_prompts"] == 1:
        return f"{what}; one prompt, so no bands."
    return f"{what}; bands: 95 % bootstrap over prompts, {RESAMPLES:,} resamples."
