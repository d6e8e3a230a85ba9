"""Votes that wait together share a sync, an error, and nothing else."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.stores.group_commit import committing
from dpo_pipeline.stores.log import AppendLog


def test_those_that_wait_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs, real = [], os.fdatasync

    def slow_sync(descriptor: int) -> None:
        syncs.append(descriptor)
        time.sleep(0.02)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow_sync)
    path = tmp_path / "log"

    async def write_all() -> None:
        log = committing(AppendLog(path))

        async def write(number: int) -> None:
            await log.submit(b"%d" % number)
            assert b"%d\n" % number in path.read_bytes(), "acknowledged before it was there"

        await asyncio.gather(*map(write, range(64)))

    asyncio.run(write_all())
    assert sorted(map(int, path.read_text().split())) == list(range(64))
    assert len(syncs) <= 2, "the first alone, all others together"


def test_an_error_reaches_everybody_who_shared_it_and_nobody_after(tmp_path: Path) -> None:
    async def write_all() -> list[object]:
        log = committing(AppendLog(tmp_path / "log"))
        refused = await asyncio.gather(log.submit(b"one"), log.submit(b"two\nlines"), return_exceptions=True)
        await log.submit(b"three")
        return list(refused)

    refused = asyncio.run(write_all())
    assert len(refused) == 2 and all(isinstance(error, LogWriteError) for error in refused)
    assert (tmp_path / "log").read_bytes() == b"three\n"


def test_an_error_nobody_foresaw_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write_all() -> None:
        log = committing(AppendLog(tmp_path / "log"))
        with monkeypatch.context() as broken:
            broken.setattr(AppendLog, "append_all", lambda log, lines: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(log.submit(b"one"), 10)
        await asyncio.wait_for(log.submit(b"two"), 10)

    asyncio.run(write_all())
    assert (tmp_path / "log").read_bytes() == b"two\n"


def test_a_caller_who_went_away_stops_nobody(tmp_path: Path) -> None:
    async def write_all() -> None:
        log = committing(AppendLog(tmp_path / "log"))
        gone = asyncio.create_task(log.submit(b"gone"))
        stays = asyncio.create_task(log.submit(b"stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await stays

    asyncio.run(write_all())
    assert (tmp_path / "log").read_bytes().split() == [b"gone", b"stays"]
