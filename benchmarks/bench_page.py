"""How fast is the A/B page, how heavy, and does it stay so through 200 votes?

A headless Chromium votes by key in batch testing sessions, one second after each pair is whole, as somebody would who
knows the answer at once; a slower reader only gives the server more time. The clock runs in the browser, from the key
to the frame in which the next question and both whole answers stand there and can be voted on.

- Two copies of a trained version of ours, whose answers fill most of their tokens; the rival is the same page with
  `limits.prefetch=0`, which begins the next pair when it is asked for.
- An engine that answers at once, in Markdown with a table, code, a formula and a list: what is left is the page itself;
  in sessions, and as the third turn of a conversation, from Enter to the pair.
- The first visit, with an empty cache; the rival is a Gradio page with nothing but a line of text.
- 200 votes on: the heap of the tab after a collection, beside that after the first 20.
- 500 pairs of the two copies, which say the same as soon as they are drawn alike: how many were shown equal.

Goals: 100 ms at the median in each case, first paint within 1 s, 1.5 MB, 10 % growth, no equal pair.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from bench_gateway import InstantEngine
from bench_serving import install
from inputs import accepted, baseline, settings_for, successor
from reporting import Goal, report, say, show
from servers import free_port, our_environment, our_server, running

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.ledger import Ledger

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
READ_MS, HURRIED_MS = 1000, 350
SESSION, CONVERSATIONS, WARM, LONG = 50, 10, 20, 200
OURS, RIVAL, MARKDOWN, TURNS = "generated ahead", "generated when asked for", "Markdown", "Markdown, third turn"
VOTABLE = "#ab-left:not([disabled])"

# Presses a key; resolves with the milliseconds until the next question shows, and until its pair can be voted on.
VOTE = """key => new Promise(done => {
  const begin = performance.now(), where = document.querySelector(".ab-batch").textContent;
  let question = null;
  const look = () => {
    if (document.querySelector(".ab-batch")?.textContent === where) return;
    question ??= performance.now() - begin;
    if (document.querySelector("#ab-left").disabled || document.querySelector(".ab-card.growing")) return;
    watcher.disconnect();
    requestAnimationFrame(() => done([question, performance.now() - begin]));
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
  document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
})"""
# Sends a follow-up that is typed already; resolves with the milliseconds until its pair can be voted on.
ASK = """() => new Promise(done => {
  const begin = performance.now(), turns = document.querySelectorAll(".ab-turn").length;
  const look = () => {
    if (document.querySelectorAll(".ab-turn").length === turns) return;
    if (document.querySelector("#ab-left").disabled || document.querySelector(".ab-card.growing")) return;
    watcher.disconnect();
    requestAnimationFrame(() => done(performance.now() - begin));
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
  document.querySelector("#ab-go-on").click();
})"""
PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0].startTime"""
SAID = """## Answer of {version}, draw {draw}

{question} There are *three* things to know:

1. it has **steps**, each with a reason,
2. it has a formula, $x_{{n+1}} = x_n^2 + c$,
3. and a table.

| step | seconds |
|---|---:|
| one | 1.5 |
| two | 20 |

```python
def answer(question: str) -> str:
    return question.upper()
```
"""


class MarkdownEngine(InstantEngine):
    """Answers at once, each version differently and each seed: of two equal answers the server shows none."""

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        self.check_served(asks)
        return [Answer(self.said(ask), 8, 90, True, self.models[ask.model_id]) for ask in asks]

    def said(self, ask: Ask) -> str:
        return SAID.format(version=ask.model_id, draw=ask.sampling.seed, question=ask.messages[-1][1])

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        [answer] = await self.answers([ask])
        half = len(answer.text) // 2
        yield answer.text[:half]
        yield answer.text[half:]
        yield answer


def serve_markdown() -> Any:
    """An application over the data directory of the environment, whose versions cost nothing."""
    from dpo_pipeline.serving import app

    settings = load_settings()
    with Ledger(settings.ledger_address) as ledger:
        for name in ("v1.0", "v1.1"):
            accepted(ledger, name, name[-1] * 64, Path("none"))
        ledger.install_champion("v1.0", actor="benchmark")
    return app.create_app(settings, engine=MarkdownEngine())


def serve_bare(port: int) -> None:
    """The rival of the first visit."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML("<p>one line</p>")
    page.launch(server_port=port, quiet=True)


@contextmanager
def itself_as(side: str, environment: dict[str, str], port: int, ready: str) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", side, "--port", str(port)]
    with running(command, environment, f"http://127.0.0.1:{port}", ready) as url:
        yield url


@contextmanager
def chromium() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser: "Browser", url: str) -> "Page":
    page = browser.new_page()
    page.goto(f"{url}/compare")
    page.wait_for_selector("#ab-progress p")
    return page


def start_session(page: "Page", length: int) -> None:
    page.select_option("#ab-length select", label=f"{length} questions")
    page.click("#ab-start")


def vote(page: "Page", number: int, read_ms: int) -> tuple[float, float]:
    page.wait_for_selector(VOTABLE)
    page.wait_for_timeout(read_ms)
    question_ms, pair_ms = page.evaluate(VOTE, "12tx"[number % 4])
    return question_ms, pair_ms


def session(browser: "Browser", url: str, votes: int) -> list[tuple[float, float]]:
    """(ms to the next question, ms to the whole next pair) of each vote."""
    page = opened(browser, url)
    start_session(page, SESSION)
    timed = [vote(page, number, READ_MS) for number in range(votes)]
    page.close()
    return timed


def conversations(browser: "Browser", url: str) -> list[float]:
    """Milliseconds from Enter to the pair of the third turn."""
    page, timed = opened(browser, url), []
    for _ in range(CONVERSATIONS):
        page.fill("#ab-typed textarea", "Why is the sky blue?")
        page.click("#ab-generate")
        for follow_up in ("And at sunset?", "And on Mars?"):
            page.wait_for_selector(VOTABLE)
            page.wait_for_timeout(READ_MS)
            page.keyboard.press("1")
            page.locator("#ab-follow textarea").fill(follow_up)
            took = page.evaluate(ASK)
        timed.append(took)
        page.wait_for_selector(VOTABLE)
        page.wait_for_timeout(HURRIED_MS)
        page.keyboard.press("1")
        page.wait_for_selector("#ab-next:visible")
    page.close()
    return timed


def first_visit(browser: "Browser", url: str, wait: str) -> tuple[float, float]:
    """(first contentful paint in ms, megabytes over the line), medians of five visits with an empty cache."""
    paints, sizes = [], []
    for _ in range(5):
        context, came = browser.new_context(), list[float]()
        page = context.new_page()
        devtools = context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.on("Network.loadingFinished", lambda told, came=came: came.append(told["encodedDataLength"]))
        page.goto(url)
        page.wait_for_selector(wait)
        page.wait_for_timeout(1000)
        paints.append(page.evaluate(PAINTED))
        sizes.append(sum(came))
        context.close()
    return statistics.median(paints), statistics.median(sizes) / 1e6


def growth(browser: "Browser", url: str) -> dict[str, float]:
    """The heap of the tab, in megabytes, after the first votes and after 200 more."""
    page = opened(browser, url)
    devtools = page.context.new_cdp_session(page)
    heaps, number = [], 0
    for votes in (WARM, LONG):
        for _ in range(votes):
            if number % (SESSION - 1) == 0:  # the last vote of a session brings no next pair
                if number:
                    page.click("#ab-end")
                start_session(page, SESSION)
            vote(page, number, HURRIED_MS)
            number += 1
        heaps.append(heap_mb(devtools))
    page.close()
    return {"MB after 20 votes": heaps[0], "MB after 220 votes": heaps[1]}


def heap_mb(devtools: "CDPSession") -> float:
    for _ in range(3):  # what one collection finalizes, the next one frees
        devtools.send("HeapProfiler.collectGarbage")
    return float(devtools.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def equal_pairs(url: str, count: int) -> int:
    """Of so many pairs, those with two equal answers."""
    with httpx.Client(base_url=url, timeout=60) as client:
        shown = [client.get("/v1/comparisons/next").raise_for_status().json()["answers"] for _ in range(count)]
    return sum(each["left"].strip() == each["right"].strip() for each in shown)


def row_of(side: str, questions: Sequence[float], pairs: Sequence[float]) -> dict[str, Any]:
    return {
        "side": side,
        "votes": len(pairs),
        "question, median ms": statistics.median(questions) if questions else None,
        "pair, median ms": statistics.median(pairs),
        "pair, p90 ms": sorted(pairs)[int(0.9 * len(pairs))],
        "pair, longest ms": max(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and versions are or shall be; default: of the settings")
    parser.add_argument("--votes", type=int, default=30, choices=range(3, SESSION), metavar="VOTES")
    parser.add_argument("--serve", choices=("markdown", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve == "markdown":
        uvicorn.run(
            serve_markdown(), host="127.0.0.1", port=args.port, log_level="warning", timeout_graceful_shutdown=5
        )
    elif args.serve == "bare":
        serve_bare(args.port)
    else:
        measure(args.data_dir, args.votes)


def measure(data_dir: str | None, votes: int) -> None:
    settings = settings_for(data_dir)
    base, start = baseline(settings)
    trained = successor(settings, base, start)
    rows = []
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        for side, ahead in ((OURS, "64"), (RIVAL, "0")):
            data = Path(temporary) / ahead
            install(settings, data, trained)
            with our_server(data, DPO_LIMITS__PREFETCH=ahead) as url:
                rows.append(row_of(side, *zip(*session(browser, url, votes), strict=True)))
                if side == OURS:
                    equal = equal_pairs(url, 500)
            say(f"{side}: done")
        data, port = Path(temporary) / "markdown", free_port()
        data.mkdir()
        with itself_as("markdown", our_environment(data, port), port, "/readyz") as url:
            rows.append(row_of(MARKDOWN, *zip(*session(browser, url, votes), strict=True)))
            rows.append(row_of(TURNS, [], conversations(browser, url)))
            paint_ms, weight_mb = first_visit(browser, f"{url}/compare", "#ab-progress p")
            say("first visit: done")
            heap = growth(browser, url)
        port = free_port()
        with itself_as("bare", {"GRADIO_ANALYTICS_ENABLED": "False"}, port, "/") as url:
            bare_ms, bare_mb = first_visit(browser, url, "p")
    visits = [
        {"page": "A/B test", "first paint, ms": paint_ms, "MB": weight_mb},
        {"page": "Gradio with one line", "first paint, ms": bare_ms, "MB": bare_mb},
    ]
    grown = 100 * (heap["MB after 220 votes"] / heap["MB after 20 votes"] - 1)
    show("From a vote to the next pair on screen", rows)
    show("The first visit", visits)
    show("The heap of the tab", [heap])
    goals = [
        Goal(f"{row['side']}: vote to next pair, median ms,", row["pair, median ms"], "at most", 100)
        for row in rows
        if row["side"] != RIVAL
    ]
    goals += [
        Goal("first contentful paint, ms,", paint_ms, "at most", 1000),
        Goal("over the line at the first visit, MB,", weight_mb, "at most", 1.5),
        Goal("growth of the tab over 200 votes, %,", grown, "at most", 10),
        Goal("equal pairs of 500", equal, "at most", 0),
    ]
    report("page", goals, {"rows": rows, "visits": visits, "heap": heap, "equal pairs of 500": equal})


if __name__ == "__main__":
    main()
