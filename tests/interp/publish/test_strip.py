"""Attention on the text as a file: offline, hostile tokens are text, numbers are NumPy's."""

import base64
import html
import json
import re

import numpy as np
import pytest

from interp.attention.texts.on_text import TextAttention
from interp.prompts.pieces import Span
from interp.publish import strip
from tests.support.browser import open_browser

HOSTILE = (
    "<s>",
    "<img src=x onerror=window.hit=1>",
    "</script><script>window.hit=1</script>",
    "<!--<script>",
    "{{7*7}}${7*7}`'\"",
    "\u2028·\u2029",
    "x" * 5000,
    "אבג",
)


def causal(side: int, seed: int) -> np.ndarray:
    """[side, side] float32: random rows that sum to 1 and look back only."""
    scores = np.exp(3 * np.random.default_rng(seed).normal(size=(side, side))) * np.tri(side)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def text(side: int, tokens=()) -> TextAttention:
    """A text of that many tokens with all four parts, which needs ten tokens."""
    names = "trigger", "instruction", "response marker", "answer"
    edges = np.linspace(2, side, 5).astype(int)
    spans = {name: Span(*edges[i : i + 2].tolist()) for i, name in enumerate(names)}
    named = (*tokens, *(f"·t{i}" for i in range(len(tokens), side)))
    weights = {"original": causal(side, 0), "suspect": causal(side, 1)}
    return TextAttention(named, spans, weights)


@pytest.fixture(scope="module")
def browser():
    with open_browser() as new:
        yield new


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a text as a file; returns the page, what it asked for and what it complained of."""
    pages = []

    def open_(found: TextAttention, title="T", caption="C"):
        file = tmp_path / "strip.html"
        file.write_text(strip.page(strip.payload(found), title, caption), encoding="utf-8")
        page, asked, said = browser(), [], []
        pages.append(page)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        page.locator(".strip .token").first.wait_for()
        assert asked == [file.as_uri()] and not said
        return page

    yield open_
    for page in pages:
        page.close()


def half(values: np.ndarray) -> np.ndarray:
    """What two bytes keep of numbers."""
    return values.astype(np.float16).astype(np.float64)


def told(page, model: str) -> dict[str, float]:
    """Token or part -> number, as the lines below a strip say."""
    lines = page.locator(f".strip section[aria-label={model}] .told").inner_text()
    most = dict(re.findall(r"«([^»]*)» (\d*\.\d+)", lines))
    sums = dict(re.findall(r"(?:: |· )([a-z ]+) (\d*\.\d+)", lines))
    return {name: float(number) for name, number in (most | sums).items()}


def numbers(page, model: str) -> np.ndarray:
    """The number below each token; 0 where there is none."""
    shown = page.locator(f".strip section[aria-label={model}] .number").all_inner_texts()
    return np.array([float(number or 0) for number in shown])


def token(page, i: int, model: str = "original"):
    return page.locator(f".strip section[aria-label={model}] [data-token='{i}']")


def test_the_payload_holds_the_pattern():
    found = text(37)
    data = json.loads(json.dumps(strip.payload(found)))
    assert data["tokens"] == list(found.tokens)
    for model in data["models"]:
        values = strip.unpacked(model["weights"], 37)
        np.testing.assert_allclose(values, found.weights[model["name"]], rtol=2**-11, atol=2**-25)
    assert {span["name"]: span["at"] for span in data["spans"]} == {
        name: list(range(span.start, span.stop)) for name, span in found.spans.items()
    }


@pytest.mark.browser
def test_the_scripts_numbers_are_numpys(browser):
    values, chosen = causal(90, 7), [3, 40, 41, 89]
    values[5, :3] = [2**-24, 6e-8, 6.1e-5]  # of half precision, the smallest there are
    code = base64.b64encode(strip.SCRIPT.encode()).decode()
    every = np.arange(1 << 16, dtype="<u2").view("<f2")  # infinite ones and no numbers, too
    page = browser()
    got = page.evaluate(
        """async ([code, packed, chosen, every]) => {
          const its = await import('data:text/javascript;base64,' + code);
          const weights = its.decoded(packed);
          const of = way => [...its.gathered(weights, 90, chosen, way)];
          return {
            weights: [...weights], looks: of('looks'), seen: of('seen'),
            every: [...its.decoded(every)], none: [...its.decoded('')],
          };
        }""",
        [code, strip.packed(values), chosen, strip.packed(every)],
    )
    page.close()
    np.testing.assert_array_equal(np.array(got["every"], float), every.astype(float))
    assert got["none"] == []
    np.testing.assert_array_equal(got["weights"], half(values).ravel())
    np.testing.assert_allclose(got["looks"], half(values)[chosen].mean(0), atol=1e-12)
    np.testing.assert_allclose(got["seen"], half(values)[:, chosen].sum(1), atol=1e-12)


@pytest.mark.browser
def test_hostile_tokens_are_text(opened):
    page = opened(text(12, HOSTILE), "</title><script>window.hit=1</script>", HOSTILE[2])
    texts = page.locator(".strip section[aria-label=suspect] .text").all_inner_texts()
    assert [one.strip("\n") for one in texts[:5]] == list(HOSTILE[:5])
    assert len(texts[6]) == strip.LONGEST and texts[7] == HOSTILE[7]
    token(page, 2).hover()
    assert HOSTILE[2] in page.locator(".strip .now").inner_text()
    assert page.evaluate("() => window.hit") is None
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2
    box = token(page, 6).bounding_box()
    assert box["width"] < 400  # a token of 5,000 characters


def test_the_file_names_no_address():
    found = strip.page(strip.payload(text(12)), "T", "C")
    assert "http" not in html.unescape(found).replace("http-equiv", "")


@pytest.mark.browser
def test_by_mouse(opened):
    found = text(40)
    page = opened(found)
    original = half(found.weights["original"])
    rest = original[found.spans["instruction"].slice].mean(0)
    assert numbers(page, "original") == pytest.approx(np.where(rest < 0.005, 0, rest), abs=0.0051)

    token(page, 30).hover()
    row = original[30]
    assert numbers(page, "original") == pytest.approx(np.where(row < 0.005, 0, row), abs=0.0051)
    shown = told(page, "suspect")
    row = half(found.weights["suspect"])[30]
    best = np.argsort(-row)
    best = best[best > 0][:5]  # the first token is not named
    assert [shown[f"·t{i}"] for i in best] == pytest.approx(row[best], abs=0.00051)
    for name, span in found.spans.items():
        assert shown[name] == pytest.approx(row[list(span.positions)].sum(), abs=0.00051)
    full = max(half(weights)[30, 1:].max() for weights in found.weights.values())
    shade = token(page, int(best[0]), "suspect").evaluate("e => e.style.backgroundColor")
    (share,) = re.findall(r"([\d.]+)%", shade)
    assert float(share) == pytest.approx(65 * row[best[0]] / full, abs=0.06)

    token(page, 30).click()
    token(page, 35).click(modifiers=["Shift"])
    page.get_by_role("button", name="what looks at it").click()
    token(page, 5).hover()  # what is chosen stays
    column = original[:, 30:36].sum(1)
    expected = np.where(column < 0.005, 0, column)
    assert numbers(page, "original") == pytest.approx(expected, abs=0.0051)
    assert "6 tokens" in page.locator(".strip .now").inner_text()
    page.get_by_role("button", name="trigger").click()
    column = original[:, found.spans["trigger"].positions].sum(1)
    answer = column[found.spans["answer"].slice].mean()
    assert told(page, "original")["answer"] == pytest.approx(answer, abs=0.00051)
    page.get_by_role("button", name="clear").click()
    assert page.locator("[aria-selected=true]").count() == 0


@pytest.mark.browser
def test_by_keyboard_with_words_for_a_screen_reader(opened):
    found = text(40)
    page = opened(found)
    assert page.locator(".strip .token[tabindex='0']").count() == 2  # one stop per strip
    page.get_by_role("checkbox").focus()
    page.keyboard.press("Tab")
    for key in ("End", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    here = page.get_by_role("option", name="«·t37», token 37, answer").first
    assert here.evaluate("e => e === document.activeElement")
    best = int(np.argmax(half(found.weights["original"])[37, 1:])) + 1
    live = page.get_by_role("status")
    number = f"{half(found.weights['original'])[37, best]:.3f}".lstrip("0")
    live.filter(has_text=f"original: Most: «·t{best}» {number}").wait_for(state="attached")
    assert "What «·t37» looks at." in live.inner_text()
    page.keyboard.press(" ")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    chosen = page.locator("section[aria-label=original] [aria-selected=true]")
    picked = [int(i) for i in chosen.evaluate_all("all => all.map(e => e.dataset.token)")]
    assert len(picked) == 2 and picked[1] == 37 and picked[0] < 36  # on the line above
    row = half(found.weights["original"])[picked].mean(0)
    expected = np.where(row < 0.005, 0, row)
    assert numbers(page, "original") == pytest.approx(expected, abs=0.0051)
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen.count() == 2


@pytest.mark.browser
def test_a_hover_on_200_tokens_takes_under_50_ms(opened):
    """Of the page's own computing, layout included: what else the machine does is not ours."""
    page = opened(text(200))
    chromium = page.context.new_cdp_session(page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = chromium.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    before = spent()
    hovered = page.evaluate(
        """() => [...document.querySelectorAll('.strip section:first-of-type .token')].map(box => {
          box.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
          return box.parentElement.getBoundingClientRect().width;  // computes the layout
        }).length"""
    )
    assert hovered == 200 and (spent() - before) / 200 < 0.05
