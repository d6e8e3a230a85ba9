"""How long after a vote is the next pair on the A/B page, with and without generating it ahead?

A headless Chromium votes by key in a batch testing session, one second after each pair is whole, as
somebody would who knows the answer at once; a slower reader only gives the server more time. The
clock runs in the browser, from the key to the frame in which the next question and both whole answers
stand there and can be voted on. The rival is the same page with `limits.ahead=0`: it begins the next
pair when it is asked for. Both compare two copies of a trained version, whose answers fill most of
their tokens. Goal: under 300 ms at the median with pre-generation.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench_serving import install
from inputs import baseline, settings_for, successor
from reporting import Goal, report, say, show
from servers import our_server

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
READ_MS = 1000
SESSION = 50
OURS, RIVAL = "generated ahead", "generated when asked for"

# Presses a key; resolves with the milliseconds until the next question shows, and until its pair can be voted on.
VOTE = """key => new Promise(done => {
  const begin = performance.now(), where = document.querySelector(".ab-batch").textContent;
  let question = null;
  const look = () => {
    if (document.querySelector(".ab-batch")?.textContent === where) return;
    question ??= performance.now() - begin;
    if (document.querySelector("#ab-left").disabled || document.querySelector(".ab-answer.empty")) return;
    watcher.disconnect();
    requestAnimationFrame(() => done([question, performance.now() - begin]));
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
  document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
})"""


def measure(url: str, votes: int) -> list[tuple[float, float]]:
    """(ms to the next question, ms to the whole next pair) of each vote."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#ab-progress p")
        page.click("#ab-length input")
        page.get_by_role("option", name=f"{SESSION} questions").click()
        page.click("#ab-start")
        timed = []
        for number in range(votes):
            page.wait_for_selector("#ab-left:not([disabled])")
            page.wait_for_timeout(READ_MS)
            question_ms, pair_ms = page.evaluate(VOTE, "12tx"[number % 4])
            timed.append((question_ms, pair_ms))
        browser.close()
    return timed


def row_of(side: str, timed: list[tuple[float, float]]) -> dict[str, Any]:
    questions, pairs = zip(*timed, strict=True)
    return {
        "side": side,
        "votes": len(timed),
        "question, median ms": statistics.median(questions),
        "pair, median ms": statistics.median(pairs),
        "pair, p90 ms": sorted(pairs)[int(0.9 * len(pairs))],
        "pair, longest ms": max(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and versions are or shall be; default: of the settings")
    parser.add_argument("--votes", type=int, default=30, choices=range(3, SESSION), metavar="VOTES")
    args = parser.parse_args()
    settings = settings_for(args.data_dir)
    base, start = baseline(settings)
    trained = successor(settings, base, start)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for side, ahead in ((OURS, "64"), (RIVAL, "0")):
            data = Path(temporary) / ahead
            install(settings, data, trained)
            with our_server(data, DPO_LIMITS__AHEAD=ahead) as url:
                rows.append(row_of(side, measure(url, args.votes)))
            say(f"{side}: done")
    show("From a vote to the next pair on screen", rows)
    report("page", [Goal("vote to next pair, median ms,", rows[0]["pair, median ms"], "at most", 300)], {"rows": rows})


if __name__ == "__main__":
    main()
