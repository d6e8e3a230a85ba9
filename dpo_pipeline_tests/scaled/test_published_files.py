"""What the machine that trains writes for people to look at is on every server, soon, whole and in its newest form."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dpo_pipeline.stores.published_files import LARGEST_BYTES, PublishedFiles

pytestmark = pytest.mark.slow


@pytest.fixture
def trains(engine: sa.Engine, tmp_path: Path) -> PublishedFiles:
    return PublishedFiles(engine, tmp_path / "trains")


@pytest.fixture
def serves(engine: sa.Engine, tmp_path: Path) -> PublishedFiles:
    return PublishedFiles(engine, tmp_path / "serves")


def write(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "trains" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_newest_is_on_the_server(trains: PublishedFiles, serves: PublishedFiles, tmp_path: Path) -> None:
    assert serves.follow() == 0
    write(tmp_path, "warehouse/curation.json", "1")
    write(tmp_path, "reports/evaluation/v1.1-attempt1.html", "page")
    write(tmp_path, "progress/dpo.run", "where MLflow shows it")
    assert trains.share() == 3 and trains.share() == 0
    assert serves.follow() == 3 and serves.follow() == 0
    assert (tmp_path / "serves/progress/dpo.run").exists()
    assert (tmp_path / "serves/reports/evaluation/v1.1-attempt1.html").read_text() == "page"
    write(tmp_path, "warehouse/curation.json", "22")
    assert trains.share() == 1 and serves.follow() == 1
    assert (tmp_path / "serves/warehouse/curation.json").read_text() == "22"


def test_a_server_that_starts_again_has_all_of_it(trains: PublishedFiles, engine: sa.Engine, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, "progress/dpo.json", str(number) * (number + 1))
        trains.share()
    again = PublishedFiles(engine, tmp_path / "again")
    assert again.follow() == 1
    assert (tmp_path / "again/progress/dpo.json").read_text() == "222"


def test_votes_databases_and_what_is_too_large_stay_where_they_are(
    trains: PublishedFiles, serves: PublishedFiles, tmp_path: Path
) -> None:
    for name in ("llmops/dpo/prefs.jsonl", "warehouse/loop.duckdb", "serving.key", "reports/.half-written"):
        write(tmp_path, name, "x")
    write(tmp_path, "reports/huge.html", "x" * (LARGEST_BYTES + 1))
    assert trains.share() == 0 and serves.follow() == 0


def test_what_is_forgotten_goes_from_every_server(
    trains: PublishedFiles, serves: PublishedFiles, engine: sa.Engine, tmp_path: Path
) -> None:
    write(tmp_path, "reports/feedback.parquet", "words")
    write(tmp_path, "warehouse/curation.json", "counts")
    trains.share()
    serves.follow()
    own = tmp_path / "serves/reports/loadtest.html"
    own.write_text("of this server alone")
    (tmp_path / "trains/reports/feedback.parquet").unlink()
    trains.forget()
    trains.share()
    PublishedFiles(engine, tmp_path / "serves").follow()  # servers are stopped while somebody is forgotten
    assert not (tmp_path / "serves/reports/feedback.parquet").exists() and own.exists()
    assert (tmp_path / "serves/warehouse/curation.json").read_text() == "counts"
