"""A simulated machine: the models and all work on it are real, the seconds are counted.

Its clock goes on by so much for every pass and every token that goes through a model, and stands
still between. So what other jobs do here does not matter.
"""

from typing import Self

import torch
from torch import nn

from interp.models.pair import ModelPair


class Machine:
    """Counts what goes through a pair's models, as long as it is entered."""

    def __init__(self, pair: ModelPair, of_pass: float, of_token: float):
        """Count from now on.

        Args:
            pair: the models.
            of_pass: seconds of a forward pass.
            of_token: more of each token in it; a way back takes two more of each.
        """
        self.seconds, self.tokens = 0.0, 0
        self._pass, self._token = of_pass, of_token
        models: dict = {}
        for side in ("suspect", "original"):
            with pair.use_folded(side) as model:
                models[id(model)] = model
        self._hooks = [
            model.register_forward_pre_hook(self._count, with_kwargs=True)
            for model in models.values()
        ]

    def _count(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        shape = (kwargs["inputs_embeds"] if ids is None else ids).shape
        ways = 3 if torch.is_grad_enabled() else 1
        self.tokens += shape[0] * shape[1]
        self.seconds += self._pass + ways * self._token * shape[0] * shape[1]

    def now(self) -> float:
        """The clock, in seconds."""
        return self.seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
