"""Where a task with a model runs: here, or in the process that a Dagster run keeps for such work."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Call(Protocol):
    """Runs a function of a module, whose arguments can be pickled, and returns what it returns."""

    def __call__(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


def here(task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """In this process, which imports torch for it."""
    return task(*args, **kwargs)
