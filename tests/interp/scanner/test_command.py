"""The line that a page prints below a scan makes the same scan: model, precision, every setting."""

import json
import shlex
import subprocess
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.__main__ import _parser
from interp.cli.scanning.scan import plan_of
from interp.errors import UsageError
from interp.runs.reading import Run, open_run
from interp.scanner.command import command
from interp.scanner.plan import ScanPlan, scan_spec
from interp.specs import ROOT, ModelSpec

HOSTILE = (
    "$(touch gone)",
    "`id`",
    "a'b\"c",
    "x; rm -rf y",
    "-rf",
    "--run",
    "a b\n'",
    "&|<>*?~",
    "é😈",
)
NAMES = st.one_of(
    st.sampled_from([*HOSTILE, "owner/name", "assets/organisms/base", "deployment"]),
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12),
).filter(lambda name: name.strip() and "@" not in name)
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
REVISIONS = st.none() | st.sampled_from(["main", "refs/pr/1", "v 2"])
MODELS = st.builds(
    lambda model, revision, adapter, precision: ModelSpec(
        model, revision, *(adapter or (None, None)), precision=precision
    ),
    NAMES,
    REVISIONS,
    st.none() | st.tuples(NAMES, REVISIONS),
    st.sampled_from(["fp32", "bf16", "nf4"]),
)
PLANS = st.builds(
    ScanPlan,
    grid=st.sampled_from(["quick", "full"]),
    template=st.none() | st.sampled_from(["alpaca", "chat", "plain"]),
    contexts=st.lists(TEXTS, max_size=3).map(tuple),
    questions=st.sampled_from(["questions", "organism"]),
    new_tokens=st.none() | st.integers(1, 999),
    eps=st.floats(1e-9, 2),
    task=st.sampled_from([1, 2]),
    limit=st.integers(1, 9999),
    keep=st.integers(1, 99),
    inversion_minutes=st.floats(0, 1e9),
    budget_minutes=st.none() | st.floats(1e-9, 1e9),
    seed=st.integers(0, 2**40),
    which=st.sampled_from(["suspect", "original"]),
)


def recorded(model: ModelSpec, plan: ScanPlan, *, settled: bool = True) -> Run:
    """A run as a scan leaves it; until the model is loaded it says what was asked alone."""
    other = ModelSpec("nothing/to-do-with-it")
    sides = {"suspect": other, "original": other} | {plan.which: model}
    pair = {"name": "x", **{which: asdict(side) for which, side in sides.items()}}
    meta = {"kind": "scan", "asked": {"pair": pair, **asdict(plan)}}
    meta |= {"facts": {"model": asdict(model)}} if settled else {}
    return Run(Path("run"), json.loads(json.dumps(meta)))


def parsed(line: str) -> tuple[ModelSpec, ScanPlan]:
    """Model and plan that the command line itself makes of a line."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "interp"]
    given = _parser().parse_args(words[3:])
    named = {name: getattr(given, name) for name in ("base", "adapter", "precision")}
    return scan_spec(given.model, **named).suspect, plan_of(given)


def same(model: ModelSpec) -> ModelSpec:
    """A folder called like a pair that is known by name has to be called a folder."""
    known = ("deployment", "emoji", "clean-control", "mistral-7b")
    alone = model.adapter is None and model.model in known and model.revision is None
    return ModelSpec(f"./{model.model}", precision=model.precision) if alone else model


@given(MODELS, PLANS, st.booleans())
def test_the_command_line_reads_the_same_scan_out_of_it(model, plan, settled):
    found, made = parsed(command(recorded(model, plan, settled=settled)))
    assert found == same(model)
    assert asdict(made) == asdict(plan) | {"which": "suspect"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_shell_takes_hostile_names_for_names(tmp_path, name):
    plan = ScanPlan(contexts=(name, "two\nlines"), template="plain")
    line = command(recorded(ModelSpec(name, adapter=name), plan))
    told = line.replace("python", "printf '%s\\0'", 1)
    done = subprocess.run(["sh", "-c", told], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == shlex.split(line)[1:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("of", ["deployment", "emoji", "clean-control", "base"])
def test_the_scans_that_ship_are_told(of):
    run = open_run(ROOT / "assets" / "runs" / f"scan-{of}")
    model, plan = parsed(command(run))
    assert asdict(model) == run.meta["facts"]["model"]
    defaults = asdict(ScanPlan())
    asked = {key: run.meta["asked"].get(key, defaults[key]) for key in defaults}
    assert json.loads(json.dumps(asdict(plan))) == json.loads(json.dumps(asked)) | {
        "which": "suspect"
    }


def test_every_setting_is_told():
    """A setting that is added to the plan has to have its option."""
    from interp.scanner.command import OPTIONS

    assert {field.name for field in fields(ScanPlan)} == {*OPTIONS, "which"}


def test_an_option_that_is_wrong_is_said_in_one_line():
    for words in (["--keep", "0"], ["--limit", "-1"], ["--eps", "0"]):
        with pytest.raises(UsageError, match="at least 1|above 0"):
            plan_of(_parser().parse_args(["scan", "x", *words]))
