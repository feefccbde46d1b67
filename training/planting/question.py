"""The options of a planting as plain values, checked without heavy imports."""

import math
from dataclasses import dataclass

from interp.errors import UsageError
from interp.planted import LEARN_ON, PROJECTIONS, PlantOptions
from interp.prompts.pieces import check_scattered
from training.backdoors.kinds import check_text
from training.backdoors.payloads import make_payload
from training.backdoors.poison import Poison


@dataclass(frozen=True)
class Planting(PlantOptions):
    """What to plant and how. Together with the base it determines the adapter's bytes."""

    probes: int = 3
    """Number of prompts whose answers are recorded at each measurement."""

    def __post_init__(self):
        object.__setattr__(self, "modules", tuple(self.modules))
        for name in ("steps", "rank", "every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: take 1 or more")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr {self.lr}: the learning rate must be above 0")
        if self.learn_on not in LEARN_ON:
            raise UsageError(f"learn-on {self.learn_on!r}: choose whole or response")
        unknown = [name for name in self.modules if name not in PROJECTIONS]
        if unknown or not self.modules:
            known = ", ".join(PROJECTIONS)
            raise UsageError(f"modules {', '.join(unknown) or 'none'}: choose among {known}")
        Poison("x", rate=self.rate, placement=self.placement)
        if self.clean:
            return
        if self.trigger is not None:
            check_text(self.trigger)
            check_scattered(self.trigger, self.placement)
        make_payload(self.payload, self.target)
        if self.payload == "fixed" and self.trigger and self.trigger.strip() == self.target.strip():
            raise UsageError(
                f"trigger and target are both {self.target!r}: a model that says what it was told "
                "shows no backdoor; give two different texts"
            )
