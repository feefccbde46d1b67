"""What a hover costs in the browser: script, style and layout of each token's new look."""

from playwright.sync_api import Page


def hover_ms(page: Page, tokens: str) -> list[float]:
    """Milliseconds that a hover on each of some tokens takes, layout included.

    Args:
        page: a page that shows them.
        tokens: selector of the tokens; shadow roots are looked into.
    """
    return page.locator(tokens).evaluate_all(
        """boxes => boxes.map(box => {
          const before = performance.now();
          box.dispatchEvent(new PointerEvent('pointerover', { bubbles: true, composed: true }));
          box.parentElement.getBoundingClientRect();  // computes style and layout
          return performance.now() - before;
        })"""
    )
