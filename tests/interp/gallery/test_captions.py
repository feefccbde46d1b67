"""What a caption says of a figure's scales is what the figure is drawn with, in every style."""

import itertools
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from interp.gallery.registry import captioned, figures_of, set_in
from interp.publish import compare
from interp.runs import reading
from interp.style import scales
from interp.style.presets import style_of

RUNS = sorted(file.parent for file in Path("assets/runs").glob("*/run.json"))
KINDS = {reading.open_run(path).kind: path for path in RUNS}
"""The last that ships of each kind."""
STYLES = [style_of("web"), style_of("slide"), style_of("paper"), style_of("paper", "170mm")]
PAIRS = {
    reading.open_run(one).kind: (one, other)
    for one, other in itertools.combinations(RUNS, 2)
    if compare.alike(reading.open_run(one).kind, reading.open_run(other).kind)
}
NUMBER = r"[−-]?[\d.]+(?:e[+-]?\d+)?"


def numbers(text: str) -> list[float]:
    return [float(one.replace("−", "-")) for one in re.findall(NUMBER, text)]


def drawn_limits(figures: list[go.Figure]) -> list[float]:
    """Every end of a colour scale, read from the charts as the browser gets them."""
    found = {}
    for figure in figures:
        plain = figure.to_plotly_json()
        for number, trace in enumerate(plain["data"]):
            marker = trace.get("marker") or {}
            if trace["type"] == "heatmap" and "coloraxis" in trace:
                axis = plain["layout"][trace["coloraxis"]]
                found[trace["coloraxis"]] = axis["cmin"], axis["cmax"]
            elif trace["type"] == "heatmap":
                found["map"] = trace["zmin"], trace["zmax"]
            elif "colorbar" in marker:
                colour = np.asarray(figure.data[number].marker.color, float)
                ends = marker.get("cmin", colour.min()), marker.get("cmax", colour.max())
                found["points"] = ends
    return [end for ends in found.values() for end in ends]


def told_limits(caption: str) -> list[float]:
    sentence = re.search(r"Colours: (.*?)(?:, at the|; what lies|\. )", caption + " ")
    told = re.findall(rf"({NUMBER}) to ({NUMBER})", sentence[1]) if sentence else []
    return [number for pair in told for number in numbers(" ".join(pair))]


def close(told: list[float], drawn: list[float]) -> bool:
    return len(told) == len(drawn) and np.allclose(told, drawn, rtol=6e-3, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_states_the_colour_limits_that_are_drawn(kind):
    run = reading.open_run(KINDS[kind])
    for shown, style in itertools.product(figures_of(run), STYLES):
        if shown.fit is None and style not in STYLES[::2]:
            continue  # of one layout in all styles
        figures = list(set_in(run, shown, style).values())
        caption = captioned(run, shown, figures)
        assert close(told_limits(caption), drawn_limits(figures)), (shown.name, style.name, caption)


def test_the_colours_of_a_map_are_those_of_the_web_in_every_style():
    run = reading.open_run("assets/runs/heads-deployment")
    (shown, *_) = figures_of(run)
    assert shown.name == "averaged-map"
    every = {
        tuple(sorted(scales.colours([figure]).items()))
        for style in STYLES
        for figure in set_in(run, shown, style).values()
    }
    ends = {title: limits for one in every for title, limits in one}
    assert all(ends[title] == limits for one in every for title, limits in one)


@pytest.mark.parametrize("kind", PAIRS)
def test_scales_said_to_be_shared_are_shared(kind):
    both = compare.compared(*map(reading.open_run, PAIRS[kind]))
    for name in both.figures:
        drawn = both.set_in(name, STYLES[2])
        captions = [both.caption(name, letter, drawn) for letter in "ab"]
        limits = [drawn_limits(list(figures.values())) for figures in drawn]
        for caption, its in zip(captions, limits, strict=True):
            assert close(told_limits(caption), its), (name, caption)
            _check_shared(caption, drawn, limits[0] == limits[1], name)


def _check_shared(caption: str, drawn, same_colours: bool, name: str) -> None:
    told = re.search(r"Scales the same as of '[^']*': ([^;]*?)(?:;|\.$)", caption)
    own = re.search(r"not the same: (.*)\.$", caption)
    same, own = (match[1] if match else "" for match in (told, own))
    assert "colours" not in same or same_colours, (name, caption)
    assert "colours" not in own or not same_colours, (name, caption)
    for letter, word in (("x", "horizontal axis"), ("y", "vertical axis")):
        found = [[axis_ranges(figure, letter) for figure in side.values()] for side in drawn]
        if word in same:
            assert found[0] == found[1] and all(found[0]), (name, caption)
            ends = re.search(rf"{word} \(([^)]*)\)", same)
            if ends:
                (only,) = {limits for part in found[0] for limits in part.values()}
                assert close(numbers(ends[1]), list(only)), (name, caption)
        elif word in own:
            assert found[0] != found[1] or not all(found[0])
        else:
            assert not any(any(part.values()) for part in found[0]), (name, word, caption)


def axis_ranges(figure: go.Figure, letter: str) -> dict[str, tuple | None]:
    """Name of each axis under points or bars of numbers -> where it begins and ends."""
    plain, found = figure.to_plotly_json(), {}
    for trace in figure.data:
        data = np.asarray(trace[letter]) if trace.type in ("scatter", "bar") else np.empty(0)
        if not len(data) or data.dtype.kind not in "fiu":
            continue
        name = (trace[f"{letter}axis"] or letter).replace(letter, f"{letter}axis")
        axis = plain["layout"].get(name, {})
        ends = axis.get("range")
        found[name] = ends and tuple(10**e if axis.get("type") == "log" else e for e in ends)
    return found


def test_bars_on_bars_are_compared_on_one_scale():
    """Losses have parts below zero: their sums reach further than each."""
    both = [
        go.Figure([go.Bar(x=[sign, 2 * sign], y=["a", "b"], orientation="h") for sign in signs])
        for signs in ((1, 3), (1, -5))
    ]
    for figure in both:
        figure.update_layout(barmode="relative")
    scales.share_axes(both)
    low, high = both[0].layout.xaxis.range
    assert both[1].layout.xaxis.range == (low, high) and low < -10 and high > 8


def test_a_comparison_does_not_call_its_limits_a_quantile():
    def one(top: float) -> go.Figure:
        figure = go.Figure(go.Heatmap(z=[[0.0, top]], coloraxis="coloraxis"))
        axis = {"cmin": 0, "cmax": top / 2, "colorbar": {"title": {"text": "mean weight"}}}
        return figure.update_layout(coloraxis=axis, meta={scales.CLIP: 0.995})

    both = [one(1.0), one(4.0)]
    alone = (
        "Colours: mean weight from 0 to 0.5, at the 99.5% quantile of all cells; what lies beyond"
    )
    assert scales.sentence(both[:1]).startswith(alone)
    scales.share_colours(both)
    assert scales.sentence(both[:1]) == "Colours: mean weight from 0 to 2."
    assert scales.shared_sentence(both[:1], both[1:], "x") == "Scales the same as of 'x': colours."


def test_a_scan_names_no_prompt_set():
    run = reading.open_run("assets/runs/scan-deployment")
    (shown, *_) = figures_of(run)
    caption = captioned(run, shown, [])
    assert "organism'" not in caption and "question set 'questions'" in caption
