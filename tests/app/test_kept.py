"""Kept figures: of the study that they were drawn from, and as they were drawn."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import shared
from app.state import figure_cache
from interp.attention import saved, view
from interp.attention.study import Study
from interp.gallery import drawings
from interp.runs.reading import open_run
from interp.specs import ROOT


@pytest.fixture(autouse=True)
def fresh_caches():
    shared.forget()


@pytest.fixture
def study() -> Study:
    return saved.load(open_run(ROOT / "assets/runs/heads-deployment"))


def test_a_drawing_is_made_once_a_study_and_a_view(study):
    first = figure_cache.drawn(drawings.head_matrix, study, view.HeadView())
    assert figure_cache.drawn(drawings.head_matrix, study, view.HeadView()) is first
    assert figure_cache.drawn(drawings.head_matrix, study, view.HeadView(head=(1, 1))) is not first


def test_a_study_measured_anew_is_drawn_anew(study):
    """As when the adapter's files were overwritten while it was measured."""
    figure_cache.drawn(drawings.head_matrix, study, view.HeadView())
    changed = replace(study, heads=study.heads.assign(l_attn=study.heads["l_attn"] ** 2))
    drawn = figure_cache.drawn(drawings.head_matrix, changed, view.HeadView())
    plain = drawings.head_matrix(changed, view.HeadView())
    assert drawn.figure.to_json() == plain.figure.to_json()


def test_no_page_changes_a_figure_that_others_get():
    """The lesson shows the matrix of Heads and Causes in its own type."""
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update({"pair": "deployment", "step": "4. Find the heads"})
    at.switch_page("app/pages/lesson.py").run()
    assert not at.exception
    figures = {
        key: (value[0].figure, value[-1])
        for key, (value, _) in figure_cache.memo()._kept.items()
        if key[0] == "drawn"
    }
    assert any(key[2] == "large_head_matrix" for key in figures)
    for figure, as_drawn in figures.values():
        assert isinstance(figure, go.Figure) and figure.to_json() == as_drawn
