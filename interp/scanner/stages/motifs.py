"""Stage 2, motifs: strings that many leaked texts share."""

import pandas as pd

from interp.scanner.leak.motifs import find_motifs, template_markers
from interp.scanner.scan import Scan, Stage


def motifs(scan: Scan) -> list[str]:
    """Writes `outputs`, `clusters`, `motifs`, each with a column `context`, of the plain texts.

    Amplification makes a clean adapter repeat its data: with amplified texts the toy
    `clean-control` had an instruction for a motif, and was called poisoned. What they tell comes in
    by the replay, which asks for one answer to many questions.
    """
    leaks, notes, found = scan.writer.existing_table("leaks"), [], {}
    leaks = leaks[leaks["alpha"] == 0]
    for context, place in enumerate(scan.places):
        markers = template_markers(place.tokenizer, place.template)
        texts = leaks.loc[leaks["context"] == context, "text"].tolist()
        result = find_motifs(
            texts, strip=markers, eps=scan.plan.eps, on_progress=scan.report("motifs")
        )
        if result.note:
            notes.append(f"in {scan.name_of(context)}, {result.note}")
        for table in ("outputs", "clusters", "motifs"):
            frame = getattr(result, table).assign(context=context)
            found.setdefault(table, []).append(frame)
    for table, parts in found.items():
        scan.writer.table(table, pd.concat(parts, ignore_index=True))
    return notes


STAGE = Stage(
    "motifs",
    run=motifs,
    tables=("outputs", "clusters", "motifs"),
    # A scan that took its motifs from the amplified texts too is not gone on with.
    depends_on=lambda scan: (scan.plan.eps, *(("plain",) if scan.has_original else ())),
    words="recurring strings are extracted",
)
