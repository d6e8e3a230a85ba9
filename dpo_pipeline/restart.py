"""Run a program, and start it again when it fails: `python -m dpo_pipeline.restart COMMAND…`.

`make up` must stand for months, and the trouble of one program must not end the others. Only what never stood, and
fails at once several times in a row, is given up: then its exit status is passed on, and honcho stops the others.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

FAILURES_IN_A_ROW = 3
STOOD_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOPPING_S = 4.0  # honcho kills after 5


def keep_running(command: Sequence[str]) -> int:
    """The exit status of the program, once it ended well, was asked to end, or failed from the start.

    A program that once ran for STOOD_S seconds is started again for ever, after pauses that grow with the failures in a
    row. SIGTERM goes to the whole process group, as honcho sends it: the program gets its own, and is told once more
    when it stays.
    """
    asked, failures, stood = threading.Event(), 0, False
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: object) -> None:
        asked.set()
        if process:
            again = threading.Timer(STOPPING_S, process.terminate)
            again.daemon = True
            again.start()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    while True:
        started = time.monotonic()
        process = subprocess.Popen(command)
        status = process.wait()
        if status == 0 or asked.is_set():
            return status
        lived_s = time.monotonic() - started
        failures = failures + 1 if lived_s < STOOD_S else 1
        stood = stood or lived_s >= STOOD_S
        _say(f"The program ended with status {status} after {lived_s:.0f} s.")
        if failures == FAILURES_IN_A_ROW and not stood:
            _say(f"It failed {failures} times in a row from the start and is not started again.")
            return status
        if asked.wait(min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)):
            return status
        _say("It is started again.")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    ended = keep_running(sys.argv[1:])
    sys.exit(128 - ended if ended < 0 else ended)
