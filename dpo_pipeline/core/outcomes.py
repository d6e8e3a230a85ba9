"""How a request ended, and whether that says anything about the version that was asked.

| outcome | what happened | counts |
|---|---|---|
| `ok` | answered whole | yes |
| `timeout` | no answer within the deadline, or no first word while a person waited | yes, a failure |
| `engine_error` | the engine, or the server behind it, said that it failed | yes, a failure |
| `crash` | the engine ended, or failed in a way nobody foresaw | yes, a failure |
| `client_error` | the request could not be answered by any version | no |
| `cancelled` | whoever asked went away | no |
| `overloaded` | there was no room for it | no |
"""

from enum import StrEnum


class RequestOutcome(StrEnum):
    OK = "ok"
    TIMEOUT = "timeout"
    ENGINE_ERROR = "engine_error"
    CRASH = "crash"
    CLIENT_ERROR = "client_error"
    CANCELLED = "cancelled"
    OVERLOADED = "overloaded"

    @classmethod
    def _missing_(cls, value: object) -> "RequestOutcome | None":
        """Logs from before the set was closed say `error`."""
        return cls.ENGINE_ERROR if value == "error" else None

    @property
    def failed(self) -> bool:
        """By the version's fault, as far as anybody can tell."""
        return self in FAILED

    @property
    def counts(self) -> bool:
        """It is evidence, for the version or against it."""
        return self is RequestOutcome.OK or self.failed


FAILED = frozenset({RequestOutcome.TIMEOUT, RequestOutcome.ENGINE_ERROR, RequestOutcome.CRASH})
