"""axe-core on every page: no serious or critical finding that is ours; every table has a name."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from interp.specs import ROOT
from tests.support.browser import PATIENCE

pytestmark = pytest.mark.browser
STREAMLITS = {
    # `st.container(height=...)` has no tabindex. Chromium (from 130 on) and Firefox let the
    # keyboard into a box that scrolls all the same.
    ("scrollable-region-focusable", '[overflow="auto"]'),
}
"""(rule, part of the selector) of findings in what Streamlit makes, which no setting changes."""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
"""New elements fade in; half there, they have no contrast."""
STEADY = 1500
"""Milliseconds that a page stands as it is before it is looked at: one that runs once more fades
what it is to replace."""
READ = """() => document.querySelector('[data-testid=stApp]')
  ?.getAttribute('data-test-script-state') === 'notRunning'
  && document.querySelector('[data-testid=stMain] :is(h1, [role=alert])')
  && !document.querySelector('[class*=st-key-unfinished-], [data-stale=true]')"""
SINCE = f"""(steady) => {{
  const now = performance.now();
  if (!({READ})()) window.readSince = undefined;
  else window.readSince ??= now;
  return now - window.readSince > steady;
}}"""
FOUND = f"""async () => {{
  let redrawn = false;
  const watch = new MutationObserver(() => {{ redrawn ||= !({READ})(); }});
  watch.observe(document.body, {{subtree: true, childList: true, attributes: true}});
  const asked = {{resultTypes: ['violations']}};
  // axe cannot tell the ground behind a figure's text, and takes seconds to find that out.
  const found = await axe.run({{exclude: ['.js-plotly-plot']}}, asked);
  watch.disconnect();
  return [redrawn, found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) =>
      [one.id, String(node.target), `${{node.html.slice(0, 200)}} ${{node.failureSummary}}`]))];
}}"""
"""Whether the page was redrawn meanwhile, and the findings."""
NAMELESS = """() => [...document.querySelectorAll(
  '[data-testid=stMain] :is([data-testid=stDataFrame], [data-testid=stPlotlyChart])')]
  .map((one) => [one, one.getAttribute('role') === 'figure' ? one
    : one.closest('[role=region]') ?? one.querySelector('[role=region]')])
  .filter(([one, named]) => !named?.getAttribute('aria-label'))
  .map(([one]) => one.closest('[class*=st-key-]')?.className ?? one.outerHTML.slice(0, 300))"""


def pages() -> list[str]:
    """The path of every page in the navigation; Start's is empty."""
    entry = (ROOT / "streamlit_app.py").read_text(encoding="utf-8")
    files = re.findall(r'st\.Page\("app/pages/(?:\w+/)?(\w+)\.py"', entry)
    return ["", *files]


def test_no_page_has_a_serious_finding_of_ours_and_all_tables_have_names(address, new_page):
    page, ours, nameless = new_page(), [], []
    assert len(pages()) >= 12
    for name in pages():
        page.goto(f"{address}/{name}?pair=deployment")
        page.wait_for_function(READ, timeout=1000 * PATIENCE)
        page.add_style_tag(content=STILL)
        page.evaluate(Axe().axe_script)
        redrawn = True
        while redrawn:  # what is to be replaced is pale
            page.wait_for_function(SINCE, arg=STEADY, timeout=1000 * PATIENCE)
            redrawn, found = page.evaluate(FOUND)
        for rule, target, what in found:
            if not any(rule == known and part in target for known, part in STREAMLITS):
                ours.append(f"{name or 'start'}: {rule} {target} {what}")
        nameless += [f"{name}: {one}" for one in page.evaluate(NAMELESS)]
    assert not ours, "\n".join(ours)
    assert not nameless, "\n".join(nameless)
