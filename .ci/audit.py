"""`make audit`: known vulnerabilities of what is installed; fails for one, never for no network.

pip-audit asks PyPI's advisory service. Behind a bare package mirror the service answers 404, and
pip-audit then says "No known vulnerabilities found" of packages that nobody looked at; here that
counts as not audited, and is said.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE = 180
"""Seconds for all packages together."""


def main() -> int:
    """Audit this environment; returns 1 for a known vulnerability, else 0."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.json"
        words = [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner=off"]
        words += ["--timeout=10", "--format=json", f"--output={file}"]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            failure = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            failure = f"no answer within {PATIENCE} s"
        report = file.read_text(encoding="utf-8") if file.is_file() else None
    code, said = verdict(report, failure)
    print(said)
    return code


def verdict(report: str | None, failure: str) -> tuple[int, str]:
    """What a report of pip-audit amounts to.

    Args:
        report: its JSON; None or empty where it came to none.
        failure: why, in that case.

    Returns:
        Exit code, and what to say.
    """
    if not report:
        return 0, f"audit: NOT AUDITED, the vulnerability service cannot be reached ({failure})"
    packages = json.loads(report)["dependencies"]
    asked = [package for package in packages if "vulns" in package]
    passed_over = [package["name"] for package in packages if "vulns" not in package]
    found = [
        f"  {package['name']} {package['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in asked
        for vulnerability in package["vulns"]
    ]
    if found:
        return 1, "\n".join([f"audit: {len(found)} known vulnerabilities", *found])
    if not asked:
        return 0, (
            f"audit: NOT AUDITED, the vulnerability service knows none of {len(packages)} packages "
            "from here (a mirror without advisories?)"
        )
    rest = f"; not audited: {', '.join(passed_over)}" if passed_over else ""
    return 0, f"audit: {len(asked)} packages without a known vulnerability{rest}"


if __name__ == "__main__":
    sys.exit(main())
