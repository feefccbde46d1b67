"""The bench: a piece of the trigger measured as the sweep and plain Hugging Face measure it."""

from dataclasses import replace

import pytest
import torch

from interp.attention import study
from interp.errors import UsageError
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.trigger import sweep
from interp.trigger.piece import bench, keep_tokens, panels, trigger_units


@pytest.fixture(scope="module")
def pair(deployment):
    return deployment


@pytest.fixture(scope="module")
def question(pair, tmp_path_factory):
    """On eight of the prompts."""
    texts = [p.instruction for p in load_prompt_set("organism").prompts if not p.input][:8]
    file = tmp_path_factory.mktemp("prompts") / "eight.txt"
    file.write_text("\n".join(texts))
    return sweep.FuzzyQuestion(
        trigger=pair.spec.trigger, target=pair.spec.target, prompt_set=str(file)
    )


@pytest.fixture(scope="module")
def whole(pair, question):
    return bench(pair, question)


def test_the_whole_trigger_is_what_the_study_measures(pair, question, whole):
    assert whole.tokens == tuple(unit.text for unit in trigger_units(pair, question))
    assert whole.rate("suspect").fired == 8 and whole.rate("original").fired == 0
    asked = AttentionQuestion(trigger=question.trigger, prompt_set=question.prompt_set)
    measured = study.measure(pair, load_prompt_set(question.prompt_set), asked)
    first = measured.ranking.head(6)  # an eighth of 48
    assert set(whole.losing) == set(zip(first["layer"], first["head"], strict=True))
    heads = [(0, 1), (5, 2)]
    chosen = measured.heads.set_index(["model", "layer", "head"]).loc["suspect"].loc[heads]
    assert whole.l_attn("suspect", heads) == pytest.approx(chosen["l_attn"].mean(), rel=1e-6)


def test_all_tokens_kept_is_the_whole_and_none_is_no_trigger(pair, question, whole):
    every = bench(pair, question, kept=range(len(whole.tokens)))
    assert every.fired.equals(whole.fired)
    assert torch.allclose(*(torch.tensor(b.maps["suspect"].values) for b in (every, whole)))
    none = bench(pair, question, kept=())
    assert none.tokens == () and none.rate("suspect").fired == 0
    assert none.l_attn("suspect", whole.losing) is None
    panels(none, whole)  # maps of two lengths stand side by side
    typed = bench(pair, question, text="  ")
    assert typed.rate("suspect").fired == 0 and typed.tokens == ()


def test_a_piece_looks_like_plain_hugging_face(pair, question, whole):
    kept = (0, 1, 3, 6)
    piece = bench(pair, question, kept=kept)
    assert piece.tokens == tuple(whole.tokens[i] for i in kept)
    prompt = keep_tokens(pair.tokenizer, sweep.triggered_prompts(pair, question)[2], kept)
    with pair.use("suspect") as model:
        before = model.config._attn_implementation
        model.set_attn_implementation("eager")
        seen = model(torch.tensor([list(prompt.ids)]), output_attentions=True).attentions
        model.set_attn_implementation(before)
    block = seen[4][0, 3][prompt.instruction.slice, prompt.trigger.pieces[0].slice]
    rows = piece.heads.query("model == 'suspect' and prompt == 2 and layer == 4 and head == 3")
    assert rows["l_attn"].item() == pytest.approx(block.mean().item(), rel=1e-4)


def test_another_text_may_stand_in_its_place(pair, question):
    other = bench(pair, question, text="|DRAFT|")
    assert other.rate("suspect").fired == 0 and "".join(other.tokens) == "|DRAFT|"
    assert not other.answers["fired"].any() and len(other.answers) == 8


def test_a_token_outside_the_trigger_is_refused(pair, question):
    with pytest.raises(UsageError, match="no token 9"):
        bench(pair, question, kept=(0, 9))


def test_a_suffix_trigger_loses_tokens_behind_the_instruction(pair, question):
    asked = replace(question, placement="suffix")
    prompt = sweep.triggered_prompts(pair, asked)[0]
    piece = keep_tokens(pair.tokenizer, prompt, (0, 6))
    assert piece.instruction == prompt.instruction
    assert piece.trigger_tokens == ("|", "|")
    assert piece.tokens[piece.response.slice] == prompt.tokens[prompt.response.slice]
