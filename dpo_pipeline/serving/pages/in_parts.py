"""An event that is answered in one call where its answer is there at once, and in parts where it takes time.

Parts go over Gradio's queue, whose two calls and whose stream cost twice what making a pair ready costs. So the call
takes what is there, and the rest waits until the page, told that there is one, asks for it over the queue.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SOON_S = 0.02
"""So long the call waits for the next part: much less than a round trip through the queue."""
Part = dict[str, Any]


@dataclass
class _Rest:
    parts: AsyncGenerator[Part]
    coming: asyncio.Task[Part | None]
    of: object = None

    async def close(self) -> None:
        self.coming.cancel()
        with suppress(asyncio.CancelledError, Exception):  # whoever goes is told nothing any more
            await self.coming
        await self.parts.aclose()


class InParts:
    """What is still to come, by the load of a page: of the newest event that had a rest."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}
        self._read: set[str] = set()

    async def begun(
        self, key: str, parts: AsyncGenerator[Part], now: Callable[[], object] = lambda: None
    ) -> tuple[Part, bool]:
        """All that is there at once, as one part, and whether more comes; the first part is waited for.

        Args:
            now: what the rest belongs to, such as the number of a pair; once it is another one, the rest is over.

        Raises: whatever stopped it.
        """
        there: Part = {}
        rest = _Rest(parts, asyncio.create_task(_next(parts)))
        try:
            while (part := await rest.coming) is not None:
                there |= part
                rest.coming = asyncio.create_task(_next(parts))
                # What the queue still brings of an earlier event must not come after this: then all goes over it.
                queued = key in self._read
                await asyncio.wait([rest.coming], timeout=0 if queued else SOON_S)
                if queued or not rest.coming.done():
                    rest.of = now()
                    earlier, self._rests[key] = self._rests.get(key), rest
                    if earlier:
                        await earlier.close()
                    return there, True
            return there, False
        except BaseException:
            await rest.close()
            raise

    async def rest(self, key: str, now: Callable[[], object] = lambda: None) -> AsyncGenerator[Part]:
        """What comes after that; nothing where somebody else has it, or the page's load is another one.

        Raises: whatever stopped it.
        """
        rest = self._rests.pop(key, None)
        if rest is None:
            return
        self._read.add(key)
        try:
            while (part := await rest.coming) is not None and rest.of == now():
                yield part
                rest.coming = asyncio.create_task(_next(rest.parts))
        finally:
            self._read.discard(key)
            await rest.close()

    async def drop(self, key: str) -> None:
        """Nobody comes for it."""
        if rest := self._rests.pop(key, None):
            await rest.close()


async def _next(parts: AsyncGenerator[Part]) -> Part | None:
    return await anext(parts, None)
