"""The data folder is copied while it is written to, and opens again elsewhere; what is no whole backup is refused."""

import json
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dpo_pipeline.core.votes import decode_preference, encode_preference
from dpo_pipeline.errors import BackupRefused
from dpo_pipeline.loop.backup import MANIFEST, back_up, restore
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import signing_key
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest
from dpo_pipeline_tests.examples import preference, put_version, settings_in
from dpo_pipeline_tests.serving import collected


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Votes, a version with its adapter, a request that can be rated, and files that a backup leaves out."""
    settings = settings_in(tmp_path / "here")
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(number)) for number in range(9)])
    collected.curate(settings)
    adapter = settings.artifacts_dir / "adapters" / "one"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_bytes(b"some")
    sha = str(artifacts.write_manifest(adapter, {"version": "v1.0"})["sha256"])
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="registered", adapter_sha=sha, adapter_dir=str(adapter))
        ledger.install_champion("v1.0", "test")
    state = ServingState(settings.serving_state)
    state.add_request(StoredRequest(request_id="r-1", user="ann", version="v1.0", prompt="Why?"), 1.0)
    state.close()
    signing_key(settings)
    settings.logs_dir.mkdir()
    (settings.logs_dir / "serving.log").write_text("much")
    return settings


@pytest.mark.slow
def test_it_opens_elsewhere(settings: Settings, tmp_path: Path) -> None:
    with settings.prefs_log.open("ab") as log:
        log.write(b'{"half a li')
    made = back_up(settings, tmp_path / "copy")
    assert made.files == len(json.loads((tmp_path / "copy" / MANIFEST).read_bytes())["files"]) and not made.elsewhere
    assert not any((tmp_path / "copy" / name).exists() for name in ("logs", "warehouse"))
    there = settings_in(tmp_path / "there")
    shutil.rmtree(settings.data_dir)
    assert restore(there, tmp_path / "copy").files == made.files
    with Ledger(there.ledger_address) as ledger:
        version = ledger.version("v1.0")
        assert (version.status, ledger.deployment().champion) == ("champion", "v1.0")
    assert version.adapter_dir == str(there.artifacts_dir / "adapters" / "one")
    assert artifacts.verify(Path(version.adapter_dir))["sha256"] == version.adapter_sha
    with closing(ServingState(there.serving_state)) as state:
        assert state.request("r-1") is not None
    assert len(there.prefs_log.read_bytes().splitlines()) == 9, "the half of a line is left out"
    assert read_summary(there.curation_summary).rebuilt and len(collected.curate(there)) == 9
    kept = json.loads((tmp_path / "copy" / MANIFEST).read_bytes())["files"]
    assert {(there.data_dir / name).stat().st_mode & 0o077 for name in kept} == {0}, "they hold what people said"


def test_it_is_whole_while_votes_and_requests_come(settings: Settings, tmp_path: Path) -> None:
    """Of what was acknowledged before the copy began nothing is missing, and no line or row is torn."""
    log, state, stop = AppendLog(settings.prefs_log), ServingState(settings.serving_state), threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            number = 100 + len(written)
            log.append(encode_preference(preference(number)))
            state.add_request(StoredRequest(request_id=f"r-{number}", user="ann", version="v1.0", prompt="Why?"), 1.0)
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 20:
        pass
    before = list(written)
    back_up(settings, tmp_path / "copy")
    stop.set()
    writer.join()
    state.close()
    there = settings_in(tmp_path / "there")
    restore(there, tmp_path / "copy")
    found = {decode_preference(line).event_id for line in there.prefs_log.read_bytes().splitlines()}
    assert found >= {f"evt-{number}" for number in before}
    with closing(ServingState(there.serving_state)) as kept:
        assert kept.request("r-1") is not None


def test_what_is_no_whole_backup_is_refused_and_nothing_is_put_anywhere(settings: Settings, tmp_path: Path) -> None:
    copy, there = tmp_path / "copy", settings_in(tmp_path / "there")
    with pytest.raises(BackupRefused, match=r"holds no backup\.json"):
        restore(there, tmp_path)
    back_up(settings, copy)
    with pytest.raises(BackupRefused, match="there already and not empty"):
        back_up(settings, copy)
    with pytest.raises(BackupRefused, match="in the data folder itself"):
        back_up(settings, settings.data_dir / "copy")
    with pytest.raises(BackupRefused, match="not empty"):
        restore(settings, copy)
    (copy / "llmops" / "dpo" / "prefs.jsonl").write_bytes(b"")
    with pytest.raises(BackupRefused, match=r"1 files are missing or changed, such as llmops/dpo/prefs\.jsonl"):
        restore(there, copy)
    assert not there.data_dir.exists()
