"""A log with votes, and the warehouse that they are read into."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.ingest import IngestReport, ingest, validate_new
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import preference

CRITERIA = QualityCriteria()


@contextmanager
def opened_project(directory: Path) -> Iterator["Project"]:
    project = Project(directory)
    try:
        yield project
    finally:
        project.connection.close()


class Project:
    """A log, a quarantine and a warehouse in one directory."""

    def __init__(self, directory: Path):
        self.log = directory / "prefs.jsonl"
        self.quarantine = directory / "quarantine.jsonl"
        self.file = directory / "loop.duckdb"
        self.connection = duckdb.connect(str(self.file))
        prepare(self.connection)
        self.warehouse = Warehouse(self.connection, self.log)

    def tick(self) -> IngestReport:
        report = ingest(self.warehouse, self.quarantine, 1 << 20, CRITERIA)
        validate_new(self.warehouse, CRITERIA)
        return report

    def rebuild(self) -> None:
        self.connection.close()
        self.file.unlink()
        self.reopen()

    def reopen(self) -> None:
        self.connection.close()
        self.connection = duckdb.connect(str(self.file))
        prepare(self.connection)
        self.warehouse = Warehouse(self.connection, self.log)


def votes(count: int, start: int = 0) -> list[bytes]:
    draw = random.Random(start)
    return [
        encode_preference(preference(i, vote=draw.choice(["a", "a", "b", "tie"]), event_id=f"evt-{i}"))
        for i in range(start, start + count)
    ]
