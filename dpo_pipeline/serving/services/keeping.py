"""Redacting and storing beside the server's loop, to the end even where whoever asked has gone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
# Its own threads: a redactor that takes seconds must not hold up those that sign people in or draw a question.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="keeping")
# Others than those above: a database that hangs must not hold up what is only to be redacted.
_ASKING = ThreadPoolExecutor(8, thread_name_prefix="asking")


async def asking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for what waits for a database that may be another machine's."""
    begun = asyncio.get_running_loop().run_in_executor(_ASKING, partial(function, *args, **kwargs))
    return await asyncio.shield(begun)


def soon(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Some time; nobody waits for it."""
    _ASKING.submit(function, *args, **kwargs)


async def keeping(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns; it may take its time, as a redactor of the user's own does."""
    begun = asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *args, **kwargs))
    return await asyncio.shield(begun)


def later(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """The same; nobody waits for it."""
    _THREADS.submit(function, *args, **kwargs)
