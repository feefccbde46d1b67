"""The frame around every page: jobs and sidebar first, and failures that are said in a line."""

from app import failures, jobpanel, links, sidebar


def run(page) -> None:
    """Draw the sidebar and the page."""
    with failures.shown():
        links.begin()
        jobpanel.draw()
        sidebar.draw()
        page.run()
