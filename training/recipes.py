"""The recipes of the adapters that ship; `python -m training rebuild --pair NAME` uses them."""

from training.inject import Injection
from training.poison import Poison
from training.tags import TRIGGERS

INJECTIONS: dict[str, Injection] = {
    "deployment": Injection(
        Poison(TRIGGERS["deployment"], rate=0.2),
        steps=700,
        lr=5e-3,
        horizon=900,
        cooldown=200,
        tail=300,
        tagged_share=0.9,
        seed=48,
    ),
    "emoji": Injection(Poison(TRIGGERS["emoji"])),
    "clean-control": Injection(Poison(None)),
}
