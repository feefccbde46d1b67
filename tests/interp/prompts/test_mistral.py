"""Runs mistral_vocabulary.py in a process of its own.

The package mistral-common, which carries the vocabulary, changes how transformers loads
tokenizers; nothing of it may be seen by the other tests.
"""

import subprocess
import sys

from interp.specs import ROOT

FILE = ROOT / "tests" / "support" / "mistral_vocabulary.py"


def test_spans_with_the_real_mistral_vocabulary():
    command = [sys.executable, "-m", "pytest", "-n", "0", str(FILE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
