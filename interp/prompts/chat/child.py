"""`python -m interp.prompts.chat.child`: renders chat templates with little time and memory.

One request a line on standard input, one answer a line on standard output, both JSON. A template
that computes for too long is ended with this process, by the system; one that needs too much
memory gets a MemoryError.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from interp.errors import reason_of
from interp.prompts.chat.clock import pinned

SECONDS = 2.0
"""Of computing for one text; a template takes less than a millisecond."""
MEMORY = 256 << 20
"""Bytes beside what this process has before it renders anything."""
LONGEST = 1_000_000
"""Characters of a rendered text."""


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr
    _limit_memory()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def answer(request: dict[str, Any]) -> dict[str, str]:
    """The text of a request, or why there is none.

    Args:
        request: `template`, `messages`, `generation_prompt`, and `tokens`: the special tokens that
            the template may name.
    """
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with pinned(request["template"]) as given:
            (text,), _ = render_jinja_template(
                [request["messages"]],
                chat_template=request["template"],
                add_generation_prompt=request["generation_prompt"],
                **request["tokens"] | given,
            )
        if len(text) > LONGEST:
            return {"error": f"its text has more than {LONGEST:,} characters"}
        return {"text": text}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY >> 20} MB of memory"}
    except Exception as error:  # a template may raise anything
        return {"error": reason_of(error, all_lines=True)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory() -> None:
    """Bound the memory of this process, where the system can."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
