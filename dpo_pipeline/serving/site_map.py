"""The pages of the site: where each is, what it is called and what it is for. One table; nothing else names a page.

A page without Gradio (`plain_page`) has the same head and the same breadcrumb.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import quote

SITE = (("Training & Experiments", "/versions"), ("LLMOps Loop", "/"))
"""The upper part of every breadcrumb: names and where they lead."""


class SitePage(NamedTuple):
    """`name` as in the navigation, `path` without its slash, `module` with `build`, `icon`: paths of an SVG of 16 by 16
    that are stroked.
    """

    name: str
    path: str
    module: str
    heading: str
    description: str
    icon: str

    @property
    def address(self) -> str:
        return f"/{self.path}"

    @property
    def title(self) -> str:
        return title_of(self.name)


HOME = SitePage(
    "The loop, live", "", "loop", "The loop, live",
    "From votes to rollout: what the loop is doing now, what comes next, and why it waits.",
    "M13 5.5A5.6 5.6 0 0 0 3.2 5M3 10.5a5.6 5.6 0 0 0 9.8.5M13 2.5v3h-3M3 13.5v-3h3",
)  # fmt: skip
COMPARE = SitePage(
    "A/B test", "compare", "ab_test", "A/B Testing & Feedback Loop",
    "Read two answers to a question without names, and vote for the better one.",
    "M2.5 3h4.5v10H2.5zM9 3h4.5v10H9z",
)  # fmt: skip
PAGES = (
    HOME,
    COMPARE,
    SitePage(
        "Chat", "chat", "chat", "Chat",
        "Talk to the version in production; rate and correct its answers.",
        "M2.5 3.5h11v7.5H7l-3 2.5V11H2.5z",
    ),
    SitePage(
        "Leaderboard", "leaderboard", "leaderboard", "Leaderboard",
        "What people's votes say about all versions: scores with intervals, and win rates.",
        "M3 13V8.5M8 13V3M13 13V6",
    ),
    SitePage(
        "Versions", "versions", "versions", "Versions",
        "What a version is worth, what it learned from, and how to load it or train it again.",
        "M8 2.5 14 6 8 9.5 2 6zM2.5 9.5 8 12.8l5.5-3.3",
    ),
    SitePage(
        "Review", "review", "review", "Review",
        "Go through the collected preferences; take out what should not be trained on.",
        "M2.5 8.5 6.5 12.5 13.5 4",
    ),
    SitePage(
        "Rollout", "rollout", "rollout", "Rollout",
        "How far the new version is, each rule against its limit, and every decision with its reasons.",
        "M2.5 13 7 8.5l2.5 2.5L13.5 4M9.8 3.5h4v4",
    ),
    SitePage(
        "Contributors", "contributors", "contributors", "Contributors",
        "Votes of this week by nickname, and the team's progress towards its target.",
        "M5.5 7.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM2 13c0-4 7-4 7 0M10.5 7a1.7 1.7 0 1 0 0-3.4M11 9c2 0 3 1.5 3 4",
    ),
)  # fmt: skip


def title_of(name: str) -> str:
    """What a tab of the browser says."""
    return f"{name} · {SITE[-1][0]}"


def page_at(path: str) -> SitePage | None:
    return next((each for each in PAGES if each.path == path.strip("/")), None)


def icon(paths: str = HOME.icon) -> str:
    """As an SVG that reads on light and on dark."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3.5" '
        f'fill="#4338ca"/><path d="{paths}" transform="translate(1.6 1.6) scale(.8)" fill="none" stroke="#fff" '
        'stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def head(title: str, description: str, paths: str = HOME.icon) -> str:
    """Title, description and icon, as HTML."""
    return (
        f"<title>{escape(title)}</title>"
        f'<meta name="description" content="{escape(description)}">'
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(icon(paths))}">'
    )


def breadcrumb(here: str, address: str = "") -> str:
    """Where a page is; each part but the last is a link.

    Args:
        here: what the page is called.
        address: of the page; empty: none of `SITE`.
    """
    above: Sequence[tuple[str, str]] = SITE[:-1] if address == SITE[-1][1] else SITE
    last = SITE[-1][0] if address == SITE[-1][1] else here
    links = "".join(f'<li><a href="{where}">{escape(name)}</a></li>' for name, where in above)
    current = f'<li><span aria-current="page">{escape(last)}</span></li>'
    return f'<nav class="crumbs" aria-label="Breadcrumb"><ol>{links}{current}</ol></nav>'
