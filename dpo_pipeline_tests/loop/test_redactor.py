"""A redactor of the user's own: applied after ours, at every door, and never passed by where it fails."""

import json
import sys
from pathlib import Path

import pytest

from dpo_pipeline.access_commands import note
from dpo_pipeline.core.redaction import redact
from dpo_pipeline.errors import RedactionFailed, SettingsError
from dpo_pipeline.loop.import_pairs import import_file
from dpo_pipeline.loop.manual_actions import order
from dpo_pipeline.loop.redactor import redactor
from dpo_pipeline.serving.accounts import AT_MACHINE, Accounts
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import put_version, settings_in

OURS = """
def without_names(text):
    return text.replace("Ann", "[name]")

def fails_on_bob(text):
    if "Bob" in text:
        raise ValueError("no")
    return text

def gives_nothing(text):
    return None

NUMBER = 7
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_redaction.py").write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "our_redaction", raising=False)


def named(function: str) -> Collection:
    return Collection(redactor=f"our_redaction:{function}")


def test_without_one_it_is_ours_alone() -> None:
    assert redactor(Collection()) is redact


def test_it_finds_what_patterns_do_not() -> None:
    assert redactor(named("without_names"))("Ann, ann@mail.example.org") == "[name], [e-mail]"


@pytest.mark.parametrize(
    "name", ["nothing_here:f", "our_redaction:missing", "our_redaction", ":f", "our_redaction:NUMBER"]
)
def test_a_name_that_leads_nowhere_is_an_error_at_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match=r"collection\.redactor"):
        redactor(Collection(redactor=name))


def test_one_that_gives_no_text_is_an_error_at_the_start() -> None:
    with pytest.raises(RedactionFailed, match="gave nothing"):
        redactor(named("gives_nothing"))


def test_it_is_at_the_doors_of_reasons_and_of_file_names_too(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, collection={"redactor": "our_redaction:without_names"})
    with Ledger(settings.ledger_address) as ledger:
        for name in ("v1.0", "v1.1"):
            put_version(ledger, name, status="registered", adapter_sha=name[-1] * 64, adapter_dir="there")
        ledger.install_champion("v1.0", actor="test")
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
        order(settings, ledger, "abort", "Ann asked for it", actor="test")
        assert "Ann" not in str(ledger.decisions()[-1].reasons)
    note(settings, "rollout: abort", "Ann asked for it")
    Accounts(settings).allowed(AT_MACHINE, "viewer", "rollout: look", "127.0.0.1", "Ann asked for it")
    details = [entry.detail for entry in AuditLog(settings.audit_log).entries()]
    assert details == ["[name] asked for it"] * 2
    file = tmp_path / "Ann.jsonl"
    file.write_text('{"prompt": "Why?", "chosen": "Because it rains.", "rejected": "No."}\n')
    import_file(file, settings.prefs_log, 1 << 20, redactor(settings.collection))
    assert b"Ann" not in settings.prefs_log.read_bytes()


def test_what_it_fails_on_is_not_stored(tmp_path: Path) -> None:
    file, log = tmp_path / "pairs.jsonl", tmp_path / "prefs.jsonl"
    rows = [
        {"prompt": f"Who is {name}?", "chosen": "A person, I think.", "rejected": "No idea."} for name in ("Al", "Bob")
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(RedactionFailed, match="fails_on_bob failed on a text"):
        import_file(file, log, 1 << 20, redactor(named("fails_on_bob")))
    assert not log.exists() or log.read_bytes() == b""
    assert import_file(file, log, 1 << 20, redactor(named("without_names"))).imported == 2
