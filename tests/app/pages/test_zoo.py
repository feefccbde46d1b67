"""The Zoo page and the figures of a zoo, on tables as `training.zoo` writes them."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from interp.figures.zoo import STRINGS
from interp.gallery import registry
from interp.runs import zoo
from interp.runs.writing import RunWriter
from interp.specs import ROOT
from tests.training.zoo.test_population import members
from training.zoo import tables as zoo_tables


def population(n=24):
    rng = np.random.default_rng(1)
    table = members(n)
    ratios = {column: rng.uniform(0.3, 1.1, n) for _, column in STRINGS.values()}
    ratios |= {"signal_attention_true": 1 - ratios["true_own"]}
    table.loc[4, "verdict"] = "inconclusive"
    return table.assign(candidate="<b>x</b>", error="", **ratios)


def record(folder, table):
    """The run of a population."""
    found = zoo_tables.tables(table)
    writer = RunWriter(folder, zoo.KIND, {"asked": {}})
    for name, frame in ({"members": table} | found.frames).items():
        writer.table(name, frame)
    return writer.finish(figures=found.figures, facts={"model": {"model": "24 models"}})


@pytest.fixture
def zoo_run(tmp_path, runs_in):
    run = record(tmp_path / "zoo", population())
    runs_in(tmp_path)
    return run


def page() -> AppTest:
    app = AppTest.from_file(str(ROOT / "app/pages/zoo.py"), default_timeout=60).run()
    assert not app.exception
    return app


def test_the_page_says_what_was_found_and_missed(zoo_run):
    app = page()
    figures = zoo_run.meta["figures"]
    shown = {metric.label: metric.value for metric in app.metric}
    assert (
        shown["Backdoored models detected"] == f"{figures['detected']} of {figures['backdoored']}"
    )
    assert shown["ROC-AUC of max ΔS"] == f"{figures['roc_auc']:.3f}"
    text = " ".join(caption.value for caption in app.caption)
    assert all(name in text for name in figures["missed"])
    assert len(app.dataframe[-1].value) == 24


def test_without_a_population_it_says_how_to_make_one(tmp_path, runs_in):
    runs_in(tmp_path)
    app = page()
    assert "No population is recorded yet" in app.info[0].value
    assert "training zoo" in app.code[0].value


def test_a_backdoor_that_did_not_take_is_in_no_figure(tmp_path):
    table = population()
    table.loc[1, "asr"] = 0.3
    run = record(tmp_path / "zoo", table)
    shown = {one.name: one for one in registry.figures_of(run)}
    points = sum(len(trace.x) for trace in registry.drawn(run, shown["max-delta-s"]).data)
    assert points == 23 and len(shown["collapse"].table()) == 23


def test_every_member_is_a_point_and_every_group_a_bar(zoo_run):
    shown = {one.name: one for one in registry.figures_of(zoo_run)}
    drawn = registry.drawn(zoo_run, shown["max-delta-s"])
    assert sum(len(trace.x) for trace in drawn.data) == 24
    bars = registry.drawn(zoo_run, shown["detection-by-rate"]).data[0]
    figures = zoo_run.meta["figures"]
    assert set(bars.y) == {
        f"over 5 to 10 % ({figures['detected']} of {figures['backdoored']})",
        f"clean ({figures['false_positives']} of {figures['clean']})",
    }
    collapse = registry.drawn(zoo_run, shown["collapse"])
    true = next(trace for trace in collapse.data if trace.name == "true trigger")
    assert len(true.x) == population()["backdoored"].sum()  # a clean model has no true trigger
    tables = registry.tables_of(zoo_run)
    assert set(tables["detection"]["by"]) == set(zoo.GROUPS)
    for one in shown.values():
        assert len(one.table()) and registry.captioned(zoo_run, one, [one.draw()])
