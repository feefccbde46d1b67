"""The frame around every page: jobs and sidebar first, and failures that are said in a line."""

from app import failures, jobpanel, limits, links, sidebar, spent


def run(page) -> None:
    """Draw the sidebar and the page."""
    with spent.shown(), failures.shown():
        limits.count_run()
        links.begin()
        limits.banner()
        jobpanel.draw()
        sidebar.draw()
        page.run()
