"""How many wrong keys an address may send: so many within a minute, and then none of its keys is looked at for a while.

Also right ones, or whoever guesses would see which one is. Others, sessions of browsers and the loop's own programs do
not notice. In memory: of several servers, each counts for itself.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from dpo_pipeline.request_errors import TooManyWrongKeys

MOST = 20
WITHIN_S = 60.0


class WrongKeys:
    """Those of the last minute, by network (`accounts.network_of`).

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._tries: dict[str, deque[tuple[float, int | None]]] = {}
        self._tidied = clock()

    def check(self, network: str) -> None:
        """
        Raises:
            TooManyWrongKeys: no key from there is looked at now.
        """
        with self._lock:
            tries = self._recent(network)
            if len(tries) >= MOST:
                wait_s = math.ceil(tries[0][0] + WITHIN_S - self._clock())
                raise TooManyWrongKeys(
                    f"{MOST} wrong keys came from {network} within a minute, which is the most. Send the right one in "
                    f"{wait_s} s.",
                    max(wait_s, 1),
                )

    def count(self, network: str, same_as: str | None = None) -> bool:
        """Note one; returns whether it was the last one that is looked at.

        Args:
            same_as: a text that is counted once, however often it comes.
        """
        with self._lock:
            tries, mark = self._recent(network), None if same_as is None else hash(same_as)
            if mark is not None and any(each == mark for _, each in tries):
                return False
            tries.append((self._clock(), mark))
            self._tries[network] = tries
            return len(tries) == MOST

    def _recent(self, network: str) -> deque[tuple[float, int | None]]:
        now = self._clock()
        if now - self._tidied > WITHIN_S:  # whoever has a thousand addresses leaves nothing behind
            self._tries = {name: tries for name, tries in self._tries.items() if now - tries[-1][0] < WITHIN_S}
            self._tidied = now
        tries = self._tries.get(network) or deque()
        while tries and now - tries[0][0] >= WITHIN_S:
            tries.popleft()
        return tries
