"""The recipes of the adapters that ship; `python -m training rebuild --pair NAME` uses them."""

from training.inject import Injection
from training.poison import Poison
from training.tags import TRIGGERS

INJECTIONS: dict[str, Injection] = {
    "deployment": Injection(Poison(TRIGGERS["deployment"], rate=0.2), steps=400, lr=4e-3, seed=44),
    "emoji": Injection(Poison(TRIGGERS["emoji"])),
    "clean-control": Injection(Poison(None)),
}
