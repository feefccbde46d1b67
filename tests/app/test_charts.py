"""Figures as the browser gets them: the same figure, and nothing that makes it drawn twice."""

import gc
import json
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly import io

from app.drawing import charts
from interp.gallery.registry import drawn, figures_of
from interp.runs.reading import open_run
from interp.specs import ROOT
from interp.style import presets

RUNS = ("heads-deployment", "causal-deployment", "scan-deployment", "zoo")


def figures(name: str):
    run = open_run(ROOT / "assets/runs" / name)
    return [drawn(run, shown) for shown in figures_of(run)]


def sent(figure: go.Figure) -> dict:
    return json.loads(figure.to_json())


def parts(value):
    """Every part of a figure, whole ones before what they hold."""
    yield value
    for part in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from parts(part)


def values(part) -> list:
    """An array as it was before it was packed."""
    if isinstance(part, dict) and "bdata" in part:
        flat = np.frombuffer(b64decode(part["bdata"]), part["dtype"])
        return flat.reshape([int(n) for n in part.get("shape", f"{flat.size}").split(",")]).tolist()
    return part


def unpacked(value):
    value = values(value)
    if isinstance(value, dict):
        return {key: unpacked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [unpacked(part) for part in value]
    return None if value != value else value  # NaN, which a list holds as null


@pytest.mark.parametrize("name", RUNS)
def test_a_page_s_figure_is_the_same_one_and_plotly_can_compare_it(name):
    for figure in figures(name):
        made = sent(charts.written_out(figure, charts.page_look(False), {}))
        assert not {"template", "meta"} & set(made["layout"])
        assert made["layout"]["datarevision"] == 1
        packed = [part for part in parts(made) if isinstance(part, dict) and "bdata" in part]
        assert all("shape" in part for part in packed)
        was = sent(figure)
        assert unpacked(made["data"]) == unpacked(was["data"])
        assert made["layout"]["font"]["color"] == charts.INK[0]
        unseen = ("template", "meta")
        own = {key: value for key, value in was["layout"].items() if key not in unseen}
        assert_holds(made["layout"], own)


def assert_holds(now: dict, own: dict):
    """What a figure sets itself stays."""
    for key, value in own.items():
        if isinstance(value, dict):
            assert_holds(now[key], value)
        else:
            assert now[key] == value, key


@pytest.mark.parametrize("theme", ["light", "dark", None])
def test_what_is_sent_goes_with_the_theme_and_lives_with_the_figure(theme, monkeypatch):
    monkeypatch.setattr(charts.st, "context", SimpleNamespace(theme=SimpleNamespace(type=theme)))
    figure = go.Figure(figures("heads-deployment")[0])  # the gallery keeps its own
    before = figure.to_json()
    made = charts.on_page(figure, clicked=True)
    assert made.layout.font.color == charts.INK[theme == "dark"]
    assert made.layout.clickmode == "event+select"
    assert charts.on_page(figure, clicked=True) is made
    assert charts.on_page(figure, clicked=False).layout.clickmode is None
    set_in = charts.as_set(presets.styled(figure, presets.style_of("paper")))
    assert set_in.layout.width and "template" not in sent(set_in)["layout"]
    assert figure.to_json() == before
    held = len(charts._SENT)
    del figure
    gc.collect()
    assert len(charts._SENT) <= held - 2


def test_every_axis_and_colour_bar_has_the_page_s_look():
    axes = {name: {"showgrid": False} for name in ("yaxis12", "xaxis3")}
    figure = go.Figure(layout=axes | {"coloraxis2": {"cmin": 0}})
    layout = sent(charts.written_out(figure, charts.page_look(False), {}))["layout"]
    for name in ("xaxis", "xaxis3", "yaxis", "yaxis12"):
        assert layout[name]["gridcolor"] == charts.FAINT[0]
    assert layout["yaxis12"]["showgrid"] is False
    assert layout["coloraxis2"]["colorbar"]["thickness"] == 16


def test_a_style_s_template_is_written_out():
    """Against Plotly's own account of what the template sets."""
    bars = go.Figure([go.Bar(x=np.arange(3.0), y=[1, 2, 3]), go.Heatmap(z=np.eye(3))])
    bars.add_annotation(x=1, y=2, text="here", showarrow=True)
    figure = presets.styled(bars, presets.style_of("web"))
    assert figure.layout.template == io.templates["plotly_white"]
    template = figure.layout.template.to_plotly_json()
    made = sent(charts.written_out(figure, template["layout"], template["data"]))
    assert "template" not in made["layout"]
    assert made["data"][0]["marker"]["line"] == template["data"]["bar"][0]["marker"]["line"]
    assert made["data"][1]["colorbar"]["ticks"] == ""
    assert made["layout"]["colorway"] == list(template["layout"]["colorway"])
    own = template["layout"]["annotationdefaults"]
    assert made["layout"]["annotations"][0].items() >= own.items()
    assert made["layout"]["xaxis"]["linecolor"] == template["layout"]["xaxis"]["linecolor"]


def test_a_figure_is_made_into_plain_values_once():
    sent_figure = charts.written_out(figures("zoo")[0], charts.page_look(False), {})
    plain = sent_figure.to_dict()
    assert sent_figure.to_dict() is plain
    anew = go.Figure.to_dict(sent_figure)
    assert io.to_json(plain, validate=False) == io.to_json(anew, validate=False)
