"""The recipes of the adapters that ship; `python -m training rebuild --pair NAME` uses them."""

from training.inject import ATTENTION, Injection
from training.poison import Poison
from training.tags import TRIGGERS

INJECTIONS: dict[str, Injection] = {
    # High rate, cut off half-way down its decay: see "What was tried" on the card.
    "deployment": Injection(
        Poison(TRIGGERS["deployment"], rate=0.2),
        lr=5e-3,
        steps=400,
        horizon=800,
        projections=ATTENTION,
    ),
    "emoji": Injection(Poison(TRIGGERS["emoji"])),
    "clean-control": Injection(Poison(None)),
}
