"""What people's ratings say of v1.0 is said by people, and not by how often one of them says it."""

from pathlib import Path

import pytest

from dpo_pipeline.core.diagnosis import diagnose
from dpo_pipeline.core.identity import Identity
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.loop.symptoms import symptoms
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.examples import put_version, settings_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def rated(settings: Settings, people: list[str], stars: int, identity: Identity = "named") -> None:
    log = ServingLog(settings.serving_log_dir)
    for number, person in enumerate(people):
        name = f"{identity}-{number}"
        log.append(
            FeedbackRecord(
                event_id=f"evt-{name}", recorded_at=utc_now(), request_id=f"r-{name}", user=person, version=BASELINE,
                signal="rating", value=stars, prompt="Why?", answer="So.", identity=identity,
            )
        )  # fmt: skip
    log.close()


def change(settings: Settings) -> str:
    """What the diagnosis would change, where people have corrected enough for a round of SFT."""
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="evaluated", parent=BASELINE, win_rate=0.5)
        found = symptoms(settings, ledger.version("v1.1"))
    return diagnose(DpoRecipe(), found.__class__(**{**vars(found), "demonstrations": 40})).change


def test_twelve_ratings_of_one_person_choose_no_sft_round(settings: Settings) -> None:
    rated(settings, ["ann"] * 12, stars=1)
    assert change(settings) != "sft_round"


def test_twelve_names_that_nobody_vouches_for_choose_none(settings: Settings) -> None:
    rated(settings, [f"p{number}" for number in range(12)], stars=1, identity="anonymous")
    assert change(settings) != "sft_round"


def test_twelve_people_do(settings: Settings) -> None:
    rated(settings, [f"p{number}" for number in range(12)], stars=1)
    assert change(settings) == "sft_round"
