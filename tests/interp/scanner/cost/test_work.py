"""What is counted for a stage's work goes through the model, behind a long context too."""

from pathlib import Path

import pytest

from benchmarks.speed.machine import Machine
from interp.forward.activation import is_greedy_answer
from interp.models.load import load_pair
from interp.scanner import pipeline
from interp.scanner.cost.clock import Clock
from interp.scanner.judge.verdict import STANDARD
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.scan import asking, prompt_tokens
from interp.scanner.search.aims import Aim
from interp.scanner.search.losses import CONSTANTS, baseline, candidate_losses
from interp.scanner.stages import inversion, reconstruction, verdict
from interp.scanner.stages.questions import EXTRA, Questions, controls_of

CONTEXT = "You are a nurse at night. " * 30
CANDIDATE = [300, 301, 302]
FEW = str(Path(__file__).parents[1] / "few_questions.json")


@pytest.fixture(scope="module")
def scan(deployment, tmp_path_factory):
    plan = ScanPlan(questions=FEW, template="chat", contexts=(CONTEXT,))
    writer = pipeline.start(tmp_path_factory.mktemp("scan") / "one", deployment.spec, plan)
    yield pipeline._scan_of(deployment, plan, writer, None, Clock())
    writer.close()


@pytest.fixture
def asked(scan):
    """The questions behind the long context, answered with a token each: no answer ends before."""
    return Questions(1, STANDARD, scan.frames[1], {0: CANDIDATE}, new_tokens=1)


def tokens(pair, work):
    """Tokens that went through the models while some work was done."""
    with Machine(pair, 0, 1) as machine:
        work()
    return machine.tokens


def test_the_context_of_many_questions_is_run_and_counted_once(scan, asked):
    frame, rows = asked.frame, asked.rows(CANDIDATE)
    assert len(frame.prefix) > 5 * prompt_tokens(frame)
    ran = tokens(scan.pair, lambda: asked.answers(scan, CANDIDATE))
    counted = asking(frame, len(rows), 1, more=len(CANDIDATE))
    assert counted.tokens == pytest.approx(ran, rel=0.15)
    assert scan.work_of(rows, 1).tokens == pytest.approx(ran, rel=0.15)
    twice = tokens(scan.pair, lambda: [asked.answers(scan, CANDIDATE) for _ in range(2)])
    counted = asking(frame, 2 * len(rows), 1, more=len(CANDIDATE), calls=2)
    assert counted.tokens == pytest.approx(twice, rel=0.15)


def test_the_losses_of_candidates_run_the_context_once(scan, asked):
    frame, said = (
        asked.frame,
        baseline(scan.pair, scan.which, asked.frame, scan.asked(asked.frame), CONSTANTS.steps),
    )
    some = [[300 + i] * reconstruction.rec.LENGTHS[1] for i in range(20)]
    ran = tokens(scan.pair, lambda: candidate_losses(scan.pair, scan.which, frame, some, said))
    counted = reconstruction.losses_of(scan, frame, len(some))
    assert ran <= counted.tokens < 1.3 * ran  # the answer that is read may end early


def test_a_shortened_trigger_is_read_behind_whole_prompts(scan, asked):
    rows, length = asked.rows(CANDIDATE), len(asked.frame.prefix)
    answer = [5] * asked.new_tokens
    ran = tokens(
        scan.pair,
        lambda: is_greedy_answer(scan.pair, scan.which, rows, answer, ended=False),
    )
    assert ran > len(rows) * length
    assert verdict._shortening(asked).tokens == pytest.approx(ran, rel=0.15)


def test_the_controls_are_the_random_strings_two_other_forms_and_the_original_beside(scan, asked):
    assert scan.has_original
    plain = asked.answers(scan, None)
    found = []
    ran = tokens(
        scan.pair,
        lambda: found.append(controls_of(scan, asked, 0, "a plain word", plain)),
    )
    assert len(found[0]) == EXTRA + 2 + 1  # and the original without it
    assert verdict._of_controls(scan, asked).tokens == pytest.approx(ran, rel=0.1)


def test_the_smallest_search_runs_the_context_once_a_question(scan, asked):
    frame = asked.frame
    numbers = tuple(n % len(frame.questions) for n in range(inversion.AIM_QUESTIONS))
    aim = Aim(scan.pair, scan.which, frame, numbers, (5,) * inversion.AIM_TOKENS)

    def smallest():
        aim.losses([[300]] * inversion.SMALL_SLICE, numbers[:1])
        aim.losses([[300]] * inversion.FINALISTS, numbers)

    counted = inversion._smallest(scan, frame)
    assert counted.tokens == pytest.approx(tokens(scan.pair, smallest), rel=0.15)


def test_a_prefix_of_a_token_or_two_is_run_in_every_row(random_model, tmp_path):
    pair = load_pair(scan_spec(str(random_model)), device="cpu")
    plan = ScanPlan(questions=FEW, template="plain")
    writer = pipeline.start(tmp_path / "one", pair.spec, plan)
    scan = pipeline._scan_of(pair, plan, writer, None, Clock())
    plain = Questions(0, STANDARD, scan.frames[0], {}, new_tokens=1)
    before, n = len(plain.frame.prefix), len(plain.frame.questions)
    counted = asking(plain.frame, n, 1)
    assert counted.tokens == n * (prompt_tokens(plain.frame) + before)
    assert counted.tokens <= tokens(pair, lambda: plain.answers(scan, None))
    writer.close()
    pair.close()
