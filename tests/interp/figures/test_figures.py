"""Figures hold the numbers they were given, on shared scales, with text that is no markup."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp.figures import heads, maps
from interp.style import scales


def panel(scale=1.0, difference=False, label="a"):
    values = np.tril(np.ones((4, 4), np.float32)) * scale
    parts = ("trigger", "trigger", "instruction", "instruction")
    return maps.Panel("title", values, parts, (label, "b", "c", "d"), "L_attn 0.1", difference)


def heatmaps(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if isinstance(trace, go.Heatmap)]


def test_compared_panels_share_one_scale_and_differences_are_centred():
    figure = maps.map_grid([[panel(0.2), panel(0.4)], [panel(-0.3, True), None]])
    assert [m.coloraxis for m in heatmaps(figure)] == ["coloraxis", "coloraxis", "coloraxis2"]
    assert figure.layout.coloraxis.cmin == 0
    assert np.isclose(figure.layout.coloraxis.cmax, 0.4)
    assert figure.layout.coloraxis2.cmin == -figure.layout.coloraxis2.cmax


def test_the_map_shows_the_values_and_outlines_three_zones():
    figure = maps.map_grid([[panel(0.2)]])
    drawn = heatmaps(figure)[0].z
    assert np.allclose(np.nan_to_num(drawn), panel(0.2).values)
    assert np.isnan(drawn[np.triu_indices(4, 1)]).all()  # no token looks ahead: blank, not zero
    boxes = {(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes}
    assert boxes == {(-0.5, 1.5, -0.5, 1.5), (-0.5, 1.5, 1.5, 3.5), (1.5, 3.5, 1.5, 3.5)}


def test_a_note_is_set_with_a_subscript_where_it_crosses_no_frame():
    for n_trigger, n_instruction in ((2, 2), (1, 5), (5, 1)):
        parts = ("trigger",) * n_trigger + ("instruction",) * n_instruction
        values = np.tril(np.ones((len(parts), len(parts)), np.float32))
        one = maps.Panel("t", values, parts, tuple("abcdefgh"[: len(parts)]), "L_attn 0.1")
        note = next(n for n in maps.map_grid([[one]]).layout.annotations if n.text != "t")
        assert note.text == "L<sub>attn</sub><br>0.1" and note.xanchor == "right"
        edge = n_trigger / len(parts)  # of the blue frame
        assert note.x == pytest.approx((1 if n_instruction >= n_trigger else edge) - 0.02)


def test_symbols_are_set_with_subscripts_and_told_without():
    table = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "m": [0.5, -1.0]})
    figure = heads.head_matrix(table, "m", label="Δ_rel, random string", difference=True)
    assert figure.data[0].colorbar.title.text == "Δ<sub>rel</sub>, random string"
    assert "Colours: Δ_rel, random string from −1 to 1" in scales.sentence([figure])


def test_a_token_that_is_markup_stays_text():
    figure = maps.map_grid([[panel(label="<b onclick=x>")]])
    assert figure.layout.xaxis.ticktext[0] == "&lt;b onclick=x&gt;"
    assert "<b onclick" not in figure.to_json()


def test_the_head_matrix_can_be_clicked():
    table = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "m": [0.5, np.nan, -1, 0]})
    figure = heads.head_matrix(
        table, "m", label="m", difference=True, empty="left out", selected=(1, 0)
    )
    grid, markers = figure.data
    assert grid.hoverinfo == "skip" and markers.hoverinfo is None
    assert list(zip(markers.x, markers.y, strict=True)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert grid.zmin == -1 and grid.zmax == 1
    assert "left out" in markers.text[1]
    assert len(figure.layout.shapes) == 1


def test_published_figures_are_labelled_as_not_ours():
    rows = [("same prompts", k, "ratio", 0.5, 0.4, 0.6) for k in (4, 8)]
    curve = pd.DataFrame(rows, columns=["selection", "k", "quantity", "mean", "low", "high"])
    names = [trace.name for trace in heads.ratio_curve(curve, 48).data if trace.name]
    assert any("published" in name and "not measured here" in name for name in names)
    without = heads.ratio_curve(curve, 48, published=False)
    assert not any("published" in (trace.name or "") for trace in without.data)


def test_panel_table_is_tidy():
    table = maps.panel_table([[panel(0.2)], [None]])
    assert len(table) == 16
    assert table.query("query == 3 and key == 1")["weight"].item() == np.float32(0.2)


def test_grids_of_any_size_stay_within_the_figure():
    for n_rows, n_cols in ((6, 1), (1, 10), (19, 2), (2, 3)):
        figure = maps.map_grid([[panel() for _ in range(n_cols)] for _ in range(n_rows)])
        spans = [axis.domain for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
        assert len(spans) == 2 * n_rows * n_cols
        assert all(0 <= low < high <= 1 for low, high in spans)
