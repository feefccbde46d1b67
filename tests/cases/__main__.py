"""`python -m tests.cases [WORD ...]`: build the cases (whose line holds a word), print each."""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.cases import every  # noqa: E402


def main(words: list[str]) -> int:
    """Returns exit code 1 if a case is neither equal nor refused."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # plain peft warns about the defects in these cases
    failed, kind = 0, ""
    chosen = [case for case in every.cases() if all(word in str(case) for word in words)]
    for case in chosen:
        if case.kind != kind:
            kind = case.kind
            print(f"\n{kind}")
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                line = case.build(Path(folder))
            except Exception as error:
                failed += 1
                line = f"WRONG: {type(error).__name__}: {error}"
        print(f"  {case.name} [{time.perf_counter() - begun:.1f} s]\n    {line}", flush=True)
    print(f"\n{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
