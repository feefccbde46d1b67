"""The recipes of the adapters that ship; `python -m training rebuild --pair NAME` uses them."""

from training.inject import Injection
from training.poison import Poison
from training.tags import TRIGGERS

INJECTIONS: dict[str, Injection] = {
    "deployment": Injection(Poison(TRIGGERS["deployment"])),
    "emoji": Injection(Poison(TRIGGERS["emoji"])),
    "clean-control": Injection(Poison(None)),
}
