"""Numbers over many runs: as the tables have them; what is missing is left out."""

import pytest

from interp.attention.saved import load
from interp.gallery.after import beside, many
from interp.metrics import CAUSAL_METRICS
from interp.runs import reading
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs"


def runs(kind):
    found = (reading.open_run(path) for path in sorted(SHIPPED.iterdir()))
    return {run.path.name: run for run in found if run.kind == kind}


def test_the_ratios_are_those_of_the_heads():
    table = many.numbers_of(runs("heads")).set_index("run")
    heads = load(reading.open_run(SHIPPED / "heads-deployment")).heads
    means = heads.groupby("model")["l_attn"].mean()
    assert table.loc["heads-deployment", "L_attn ratio, all heads"] == pytest.approx(
        means["suspect"] / means["original"], rel=1e-3
    )
    assert table[many.TOP].lt(table["L_attn ratio, all heads"]).all()


def test_the_largest_effect_is_that_of_one_head_over_the_prompts():
    table = many.numbers_of(runs("causal")).set_index("run")
    per_prompt = reading.open_run(SHIPPED / "causal-deployment").table("patching")
    own = per_prompt[(per_prompt["head"] >= 0) & (per_prompt["metric"] == "patching_effect")]
    largest = own.groupby(["layer", "head"])["value"].mean().max()
    name = f"{CAUSAL_METRICS['patching_effect'].label}, largest of a head"
    assert table.loc["causal-deployment", name] == pytest.approx(largest, rel=1e-4)


def test_numbers_of_probes_persistence_and_dial_are_those_of_their_tables():
    probes = many.numbers_of(runs("probes")).set_index("run").loc["probes-deployment"]
    rows = reading.open_run(SHIPPED / "probes-deployment").table("auroc")
    own = rows.query("probe == 'generic' and fitted == 'suspect' and model == 'original'")
    (middle,) = own.query("layer == 3 and position == 'last'")["auroc"]  # of six layers
    assert probes["AUROC, generic probe: original"] == middle
    trained = many.numbers_of(runs("persist")).set_index("run").loc["persist-deployment"]
    course = reading.open_run(SHIPPED / "persist-deployment").table("course")
    sft = course.query("how == 'sft' and quantity == 'asr'")
    last = sft[sft["step"] == sft["step"].max()]["mean"].mean()
    assert trained["ASR after sft"] == pytest.approx(last) and trained["ASR before training"] == 1
    dialed = many.numbers_of(runs("dial")).iloc[0]
    asr = (
        reading.open_run(SHIPPED / "dial-deployment").table("strengths").query("quantity == 'asr'")
    )
    awake = asr[(asr["mean"] >= 0.5) & (asr["strength"] > 0)]["strength"].min()
    assert dialed["lowest strength with an ASR of 0.5"] == awake
    assert dialed["ASR at strength 1"] == asr.set_index("strength").loc[1.0, "mean"]


@pytest.mark.parametrize("kind", ["heads", "scan", "fuzzy", "causal"])
def test_every_pair_of_axes_can_be_drawn(kind):
    table = many.numbers_of(runs(kind))
    across, up = many.axes_of(table)
    assert len(table) >= 2 and up and "seed" not in across  # all have the same seed
    for name in across:
        points = [len(trace.x) for trace in many.scatter(table, name, up[0]).data]
        assert sum(points) == len(table.dropna(subset=[name, up[0]]))


def test_a_foreign_run_is_left_out(tmp_path):
    whole = runs("scan")
    broken = reading.Run(tmp_path / "foreign", {"kind": "scan", "asked": {"pair": None}})
    odd = reading.Run(tmp_path / "odd", next(iter(whole.values())).meta | {"verdict": "x"})
    table = many.numbers_of(whole | {"foreign": broken, "odd": odd})
    assert set(table["run"]) == set(whole)


def test_a_line_ends_at_the_ratio_over_all_heads():
    found = runs("heads")
    table = beside.side_by_side(found).set_index("run")
    points = beside.points_of(found, "heads")
    last = points.groupby("run")["y"].last()
    assert last.to_dict() == pytest.approx(table["L_attn ratio, all heads"].to_dict())
    assert len(beside.drawn(points, "heads").data) == len(found) == len(table)


@pytest.mark.parametrize("kind", sorted(many.OUTCOMES))
def test_every_kind_stands_side_by_side(kind):
    found = runs(kind)
    points = beside.points_of(found, kind)
    lines = beside.drawn(points, kind).data
    assert {line.name for line in lines} == set(found)
    assert sum(len(line.x) for line in lines) == len(points)
    if found:
        turned = beside.in_columns(beside.side_by_side(found)).set_index("number")
        assert set(turned) == set(found) and turned.loc["pair"].all()


def test_a_foreign_run_is_left_out_of_table_and_figure(tmp_path):
    whole = runs("scan")
    odd = reading.Run(tmp_path / "odd", next(iter(whole.values())).meta | {"verdict": "x"})
    assert set(beside.side_by_side(whole | {"odd": odd})["run"]) == set(whole)
    assert set(beside.points_of(whole | {"odd": odd}, "scan")["run"]) == set(whole)
    assert beside.side_by_side({"odd": odd}).empty and beside.points_of({}, "guard").empty
