"""A real headless Chromium, and what every page owes the person in front of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from dpo_pipeline.settings import PROJECT_DIR

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]
SCREENS: tuple[tuple[int, Scheme], ...] = ((1440, "light"), (1440, "dark"), (390, "dark"), (390, "light"))
"""A desk's and a telephone's, by day and by night."""
AUDITED = (SCREENS[0], SCREENS[2])
"""Both widths and both schemes: axe takes a second."""
NOT_TOLD = {"nonBmp", "shortTextContent", "bgOverlap", "elmPartiallyObscured"}
"""Of these axe does not know the contrast: signs such as the arrow of an accordion, single characters, and what is
scrolled out of sight."""
CHROMIUMS = (Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium"))
"""The first that is there: Debian has Chromium without windows too, which takes less than half of the processor."""
PICTURES = PROJECT_DIR / "docs" / "pictures"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@contextmanager
def chromium() -> "Iterator[Browser]":
    there = next((each for each in CHROMIUMS if each.exists()), None)
    if there is None:
        pytest.skip("There is no Chromium: install chromium-headless-shell to run the tests of the pages")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(there), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """One open page, and what went wrong in it."""

    page: "Page"
    host: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.host, "data:", "blob:")):
            self.foreign.append(request.url)

    def assert_clean(self) -> None:
        """No error in the console, and nothing asked of anybody but our own server."""
        assert self.errors == []
        assert self.foreign == []

    def show_on(self, width: int, scheme: Scheme) -> None:
        """The same page on another screen, and as somebody has it who prefers these colours."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.wait_for_timeout(100)
        self.page.wait_for_function(AT_REST)

    def go(self, url: str) -> None:
        """Leave for another page; what Chromium says of the streams that leaving cuts off is no fault of either."""
        before = len(self.errors)
        self.page.goto("about:blank")
        del self.errors[before:]
        self.page.goto(url)

    def assert_accessible(self) -> None:
        """axe finds nothing as the page is now: names, roles, contrast of 4.5 to 1, and what else WCAG AA asks.

        What it cannot tell counts as found, but for what is `NOT_TOLD`.
        """
        from axe_playwright_python.sync_playwright import Axe

        # While Gradio still loads parts of a page, it says so over it, outside of all landmarks.
        self.page.wait_for_selector("p.loading", state="detached")
        told = Axe().run(self.page).response
        found = [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]} {[each['message'] for each in node['any']]}"
            for rule in (*told["violations"], *told["incomplete"])
            for node in rule["nodes"]
            if not any(
                isinstance(data := each["data"], dict) and data.get("messageKey") in NOT_TOLD for each in node["any"]
            )
        ]
        assert found == [], "\n".join(found)

    def assert_fits(self) -> None:
        """Nothing is wider than the screen, and no label or text is cut off."""
        assert self.page.evaluate(TOO_WIDE) == []
        assert self.page.evaluate(CUT) == []

    def assert_on_screen(self, selector: str) -> None:
        """It is whole within what is seen without scrolling."""
        self.page.wait_for_timeout(300)
        box, size = self.page.locator(selector).bounding_box(), self.page.viewport_size
        assert box and size and box["y"] >= 0 and box["y"] + box["height"] <= size["height"], (selector, box)

    def picture(self, name: str, height: int | None = None, whole: bool = True) -> None:
        """A screenshot for the guide, where SCREENSHOTS=1 asks for it; of the uppermost `height` pixels, or where not
        `whole`, of what is on screen.
        """
        if os.environ.get("SCREENSHOTS") == "1":
            PICTURES.mkdir(parents=True, exist_ok=True)
            part = {"clip": {"x": 0, "y": 0, "width": 1440, "height": height}} if height else {}
            self.page.screenshot(path=PICTURES / name, animations="disabled", full_page=whole, **part)  # type: ignore[arg-type]
            assert (PICTURES / name).stat().st_size < 200_000


@contextmanager
def tab(
    browser: "Browser",
    url: str,
    wait: str,
    width: int = 1440,
    scheme: Scheme = "light",
    script: str = "",
) -> Iterator[Tab]:
    """A fresh visitor opens a page.

    Args:
        wait: selector of what the server fills in once the page is open.
        script: JavaScript that runs before anything else on the page.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    opened = Tab(context.new_page(), "/".join(url.split("/")[:3]))
    opened.watch()
    opened.page.add_init_script(script)
    try:
        opened.page.goto(url)
        opened.page.wait_for_selector(wait)
        yield opened
    finally:
        context.close()


TOO_WIDE = """() => {
  const screen = document.documentElement.clientWidth;
  const scrolls = node => node && (/auto|scroll/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  return [...document.querySelectorAll("body *")].filter(node => {
    const box = node.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > screen + 1 && node.offsetParent
      && !scrolls(node.parentElement);
  }).map(node => `${node.tagName}.${node.className} ends at ${node.getBoundingClientRect().right} of ${screen}`);
}"""

# What only waits for its moment, such as a button that goes after ten seconds, moves nothing until then.
AT_REST = """() => document.getAnimations().every(each => each.playState !== "running"
  || each.effect.getTiming().iterations === Infinity || each.effect.getTiming().duration === 0)"""

CUT = """() => [...document.querySelectorAll("button, label, p, h1, h2, h3, li, article, a, span, input, th, td")]
  .filter(node => node.offsetParent && node.clientWidth > 1
    && getComputedStyle(node).overflowX !== "visible" && node.scrollWidth > node.clientWidth + 1
    && !/auto|scroll/.test(getComputedStyle(node).overflowX))
  .map(node => `${node.tagName}.${node.className}: ${(node.value || node.textContent).slice(0, 60)}`)"""


PRIMARY = """() => {
  const probe = document.querySelector(".gradio-container").appendChild(document.createElement("i"));
  probe.style.background = "var(--button-primary-background-fill)";
  const wanted = getComputedStyle(probe).backgroundColor;
  probe.remove();
  return [...document.querySelectorAll("button")]
    .filter(each => each.checkVisibility() && !each.disabled && getComputedStyle(each).backgroundColor === wanted)
    .map(each => each.innerText.trim());
}"""


def primary(opened: Tab) -> list[str]:
    """The buttons that look like those to press now, as they are without the mouse on them."""
    opened.page.mouse.move(0, 0)
    opened.page.wait_for_function(AT_REST)
    found: list[str] = opened.page.evaluate(PRIMARY)
    return found


def choose(page: "Page", component: str, label: str) -> None:
    """Pick from a list, once it offers that."""
    option = page.locator(f"{component} option", has_text=label)
    option.wait_for(state="attached")
    page.select_option(f"{component} select", option.get_attribute("value"))
