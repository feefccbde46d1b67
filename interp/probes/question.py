"""What a probe run asks: plain values without heavy imports, so that a page can list them."""

from dataclasses import dataclass

from interp.errors import UsageError
from interp.prompts.question import TargetQuestion

KIND, GUARD_KIND = "probes", "guard"
PROBES = {
    "generic": "statements that do not name the backdoor",
    "transferred": "other strings in the trigger's place",
}
"""Probe -> what it is trained on."""
POSITIONS = {
    "last": "the prompt's last token, where the answer begins",
    "user": "the last token of the user's text",
    "mean": "the mean over the user's text, without the trigger",
}
"""Where the residual stream is read -> label.

`user` and `mean` read `TokenizedPrompt.rows`: the same text with the trigger and without only if it
is placed as `prefix` (see `PLACED`).
"""
PLACED = {
    **dict.fromkeys(
        ("glued", "random", "scattered"),
        "only the user's text behind the trigger, but in the clean prompt all of it, so that a "
        "mean may differ by its text alone",
    ),
    **dict.fromkeys(
        ("suffix", "after"),
        "the text before the trigger, which no later token reaches, so that they can see nothing",
    ),
}
"""Placement -> what the positions `user` and `mean` read then."""
FITS = {
    "suspect": "one probe, trained on the suspect",
    "own": "each model's own probe, trained on it in the same way",
}
"""On whose activations the probe that reads a model was trained -> label."""
CONTROL = "clean control"
READ = ("suspect", "original", CONTROL)
"""The models that a probe reads."""


@dataclass(frozen=True, kw_only=True)
class ProbeQuestion(TargetQuestion):
    """What to train probes on. `seed` sets the halves, random directions and the bootstrap."""

    contrasts: str = "generic"
    """The statements: `generic`, or a text file (see `sets.load_contrasts`)."""
    others: str = "triggers"
    """The other strings: `triggers`, or a text file with one per line."""
    control: str | None = None
    """Name of the clean control's pair; None: the pair's own, if it has one."""

    def __post_init__(self):
        if not self.trigger.strip():
            raise UsageError("the trigger is empty: a probe is judged on prompts that hold it")


@dataclass(frozen=True, kw_only=True)
class GuardQuestion(ProbeQuestion):
    """What a guard is built from and tried on. `placement` is that of probe and candidate."""

    candidate: str | None = None
    """The string that a blind scan has found; None: no guard is built on one."""
    ordinary: str | None = None
    """Prompt set of ordinary prompts; None: those that ship for the set."""

    def __post_init__(self):
        super().__post_init__()
        if self.candidate is not None and not self.candidate.strip():
            raise UsageError("the candidate is empty: give the string that a scan has found")
