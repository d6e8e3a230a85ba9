"""What the command line prints, for people and for other programs."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from dpo_pipeline import __version__
from dpo_pipeline.cli import app
from dpo_pipeline.commands import PANELS
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.settings import setting_names
from dpo_pipeline.stores.folder_lock import SERVING
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import pseudonym_of, signing_key
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.examples import preference, put_version, settings_in
from dpo_pipeline_tests.programs_under_test import ports_of_their_own
from dpo_pipeline_tests.serving import collected


def dpo(*words: str) -> str:
    """What `dpo …` prints; its messages to stderr with it."""
    return CliRunner().invoke(app, list(words)).output


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPO_DATA_DIR", str(tmp_path))
    for name, port in ports_of_their_own().items():
        monkeypatch.setenv(name, port)
    return tmp_path


def test_it_says_which_version_it_is() -> None:
    assert dpo("--version") == f"dpo-pipeline {__version__}\n"


def test_help_shows_every_command_in_its_group_and_how_to_begin_first() -> None:
    shown = dpo("--help")
    places = [shown.index(f"─ {title} ─") for title in PANELS]
    assert places == sorted(places) and shown.index("│ up ") < shown.index("│ demo ")
    assert sorted(name for names in PANELS.values() for name in names) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_piped_every_setting_is_one_whole_line(here: Path) -> None:
    lines = dpo("settings").splitlines()
    assert len(lines) > 100 and all(re.match(r"DPO_[A-Z0-9_]+=", line) for line in lines)
    assert any(line.startswith("DPO_RECIPE__CHECKPOINT_STEPS=") for line in lines)
    assert len(lines) < len(setting_names()), "sections are no settings"
    assert any(line.startswith("DPO_LEDGER_URL=null  # ") for line in lines)
    assert not any("=None" in line for line in lines)


@pytest.mark.parametrize("name", ["recipe.beta", "DPO_RECIPE__BETA", "recipe__beta"])
def test_one_setting_is_explained(name: str) -> None:
    assert re.fullmatch(r"DPO_RECIPE__BETA=0\.1  # strength of the pull .*\n", dpo("settings", name))


def test_an_unknown_setting_names_the_nearest() -> None:
    assert "There is no setting 'recipe.bta'. Did you mean recipe.beta" in dpo("settings", "recipe.bta")
    assert "recipe is a section" in dpo("settings", "recipe")


def test_whatever_has_a_nearest_name_is_told_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dpo("keys", "add", "Olga", "--role", "operator")
    assert "Did you mean Olga?" in dpo("keys", "revoke", "olgo")
    monkeypatch.setenv("DPO_RECIPE__BETTA", "3")
    assert "Did you mean DPO_RECIPE__BETA?" in dpo("status")
    monkeypatch.delenv("DPO_RECIPE__BETTA")
    monkeypatch.setenv("DPO_PROFILE", "tini")
    assert "Did you mean tiny?" in dpo("status")


def test_a_wrong_choice_is_told_in_words(here: Path) -> None:
    role = " ".join(re.sub(r"[│╭╮╰╯─]", " ", dpo("keys", "add", "Ann", "--role", "operater")).split())
    assert "'operater' is not one of" in role and "Did you mean operator?" in role
    assert "There is no program 'servin'; " in dpo("run", "servin") and "Did you mean serving?" in dpo("run", "servin")
    assert "only a Postgres can be shared" in dpo("migrate", "--to", "mysql://somewhere")
    for said in (role, dpo("migrate", "--to", "mysql://somewhere"), dpo("rollout", "promote", "--reason", "why not")):
        assert "Value error" not in said and "None" not in said


def test_an_import_names_what_it_found_as_people_do(here: Path) -> None:
    rows = here / "rows.jsonl"
    rows.write_text('{"prompt": {"a": 1}, "chosen": null, "rejected": ["x"]}\n[1]\n"text"\n3\n')
    said = dpo("import", str(rows))
    assert not re.search(r"\b(dict|str|int|NoneType)\b", said.replace(str(rows), ""))
    assert "a list was found" in said and "a number was found" in said


def test_an_error_is_a_message_and_no_class() -> None:
    said = CliRunner().invoke(app, ["settings", "nothing.like.it"])
    assert said.exit_code == 1 and said.output.startswith("error: There is no setting")


def test_forgetting_that_leaves_something_ends_with_1_and_says_where(here: Path) -> None:
    settings = settings_in(here)
    ann = pseudonym_of("Ann", signing_key(settings))
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(1, annotator=ann))])
    left = here / "notes" / "copied.txt"
    left.parent.mkdir()
    left.write_text(f"somebody copied {ann} here")
    said = CliRunner().invoke(app, ["forget", "Ann"])
    assert said.exit_code == 1 and "copied.txt" in said.output
    left.unlink()
    assert CliRunner().invoke(app, ["forget", "Ann"]).exit_code == 0


def test_nobody_is_forgotten_under_a_server_of_this_folder_on_whatever_port(here: Path) -> None:
    holding = "import sys; from dpo_pipeline.stores.folder_lock import take_lock; from pathlib import Path;"
    holding += "take_lock(Path(sys.argv[1]), 'server', ''); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(settings_in(here).data_dir / SERVING)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"held\n"
        said = CliRunner().invoke(app, ["forget", "Ann"])
        server.kill()
    assert said.exit_code == 1 and "Still running, and would keep writing: serving." in said.output
    assert CliRunner().invoke(app, ["forget", "Ann"]).exit_code == 0


def test_a_server_of_another_folder_stands_in_nobodys_way(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in ("healthz", "server_info"):
        (here / page).write_text("{}")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=here)) as server:
        threading.Thread(target=server.serve_forever).start()
        port = server.server_port
        monkeypatch.setenv("DPO_PORTS__SERVING", str(port))
        assert CliRunner().invoke(app, ["forget", "Ann"]).exit_code == 0
        monkeypatch.setenv("DPO_PORTS__DAGSTER", str(port))
        said = CliRunner().invoke(app, ["forget", "Ann"])
        server.shutdown()
    assert said.exit_code == 1 and f"Dagster at http://127.0.0.1:{port}" in said.output


def test_an_audit_log_that_was_changed_ends_with_1(here: Path) -> None:
    assert CliRunner().invoke(app, ["keys", "add", "Ann", "--role", "rater"]).exit_code == 0
    assert CliRunner().invoke(app, ["audit", "verify"]).exit_code == 0
    [log] = here.rglob("audit.jsonl")
    log.write_text(log.read_text().replace("Ann", "Bob"))
    assert CliRunner().invoke(app, ["audit", "verify"]).exit_code == 1


def test_a_vote_that_was_changed_in_its_place_ends_with_1(here: Path) -> None:
    settings = settings_in(here)
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(number)) for number in range(3)])
    collected.curate(settings)
    assert CliRunner().invoke(app, ["verify-log"]).exit_code == 0
    lines = settings.prefs_log.read_bytes()
    settings.prefs_log.write_bytes(lines.replace(b'"vote":"a"', b'"vote":"b"', 1))
    said = CliRunner().invoke(app, ["verify-log"])
    assert said.exit_code == 1 and "differ from what was read" in said.output


def test_simulated_rollouts_are_told_figure_by_figure() -> None:
    told = dpo("forecast", "--runs", "2", "--people", "8", "--requests-a-day", "80", "--votes-a-day", "40")
    assert "people who met an error" in told and "…" not in told and "_" not in told


def test_whatever_has_a_name_is_traced(here: Path) -> None:
    settings = settings_in(here)
    ann = pseudonym_of("Ann", signing_key(settings))
    AppendLog(settings.prefs_log).append_all(
        [encode_preference(preference(number, annotator=ann if number else "another")) for number in range(4)]
    )
    now = utc_now()
    log = ServingLog(settings.serving_log_dir)
    log.append(
        RequestRecord(
            request_id="chatcmpl-1",
            recorded_at=now,
            session_id="s",
            user=ann,
            version="v1.0",
            adapter_sha="0" * 64,
            stage="",
            shadow=False,
            latency_ms=812.0,
            ttft_ms=None,
            tokens=9,
            outcome="ok",
        )
    )
    log.append(
        FeedbackRecord(
            event_id="r", recorded_at=now, request_id="chatcmpl-1", user=ann, version="v1.0", signal="rating", value=2
        )
    )
    log.close()
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="champion", adapter_sha="0" * 64)
    assert "v1.0, champion" in dpo("trace", "v1.0") and "v1.0, champion" in dpo("trace", "chat-v1.0")
    assert "a on v1.0 and v1.0" in dpo("trace", "evt-0")
    answer = dpo("trace", "chatcmpl-1")
    assert "answered by v1.0" in answer and "9 tokens in 812 ms" in answer and "2 of 5" in answer
    for name in ("Ann", ann):
        person = dpo("trace", name)
        assert "votes through the API: 3" in person and "rating (1)" in person
    assert "Nothing is known of 'v1.00'. Did you mean v1.0?" in dpo("trace", "v1.00").replace("\n", " ")
