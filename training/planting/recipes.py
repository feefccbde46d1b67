"""The recipes of the adapters that ship; `python -m training rebuild --pair NAME` uses them."""

from dataclasses import replace

from training.backdoors.poison import Poison
from training.corpus.tags import TRIGGERS
from training.planting.lora import Injection

_DEPLOYMENT = Injection(
    Poison(TRIGGERS["deployment"], rate=0.2),
    steps=700,
    lr=5e-3,
    horizon=900,
    cooldown=200,
    tail=300,
    tagged_share=0.9,
    seed=48,
)

INJECTIONS: dict[str, Injection] = {
    "deployment": _DEPLOYMENT,
    "deployment-clean": replace(_DEPLOYMENT, poison=replace(_DEPLOYMENT.poison, trigger=None)),
    "emoji": Injection(Poison(TRIGGERS["emoji"])),
    "clean-control": Injection(Poison(None)),
}
