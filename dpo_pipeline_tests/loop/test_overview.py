"""The loop at a glance, from the files and the ledger of a data folder."""

import os
import time
from pathlib import Path

import pytest

from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.overview import Step
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.overview import loop_overview
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import publish_summary
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog, file_bytes
from dpo_pipeline_tests.examples import preference, put_version, settings_in


@pytest.mark.parametrize("minutes", [1, 20])
def test_votes_that_nothing_reads_stand_still(tmp_path: Path, minutes: int) -> None:
    settings = settings_in(tmp_path)
    publish_summary(settings.curation_summary, CurationSummary())
    AppendLog(settings.prefs_log).append(encode_preference(preference(1)))
    ago = time.time() - 60 * minutes
    for each in (settings.prefs_log, settings.curation_summary):
        os.utime(each, (ago, ago))
    assert valid_pairs(settings).state == ("stuck" if minutes > 10 else "waiting")
    publish_summary(settings.curation_summary, CurationSummary(log_offset=file_bytes(settings.prefs_log)))
    assert valid_pairs(settings).state == "waiting"


def valid_pairs(settings: Settings) -> Step:
    with Ledger(settings.ledger_address) as ledger:
        if not ledger.versions():
            put_version(ledger, "v1.0", status="registered", adapter_sha="0" * 64)
            ledger.install_champion("v1.0", "test")
        steps = loop_overview(settings, ledger).steps
    return next(step for step in steps if step.name == "Valid pairs")
