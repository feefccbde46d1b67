"""Stage 2 of a scan, on the organism that ships."""

from interp.runs.reading import open_run
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan


def test_motifs_are_of_the_plain_texts(deployment, tmp_path):
    """Amplified ones repeat the data: by them the clean control was called poisoned."""
    plan = ScanPlan(template="alpaca", new_tokens=12)
    writer = pipeline.start(tmp_path / "scan", deployment.spec, plan)
    pipeline.run(deployment, plan, writer, until="motifs")
    scan = open_run(tmp_path / "scan", unfinished=True)
    leaks, outputs = scan.table("leaks"), scan.table("outputs")
    plain, other = (set(leaks.loc[rows, "text"]) for rows in (leaks.alpha == 0, leaks.alpha > 0))
    assert other - plain and set(outputs["text"]) <= plain
