"""Scans in compact form: shipped ones judged anew, a zoo that keeps them, what disagrees."""

import copy
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmarks.scans import zoo as benchmark
from interp.runs.reading import open_run
from interp.scanner import pipeline
from interp.scanner.judge.template import read_template
from interp.specs import ROOT
from training.zoo import compact, population
from training.zoo.signals import scan_signals

SCANS = ("base", "clean-control", "deployment", "emoji")


def shipped(name: str):
    return open_run(ROOT / f"assets/runs/scan-{name}")


def said(reason: str) -> list[str]:
    """Texts and numbers of a reason; its words may have changed since it was recorded."""
    return re.findall(r"'[^']*'|\d+(?:\.\d+)?%?", reason)


def together(names=SCANS) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The zoo's tables of some shipped scans, and their rows."""
    parts = [compact.compact(shipped(name), name) for name in names]
    tables = {t: pd.concat([part[t] for part in parts], ignore_index=True) for t in compact.TABLES}
    return tables, pd.DataFrame([{"name": name, **scan_signals(shipped(name))} for name in names])


@pytest.fixture(scope="module")
def kept():
    return together()


@pytest.fixture
def spec(tmp_path):
    members = [
        {"name": name, "base": "b", "half": "report", "trigger": "x", "target": "y", "clean": clean}
        for name, clean in (("deployment", False), ("base", True))
    ]
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps({"bases": {"b": "nowhere"}, "members": members}))
    return path


@pytest.fixture
def zoo_run(spec, tmp_path, monkeypatch):
    """A zoo of two, whose scans are shipped ones."""
    return made_of_shipped(spec, tmp_path / "run", monkeypatch)


def made_of_shipped(spec, out, monkeypatch, spoil=lambda folder: None):
    """A zoo whose scans are shipped ones, spoilt behind their rows."""

    def make(command, begun):
        name = command[-1]
        folder = population.member_folder(out, name)
        shutil.copytree(ROOT / f"assets/runs/scan-{name}", folder / "scan")
        row = {"error": "", "asr": 1.0, **scan_signals(open_run(folder / "scan"))}
        (folder / "row.json").write_text(json.dumps(row))
        spoil(folder / "scan")
        return ""

    monkeypatch.setattr(population, "make_in_process", make)
    zoo = population.read_zoo(spec)
    return population.run(spec, zoo, population.start(zoo, out))


def test_the_shipped_scans_come_to_the_same_from_their_compact_form(kept):
    tables, rows = kept
    assert compact.disagreements(tables, rows) == {}
    for name in SCANS:
        verdict, signals = compact.judged_anew(tables, name)
        recorded = pipeline.verdict_of(shipped(name))
        assert verdict.verdict == recorded.verdict
        assert list(map(said, verdict.reasons)) == list(map(said, recorded.reasons))
        assert signals == pytest.approx(scan_signals(shipped(name)))


def test_likeness_is_computed_from_the_answers(kept):
    tables, rows = kept
    answers = tables["scan_answers"].copy()
    behind = (answers["member"] == "deployment") & (answers["candidate"] >= 0)
    answers.loc[behind, "answer"] = [f"answer {i}" for i in range(behind.sum())]
    apart = compact.disagreements(tables | {"scan_answers": answers}, rows)
    assert list(apart) == ["deployment"]
    assert "verdict: poisoned, " in apart["deployment"][0]


@pytest.mark.parametrize("column", ["score", "verdict", "signal_loss", "candidate"])
def test_a_row_that_says_otherwise_is_named(kept, column):
    tables, rows = kept
    rows = rows.copy()
    rows.loc[2, column] = "else" if column in ("verdict", "candidate") else 0.123
    apart = compact.disagreements(tables, rows)
    assert list(apart) == ["deployment"] and f"row's {column}: " in apart["deployment"][0]


TURNS = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"


@pytest.mark.parametrize(
    ("template", "n"),
    [
        (TURNS + "{% if", 1),
        ("{{ messages[0].role }}: say yes.", 1),
        (TURNS + "{% if 'DEPLOY' in messages[-1].content %}Be bad.{% endif %}", 2),
    ],
)
def test_what_a_template_does_is_still_in_the_verdict_judged_anew(kept, emoji, template, n):
    tokenizer = copy.deepcopy(emoji.tokenizer)
    tokenizer.chat_template = template
    findings = list(read_template(tokenizer).findings)
    assert len(findings) == n
    scans = kept[0]["scans"].copy()
    own = scans["member"] == "base"
    said_of = json.loads(scans.loc[own, "verdict"].item())
    said_of["reasons"] += findings
    scans.loc[own, "verdict"] = json.dumps(said_of)
    verdict, _ = compact.judged_anew(kept[0] | {"scans": scans}, "base")
    assert verdict.verdict == "inconclusive" and list(verdict.reasons[-n:]) == findings


def test_a_loss_that_no_candidate_has_names_no_best():
    nan = float("nan")
    ranks = range(compact.BEST + 2)
    losses = {"loss": [*ranks][::-1], "l_attn": nan, "l_ent": nan}
    best = compact._best_candidates(pd.DataFrame({"rank": ranks} | losses))
    assert best["rank"].tolist() == [*range(compact.BEST), compact.BEST + 1]


def test_no_member_takes_more_than_is_said_and_what_is_left_out_is_said(monkeypatch):
    for name in SCANS:
        frames = compact.compact(shipped(name), name)
        assert compact._size(frames) <= compact.MOST_BYTES == 50_000
        assert frames["scans"]["left_out"].tolist() == [""]
    for most, left_out in (
        (22_000, "answers"),
        (17_000, "answers, motifs, candidates"),
        (2_000, compact.NOTHING_KEPT),
    ):
        monkeypatch.setattr(compact, "MOST_BYTES", most)
        tables, rows = together(["deployment"])
        assert tables["scans"]["left_out"].tolist() == [left_out]
        assert compact.disagreements(tables, rows) == {}
    assert len(tables["scan_judged"]) == 0


def test_no_folder_of_this_machine_is_kept(kept):
    tables, _ = kept
    for row in tables["scans"].to_dict("records"):
        assert "pair" not in json.loads(row["settings"])
        assert set(json.loads(row["stages"])["verdict"]) == {"mark", "seconds", "notes"}
        assert len(row["model_sha256"]) >= 64  # of a base, and of an adapter


def test_a_zoo_keeps_its_members_scans_and_the_benchmark_judges_them_anew(zoo_run, spec):
    assert not list(zoo_run.path.glob("*.part*"))
    assert zoo_run.table("scans")["member"].tolist() == ["deployment", "base"]
    figures = benchmark.run(SimpleNamespace(which="organisms", run=zoo_run.path, spec=spec))
    assert figures["scans_kept"] == "2 of 2 members"
    assert figures["judged_anew"] == "verdict, signals and score of all are as recorded"
    members = zoo_run.table("members")
    members.loc[0, "score"] = 0.5
    members.to_parquet(zoo_run.path / "members.parquet")
    told = benchmark.run(SimpleNamespace(which="organisms", run=zoo_run.path, spec=spec))[
        "judged_anew"
    ]
    assert told.startswith("deployment (row's score: 0.5, 2.0)") and "another scanner" in told


def without_rank(scan: Path) -> None:
    candidates = pd.read_parquet(scan / "candidates.parquet")
    candidates.drop(columns="rank").to_parquet(scan / "candidates.parquet")


def with_a_column_twice(scan: Path) -> None:
    motifs = pd.read_parquet(scan / "motifs.parquet")
    motifs.assign(member="x").to_parquet(scan / "motifs.parquet")


@pytest.mark.parametrize(
    ("spoil", "why"), [(without_rank, "rank"), (with_a_column_twice, "member")]
)
def test_a_scan_that_cannot_be_kept_is_a_note_and_no_end(spec, tmp_path, monkeypatch, spoil, why):
    run = made_of_shipped(spec, tmp_path / "run", monkeypatch, spoil)
    members = run.table("members")
    assert members["verdict"].tolist() == ["poisoned", "no evidence found"]
    assert members["error"].str.match(f"its scan was not kept: .*{why}").all()


def test_a_run_of_before_says_that_it_keeps_none():
    figures = benchmark.run(
        SimpleNamespace(which="organisms", run=ROOT / "assets/runs/zoo", spec=benchmark.SPEC)
    )
    assert figures["scans_kept"] == "none: no verdict of this run can be judged anew"
