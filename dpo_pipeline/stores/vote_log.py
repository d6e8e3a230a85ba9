"""The one vote that each comparison gets: in the preference log of this machine, or of several.

For the coroutines of one event loop: votes that wait for the disk, or the database, at the same time share one write.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from dpo_pipeline.core.votes import Preference, Vote, decode_preference, encode_preference
from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError
from dpo_pipeline.stores.decode import votes_of
from dpo_pipeline.stores.group_commit import GroupCommit, committing
from dpo_pipeline.stores.log import Log, file_bytes
from dpo_pipeline.stores.log_reading import Position, line_start, read_batches
from dpo_pipeline.stores.shared_logs import SharedLogs


class Recording(NamedTuple):
    """The vote that stands under an id now, and whether it came with this call."""

    vote: Vote
    is_new: bool


class VoteLog(Protocol):
    def offset(self) -> int:
        """A place in the log such that whatever is voted from now on stands behind it."""
        ...

    def known(self, event_id: str) -> Vote | None:
        """The vote that was recorded under this id, as far as that is known here without asking anybody."""
        ...

    def recorded(self, event_ids: Sequence[str]) -> dict[str, Vote]:
        """The votes on record under these ids. Not in the event loop: it may ask another machine.

        Raises:
            DatabaseUnavailable: that cannot be told.
        """
        ...

    async def record(self, event: Preference) -> Recording:
        """Put a vote on record, where there is none under its id yet. On return it survives kill -9 and power loss.

        Raises:
            LogWriteError: it is not on record, as far as that can be told; sent again, it is recorded once.
        """
        ...


class FileVotes:
    """Votes in a file. One program takes them: it alone knows which comparison has its vote.

    Args:
        since: the byte of the log behind which votes may still be sent again; null: there are none.
    """

    def __init__(self, log: Log, max_line_bytes: int, since: int | None):
        self._log, self._max_line_bytes = log, max_line_bytes
        self._commit = committing(log)
        self._votes = self._on_disk(since)

    def offset(self) -> int:
        return file_bytes(self._log.path)

    def known(self, event_id: str) -> Vote | None:
        return self._votes.get(event_id)

    def recorded(self, event_ids: Sequence[str]) -> dict[str, Vote]:
        return {each: vote for each in event_ids if (vote := self.known(each))}

    async def record(self, event: Preference) -> Recording:
        if (earlier := self.known(event.event_id)) is not None:
            return Recording(earlier, is_new=False)
        await self._commit.submit(encode_preference(event))
        self._votes[event.event_id] = event.vote
        return Recording(event.vote, is_new=True)

    def _on_disk(self, since: int | None) -> dict[str, Vote]:
        voted: dict[str, Vote] = {}
        log = self._log.path
        if since is None or not log.exists():
            return voted
        found = log.stat()
        if since > found.st_size:
            return voted
        position = Position(line_start(log, since), found.st_ino, found.st_dev) if since else Position()
        for batch in read_batches(log, position, self._max_line_bytes):
            voted |= {event.event_id: event.vote for event in votes_of(batch)}
        return voted


class _Line(NamedTuple):
    event_id: str
    line: bytes


class SharedVotes:
    """Votes in the database, which takes one under each id, whoever sends it to whichever server."""

    def __init__(self, logs: SharedLogs, path: Path):
        self._logs, self._path = logs, path
        self._commit = GroupCommit(self._append)

    def offset(self) -> int:
        return 0

    def known(self, event_id: str) -> Vote | None:
        return None

    def recorded(self, event_ids: Sequence[str]) -> dict[str, Vote]:
        lines = self._logs.lines(self._path, event_ids)
        return {each: decode_preference(line).vote for each, line in lines.items()}

    async def record(self, event: Preference) -> Recording:
        earlier = await self._commit.submit(_Line(event.event_id, encode_preference(event)))
        if earlier is None:
            return Recording(event.vote, is_new=True)
        return Recording(decode_preference(earlier).vote, is_new=False)

    def _append(self, events: list[_Line]) -> list[bytes | None]:
        """The line that stood there before, for each; of two under one id here, the first is recorded."""
        lines = {event.event_id: event.line for event in reversed(events)}
        try:
            earlier = self._logs.append(self._path, list(lines.values()), list(lines))
        except DatabaseUnavailable as error:
            raise LogWriteError(str(error)) from error
        stands = lines | earlier
        return [None if stands[event.event_id] is event.line else stands[event.event_id] for event in events]
