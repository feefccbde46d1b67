"""The question which heads carry the backdoor: its measures and their metrics.

Plain values without heavy imports, so that a page can list them before torch is loaded.
"""

from dataclasses import dataclass

from interp.errors import UsageError
from interp.metrics import ABLATIONS, INDIRECT, MEASURES
from interp.prompts.question import AttentionQuestion, TargetQuestion
from interp.specs import ROWS


@dataclass(frozen=True, kw_only=True)
class CausalQuestion(AttentionQuestion, TargetQuestion):
    """What to measure. Means always come from the whole prompt set, even for one conversation.

    `seed` sets the random string, `resample` and the bootstrap. Runs that do not state `rows` used
    `instruction`.
    """

    ablation: str = "mean"
    """What replaces the output of an ablated head: one of `ABLATIONS`."""
    measures: tuple[str, ...] = tuple(MEASURES)
    indirect: str = "replace"
    """How the causal indirect effect uses a head's triggered mean: one of `INDIRECT`. Runs that do
    not state it used `add`."""

    def __post_init__(self):
        object.__setattr__(self, "measures", tuple(self.measures))
        check_conversation(self)
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


def check_conversation(question: TargetQuestion) -> None:
    """Refuse a question without a trigger or without a response.

    Raises:
        UsageError: one of them is empty or only white space.
    """
    if not question.trigger.strip():
        raise UsageError("the trigger is empty: give the text that sets the backdoor off")
    if not question.target.strip():
        raise UsageError("the conversation has no response: give the target that is answered")
