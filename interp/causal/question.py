"""What can be asked about which heads carry the backdoor: the measures and their metrics.

Plain values; nothing heavy is imported, so a page can list them before torch is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.errors import UsageError
from interp.metrics import ABLATIONS, INDIRECT, MEASURES
from interp.prompts.question import Question
from interp.specs import ROWS


@dataclass(frozen=True)
class CausalQuestion:
    """What to measure."""

    trigger: str
    target: str
    """The response: what the answer is held to be."""
    prompt_set: str
    prompt: int | None = None
    """One conversation of the set, or None for all; means always come from the whole set."""
    text: str | None = None
    """The user's own instruction instead of the set's."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of the random string, of `resample`, of the bootstrap."""
    ablation: str = "mean"
    """What an ablated head says instead: one of `ABLATIONS`."""
    measures: tuple[str, ...] = tuple(MEASURES)
    rows: str = "user"
    """Of L_attn, one of `specs.ROWS`; runs that do not say have `instruction`."""
    indirect: str = "replace"
    """How the causal indirect effect brings a head's triggered mean in, one of `INDIRECT`; runs
    that do not say have `add`."""

    def __post_init__(self):
        object.__setattr__(self, "measures", tuple(self.measures))
        if not self.trigger.strip():
            raise UsageError("the trigger is empty: give the text that sets the backdoor off")
        if not self.target.strip():
            raise UsageError("the conversation has no response: give the target that is answered")
        if self.ablation not in ABLATIONS:
            known = ", ".join(ABLATIONS)
            raise UsageError(f"ablation '{self.ablation}' is not known: choose one of {known}")
        if self.rows not in ROWS:
            raise UsageError(f"unknown rows {self.rows!r}: choose one of {', '.join(ROWS)}")
        if self.indirect not in INDIRECT:
            known = ", ".join(INDIRECT)
            raise UsageError(f"indirect effect by '{self.indirect}': choose one of {known}")
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            what = f"measure '{unknown[0]}' is not known" if unknown else "no measure is chosen"
            raise UsageError(f"{what}: choose some of {', '.join(MEASURES)}")

    @property
    def study(self) -> Question:
        """Its prompts, as the other pages ask for them."""
        return Question(
            self.trigger,
            self.prompt_set,
            self.prompt,
            self.text,
            self.template,
            self.placement,
            self.seed,
            self.rows,
        )
