"""Figures and tables of a study: attention maps and heads."""

from dataclasses import replace
from functools import lru_cache

import pandas as pd

from interp.attention import saved, summary
from interp.attention.heads import ZONES
from interp.attention.study import Study
from interp.attention.view import HeadView, MapView, head_view, map_view
from interp.figures import heads
from interp.figures.fit import fitted
from interp.gallery import drawings
from interp.gallery.entries import ROWS, FigureEntry, Kind
from interp.runs.reading import Run, open_run
from interp.style.presets import Style

NARROW = 480.0
"""Pixels; in a narrower figure the panels are stacked."""


def _study_figures(run: Run) -> list[FigureEntry]:
    return list(_kept(str(run.path), str(run.meta["ended"])))


@lru_cache(maxsize=2)
def _kept(path: str, _: str) -> tuple[FigureEntry, ...]:
    """Figures of a finished run, cached: its maps are read and its bands resampled only once."""
    run = open_run(path)
    study = saved.load(run)
    maps, one = _views(run, study)
    made = [
        drawings.averaged_map(study, maps),
        drawings.zones_by_layer(study, maps),
        drawings.head_matrix(study, one),
        drawings.head_maps(study, one),
    ]
    if study.has_curve:
        made += [drawings.top_k_ratio(study, one), drawings.top_k_levels(study, one)]
    return tuple(_of_study(study, drawing) for drawing in made)


def _of_study(study: Study, drawing: drawings.Drawing) -> FigureEntry:
    fit = None
    if drawing.panels is not None:
        fit = lambda style: fitted(drawing.panels, style)  # noqa: E731
    if drawing.name == "zones-by-layer":
        fit = lambda style: {"": _zones(study, style)}  # noqa: E731
    return FigureEntry(
        drawing.name, drawing.title, drawing.what, drawing.table, lambda: drawing.figure, fit
    )


def _zones(study: Study, style: Style):
    return heads.zones_by_layer(study.heads, ZONES, stacked=style.width < NARROW)


def _study_tables(run: Run) -> dict[str, pd.DataFrame]:
    study = saved.load(run)
    tables = {"ranking": summary.ranking_table(study).head(ROWS)}
    if study.has_curve:
        ratios = summary.ratio_table(study)
        tables["ratio"] = ratios.rename(columns={"heads": "share of heads"})
    return tables


def _views(run: Run, study: Study) -> tuple[MapView, HeadView]:
    """The views recorded in the run, with defaults for what is missing."""
    n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
    asked = run.meta["asked"].get("view") or {}
    maps = map_view(n_layers, n_heads)
    if run.kind == MapView.kind and asked.get("layers"):
        maps = replace(
            maps,
            layers=tuple(asked["layers"]),
            heads=tuple(tuple(head) for head in asked["heads"]),
            **{name: tuple(asked[name]) for name in ("conditions",)},
            **{name: bool(asked[name]) for name in ("sink", "response", "pool")},
        )
    one = head_view(n_layers, n_heads)
    if run.kind == HeadView.kind and asked.get("head"):
        one = replace(one, head=tuple(asked["head"]))
    return maps, one


def _study_command(run: Run) -> str:
    study, asked = saved.load(run), run.meta["asked"].get("view") or {}
    maps, one = _views(run, study)
    if run.kind == MapView.kind:
        return summary.command(study, maps)
    more = {name: asked[name] for name in ("metric", "whole", "answer") if name in asked}
    return summary.command(study, replace(one, **more))


ATTENTION = Kind("Attention maps", _study_figures, _study_tables, _study_command)
HEADS = replace(ATTENTION, title="Heads")
