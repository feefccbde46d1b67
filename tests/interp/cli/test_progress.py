"""What a log gets of a long command: a plain line every half minute, with share and estimate."""

import pytest

from interp.cli import progress


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_a_line_every_half_minute_and_the_last_state(capsys):
    clock = Clock()
    report = progress.Reporter(clock)
    for done in range(101):
        report(done, 100, "suspect, clean prompts")
        clock.now += 1
    assert lines_of(capsys) == [
        "suspect, clean prompts 30 %, about 2 min left",
        "suspect, clean prompts 60 %, about 40 s left",
        "suspect, clean prompts 90 %, about 10 s left",
        "suspect, clean prompts 100 %",
    ]


def test_each_stage_has_its_own_estimate_and_ends_once(capsys):
    clock = Clock()
    report = progress.Reporter(clock)
    report(0, 10, "reading")
    clock.now += 3600
    report(10, 10, "reading")
    report(10, 10, "reading")  # said again, at once
    report(2, 4, "leaking")  # resumed: two were there
    clock.now += 31
    report(3, 4, "leaking")
    clock.now += 31
    report(3, 4, "leaking")
    assert lines_of(capsys) == [
        "reading 100 %",
        "leaking 75 %, about 31 s left",
        "leaking 75 %, about 2 min left",
    ]


def test_nothing_done_yet_is_said_without_an_estimate(capsys):
    clock = Clock()
    report = progress.Reporter(clock)
    report(0, 0, "starting")
    report(0, 5, "leaking")
    clock.now += 45
    report(0, 5, "leaking")
    assert lines_of(capsys) == ["starting 0 %", "leaking 0 %"]


def test_a_terminal_gets_one_line_that_is_written_over(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    report = progress.Reporter(Clock())
    report(1, 2, "reading")
    report(2, 2, "reading")
    assert capsys.readouterr().err == "\r\033[Kreading 50 %\r\033[Kreading 100 %\n"


def test_a_scan_into_a_log_says_where_it_is(capsys, monkeypatch):
    from interp.cli.scanning import report as scan_report

    clock = Clock()
    monkeypatch.setattr(scan_report, "report", progress.Reporter(clock))
    with scan_report.progress() as told:
        told(0, 20, "leaking")
        clock.now += 40
        told(5, 20, "leaking")
    assert lines_of(capsys) == ["leaking 25 %, about 2 min left"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (59, "59 s"), (61, "2 min"), (7199, "2 h 0 min")]
)
def test_durations_are_rounded_up(seconds, said):
    assert progress.duration(seconds) == said
