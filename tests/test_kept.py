"""Kept figures: of the study that they were drawn from, and as they were drawn."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from app import kept, shared
from interp import drawings, recorded, views
from interp.runs import open_run
from interp.specs import ROOT
from interp.study import Study


@pytest.fixture(autouse=True)
def fresh_caches():
    shared.forget()


@pytest.fixture
def study() -> Study:
    return recorded.load(open_run(ROOT / "assets/runs/heads-deployment"))


def test_a_drawing_is_made_once_a_study_and_a_view(study):
    first = kept.drawn(drawings.head_matrix, study, views.HeadView())
    assert kept.drawn(drawings.head_matrix, study, views.HeadView()) is first
    assert kept.drawn(drawings.head_matrix, study, views.HeadView(head=(1, 1))) is not first


def test_a_study_measured_anew_is_drawn_anew(study):
    """As when the adapter's files were overwritten while it was measured."""
    kept.drawn(drawings.head_matrix, study, views.HeadView())
    changed = replace(study, heads=study.heads.assign(l_attn=study.heads["l_attn"] ** 2))
    drawn = kept.drawn(drawings.head_matrix, changed, views.HeadView())
    plain = drawings.head_matrix(changed, views.HeadView())
    assert drawn.figure.to_json() == plain.figure.to_json()


def test_no_page_changes_a_figure_that_others_get():
    """The lesson shows the matrix of Heads and Causes in its own type."""
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update({"pair": "deployment", "step": "4. Find the heads that changed"})
    at.switch_page("app/pages/lesson.py").run()
    assert not at.exception
    figures = {
        key: (value[0].figure, value[-1])
        for key, (value, _) in kept.memo()._kept.items()
        if key[0] == "drawn"
    }
    assert any(key[2] == "head_matrix" for key in figures)
    for figure, as_drawn in figures.values():
        assert isinstance(figure, go.Figure) and figure.to_json() == as_drawn
