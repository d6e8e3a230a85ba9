"""An event that is answered in one call where its answer is there at once, and in parts where it takes time.

Parts go over Gradio's queue, whose two calls and whose stream cost twice what making a pair ready costs. So the call
takes what is there, and the rest waits until the page, told that there is one, asks for it over the queue.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
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

    async def close(self) -> None:
        self.coming.cancel()
        with suppress(asyncio.CancelledError, Exception):  # whoever goes is told nothing any more
            await self.coming
        await self.parts.aclose()


class InParts:
    """What is still to come, by the load of a page. Of one load, a later event ends what an earlier one still had."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    async def begun(self, key: str, parts: AsyncGenerator[Part]) -> tuple[Part, bool]:
        """All that is there at once, as one part, and whether more comes; the first part is waited for.

        Raises: whatever stopped it.
        """
        await self.drop(key)
        there: Part = {}
        rest = _Rest(parts, asyncio.create_task(_next(parts)))
        try:
            while (part := await rest.coming) is not None:
                there |= part
                rest.coming = asyncio.create_task(_next(parts))
                await asyncio.wait([rest.coming], timeout=SOON_S)
                if not rest.coming.done():
                    self._rests[key] = rest
                    return there, True
            return there, False
        except BaseException:
            await rest.close()
            raise

    async def rest(self, key: str) -> AsyncIterator[Part]:
        """What comes after that; nothing where somebody else has it, or the page's load is another one.

        Raises: whatever stopped it.
        """
        rest = self._rests.pop(key, None)
        if rest is None:
            return
        try:
            while (part := await rest.coming) is not None:
                yield part
                rest.coming = asyncio.create_task(_next(rest.parts))
        finally:
            await rest.close()

    async def drop(self, key: str) -> None:
        """Nobody comes for it."""
        if rest := self._rests.pop(key, None):
            await rest.close()


async def _next(parts: AsyncGenerator[Part]) -> Part | None:
    return await anext(parts, None)
