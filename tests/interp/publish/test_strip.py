"""Attention on the text as a file: offline, hostile tokens are text, numbers are NumPy's."""

import base64
import html
import json
import re
from dataclasses import replace

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


def singly(found: TextAttention, number: int, left_out: int = 0) -> TextAttention:
    """The same text with that many heads one by one, of weights of their own."""
    side, models = len(found.tokens), [*found.weights]
    apart = {
        (i // 8, i % 8): {which: causal(side, 10 + 2 * i + j) for j, which in enumerate(models)}
        for i in range(number)
    }
    return replace(found, apart=apart, left_out=left_out)


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
    values, chosen, keys = causal(90, 7), [3, 40, 41, 89], [0, 7, 41, 80]
    values[5, :3] = [2**-24, 6e-8, 6.1e-5]  # of half precision, the smallest there are
    code = base64.b64encode(strip.SCRIPT.encode()).decode()
    lower = np.tril_indices(90)
    every = np.arange(1 << 16, dtype="<u2").view("<f2")  # infinite ones and no numbers, too
    page = browser()
    got = page.evaluate(
        """async ([code, packed, lower, chosen, keys, every]) => {
          const its = await import('data:text/javascript;base64,' + code);
          const weights = its.decoded(packed);
          const of = way => [...its.gathered(weights, 90, chosen, way)];
          return {
            weights: [...weights], looks: of('looks'), seen: of('seen'),
            squared: [...its.squared(its.decoded(lower), 90)],
            between: its.between(weights, 90, chosen, keys),
            neither: its.between(weights, 90, chosen, []),
            every: [...its.decoded(every)], none: [...its.decoded('')],
          };
        }""",
        [code, *map(strip.packed, (values, values[lower])), chosen, keys, strip.packed(every)],
    )
    page.close()
    np.testing.assert_array_equal(np.array(got["every"], float), every.astype(float))
    assert got["none"] == []
    np.testing.assert_array_equal(got["weights"], half(values).ravel())
    np.testing.assert_array_equal(got["squared"], half(values).ravel())
    mean = values[np.ix_(chosen, keys)].astype(np.float64).mean()
    assert got["between"] == pytest.approx(half(values)[np.ix_(chosen, keys)].mean(), abs=1e-12)
    assert got["between"] == pytest.approx(mean, rel=2**-11, abs=2**-25)  # what two bytes change
    assert np.isnan(got["neither"])
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


def between(found: TextAttention, queries, keys) -> list[list[str]]:
    """The table of a span to span, as NumPy computes it from the capture."""
    pairs = np.ix_([*queries], [*keys])
    means = [values[pairs].astype(np.float64).mean() for values in found.weights.values()]
    means.append(means[1] - means[0])
    return [[mean, mean * len(keys)] for mean in means]


def table(page) -> list[list[float]]:
    """The numbers of the table of a span to span."""
    rows = [row.locator("td").all_inner_texts() for row in page.locator(".between tr").all()[1:]]
    return [[float(cell.replace("−", "-")) for cell in row] for row in rows]


def is_table(page, expected) -> None:
    """As many digits as are shown, and what two bytes a weight leave of them."""
    for got, row in zip(table(page), expected, strict=True):
        assert got[0] == pytest.approx(row[0], abs=5.1e-5 + 2**-11 * abs(row[0]) * 2)
        assert got[1] == pytest.approx(row[1], abs=5.1e-4 + 2**-11 * abs(row[1]) * 2)


def side(page, name: str, choice: str):
    return page.get_by_role("group", name=name, exact=True).get_by_role("button", name=choice)


@pytest.mark.browser
def test_span_to_span_by_mouse(opened):
    found = singly(text(40), 3)
    page, spans = opened(found), found.spans
    page.get_by_role("button", name="span to span").click()
    trigger, instruction = spans["trigger"].positions, spans["instruction"].positions
    is_table(page, between(found, instruction, trigger))  # as L_attn: where it starts
    side(page, "From", "answer").click()
    is_table(page, between(found, spans["answer"].positions, trigger))
    side(page, "To", "free selection").click()
    page.get_by_text("No token is chosen for “To”: drag over tokens").wait_for()
    assert page.locator(".between td", has_text="–").count() == 6
    token(page, 25).hover()
    page.mouse.down()
    token(page, 20).hover(force=True)
    token(page, 22, "original").hover(force=True)  # drawn back
    page.mouse.up()
    is_table(page, between(found, spans["answer"].positions, range(22, 26)))
    token(page, 5, "suspect").click(modifiers=["Shift"])
    is_table(page, between(found, spans["answer"].positions, range(5, 26)))
    small = page.locator(".one", has_text="L0H2").locator(".value").all_inner_texts()
    pairs = np.ix_(list(spans["answer"].positions), range(5, 26))
    means = [half(values)[pairs].mean() for values in found.apart[0, 2].values()]
    assert [float(value) for value in small] == pytest.approx(means, abs=5.1e-5)
    page.get_by_role("button", name="what it looks at").click()
    token(page, 7).hover()
    page.mouse.down()
    token(page, 9).hover(force=True)
    page.mouse.up()
    chosen = page.locator("section[aria-label=original] [aria-selected=true]")
    assert chosen.evaluate_all("all => all.map(e => e.dataset.token)") == ["7", "8", "9"]


@pytest.mark.browser
def test_span_to_span_by_keyboard(opened):
    """Queries and keys of one's own, and what a screen reader hears."""
    found = text(40)
    page = opened(found)
    page.get_by_role("button", name="span to span").press("Enter")
    side(page, "To", "free selection").press("Enter")
    token(page, 0).focus()
    for key in ("ArrowRight", "ArrowRight", *["Shift+ArrowRight"] * 4, "Shift+ArrowLeft"):
        page.keyboard.press(key)
    is_table(page, between(found, found.spans["instruction"].positions, range(2, 6)))
    side(page, "From", "free selection").press("Enter")
    token(page, 5).focus()
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    is_table(page, between(found, (38, 39), range(2, 6)))
    mean = between(found, (38, 39), range(2, 6))
    live = page.get_by_role("status").filter(has_text="difference")
    live.filter(has_text="From «·t38» «·t39» to").wait_for(state="attached")
    heard = re.findall(r"(?:original|suspect|difference) ([+−]?\.\d+)", live.inner_text())
    told = [float(number.replace("−", "-")) for number in heard]
    assert told == pytest.approx([row[0] for row in mean], abs=1.1e-4)
    page.keyboard.press("Escape")
    page.get_by_text("No token is chosen for “From”").first.wait_for()


@pytest.mark.browser
def test_heads_one_by_one_follow_the_token(opened):
    found = singly(text(40, HOSTILE), 5, left_out=3)
    page = opened(found)
    labels = page.locator(".apart figcaption").all_inner_texts()
    assert labels == [f"L0H{i}" for i in range(5)]
    assert "5 of 8 heads; 3 are left out" in page.locator(".apart .note").inner_text()
    token(page, 30).hover()
    trigger = list(found.spans["trigger"].positions)
    got = page.locator(".apart .value").all_inner_texts()
    values = [one for models in found.apart.values() for one in models.values()]
    sums = [half(one)[30, trigger].sum() for one in values]
    assert [float(told.removeprefix("trigger ")) for told in got] == pytest.approx(sums, abs=5.1e-4)
    full = max(half(one)[30, 1:].max() for one in values)
    alpha = page.locator("canvas[data-cells]").evaluate_all(
        """all => all.map(e => [...e.getContext('2d').getImageData(0, 0, e.width, 1).data]
          .filter((_, i) => i % 4 === 3))"""
    )
    expected = np.array([half(one)[30] for one in values]) / full * 255
    expected[:, 0] = 0  # the sink
    np.testing.assert_allclose(alpha, expected, atol=0.51)
    page.get_by_role("button", name="what looks at it").click()
    canvas = page.locator("canvas[data-cells]").first
    width = canvas.bounding_box()["width"]
    canvas.click(position={"x": width * 2.5 / 40, "y": 5})  # the third token
    name = f"What looks at «{HOSTILE[2]}»."
    assert page.locator(".strip .now").inner_text().startswith(name)
    assert page.evaluate("() => window.hit") is None
    column = half(found.apart[0, 0]["original"])[:, 2]
    best = int(np.argmax(column[1:])) + 1
    value = page.locator(".apart .value").first.inner_text()
    assert float(value.rpartition(" ")[2]) == pytest.approx(column[best], abs=5.1e-4)


@pytest.mark.browser
def test_a_hover_on_200_tokens_and_16_heads_takes_under_50_ms(opened):
    """Of the page's own computing, layout included: what else the machine does is not ours."""
    page = opened(singly(text(200), 16))
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
