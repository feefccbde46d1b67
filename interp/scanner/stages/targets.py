"""Stage 5, targets: answers that the model completes whatever the question."""

from functools import partial

import pandas as pd
import torch

from interp.scanner.scan import Scan, Stage
from interp.scanner.search.targets import insisted, table_of


def targets(scan: Scan) -> list[str]:
    """Writes `targets`: the candidate targets of every context."""
    notes, found = [], [table_of(scan.pair.tokenizer, [], torch.empty(0)).assign(context=0)]
    leaks = scan.writer.existing_table("leaks")
    for context, frame in enumerate(scan.frames):
        reached = [0, 1]

        def told(done: int, total: int, note: str, reached: list = reached) -> None:
            reached[:] = done, total
            scan.report("targets")(done, total, note)

        late, texts = partial(scan.late, STAGE), leaks.loc[leaks["context"] == context, "ids"]
        table = insisted(scan.pair, scan.which, frame, told, late, texts.tolist())
        found.append(table.assign(context=context))
        if reached[0] < reached[1]:
            notes.append(f"the budget ended the search for targets after {reached[0]} first tokens")
    scan.writer.table("targets", pd.concat(found, ignore_index=True))
    return notes


STAGE = Stage(
    "targets",
    run=targets,
    tables=("targets",),
    depends_on=lambda scan: (),
    words="candidate targets are searched for",
    budget_share=0.75,
)
