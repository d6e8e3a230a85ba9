"""The votes leave as they are: every whole line, byte for byte, while others are written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpo_pipeline.cli import app
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import LogError
from dpo_pipeline.loop.export_votes import export_votes
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline_tests.examples import preference, settings_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path / "here")
    AppendLog(made.prefs_log).append_all([encode_preference(preference(number)) for number in range(40)])
    return made


def test_every_whole_line_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    whole = settings.prefs_log.read_bytes()
    with settings.prefs_log.open("ab") as log:
        log.write(b'{"event_id": "evt-torn"')
    target = tmp_path / "elsewhere" / "votes.jsonl"
    assert export_votes(settings, target) == 40
    assert target.read_bytes() == whole
    assert export_votes(settings, target) == 40, "an earlier export is replaced"


def test_there_is_nothing_to_export_before_the_first_vote(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no vote yet"):
        export_votes(settings_in(tmp_path), tmp_path / "votes.jsonl")
    assert not (tmp_path / "votes.jsonl").exists()


def test_the_log_is_not_written_over_itself(settings: Settings, tmp_path: Path) -> None:
    link = tmp_path / "votes.jsonl"
    link.symlink_to(settings.prefs_log)
    for target in (settings.prefs_log, link):
        with pytest.raises(LogError, match="is the log itself"):
            export_votes(settings, target)


def test_the_command_says_how_many(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_DATA_DIR", str(settings.data_dir))
    said = CliRunner().invoke(app, ["export", str(tmp_path / "votes.jsonl")])
    assert said.exit_code == 0, said.output
    assert "40 votes" in said.output
    assert (tmp_path / "votes.jsonl").stat().st_mode & 0o077 == 0, "what people said is for its owner alone"
