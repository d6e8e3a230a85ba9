"""Keys are kept as hashes and end when they are revoked; the audit log shows what was done to it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline.stores.key_ring import KeyRing


def test_a_key_opens_until_it_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    ring, reader = KeyRing(path), KeyRing(path)
    assert reader.find("dpo-00000000-x") is None and reader.accounts() == []
    ada, bob = ring.add("Ada", "operator"), ring.add("Bob", "rater")
    found = reader.find(ada)
    assert found is not None and (found.name, found.role) == ("Ada", "operator"), "another program sees it at once"
    secret = ada.rsplit("-", 1)[1]
    assert secret not in path.read_text() and bob not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0 or os.umask(0o022) == 0o022, "`dpo keys` runs with umask 077"
    for wrong in (
        ada[:-1],
        ada + "x",
        ada.replace("dpo-", "xxx-"),
        bob.replace(bob[4:12], ada[4:12]),
        "",
        "dpo",
        "\ud800",
    ):
        assert reader.find(wrong) is None
    with pytest.raises(InvalidRequest, match="holds a key already"):
        ring.add("ADA", "rater")
    assert ring.revoke("ada").name == "Ada"
    assert reader.find(ada) is None and reader.by_id(found.key_id) is None
    assert [each.name for each in reader.accounts()] == ["Bob"]
    with pytest.raises(InvalidRequest, match="Nobody holds a key"):
        ring.revoke("Ada")
    assert ring.add("Ada", "viewer") != ada


def test_a_name_that_is_forgotten_leaves_no_key_and_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    ring = KeyRing(path)
    assert not ring.in_use
    key = ring.add("Ada Lovelace", "operator")
    ring.forget("  ADA  lovelace")
    assert ring.find(key) is None and ring.accounts() == [] and "Lovelace" not in path.read_text()
    assert ring.in_use, "there were keys here: nobody is known by standing at the machine"


def test_a_broken_file_of_keys_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    ring = KeyRing(path)
    key = ring.add("Ada", "operator")
    ring.revoke("Ada")
    path.write_bytes(path.read_bytes().replace(b'"revoke"', b'"rev'))
    with pytest.raises(ArtifactCorrupt, match="line 2 is no event of a key"):
        ring.find(key)


def test_what_was_done_to_the_audit_log_shows(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    assert list(log.entries()) == []
    with ThreadPoolExecutor(4) as programs:
        for number in range(20):
            programs.submit(
                AuditLog(log.path).record, "Ada", f"act {number}", "127.0.0.1", "allowed", "mail a@b.example"
            )
    entries = list(log.entries())
    assert len(entries) == 20 and len({each.hash for each in entries}) == 20, "several programs, one chain"
    assert "a@b.example" not in log.path.read_text()
    lines = log.path.read_bytes().splitlines(keepends=True)
    changed = lines[5].replace(b'"allowed"', b'"refused"')
    for tampered in ([*lines[:5], changed, *lines[6:]], [*lines[:5], *lines[6:]], [*lines[:5], lines[4], *lines[5:]]):
        log.path.write_bytes(b"".join(tampered))
        with pytest.raises(ArtifactCorrupt, match=r"line 6|line 7"):
            list(log.entries())
    log.path.write_bytes(b"".join(lines[:7]))
    assert len(list(log.entries())) == 7, "a shorter log is whole in itself: its last hash is to be kept elsewhere"


def test_no_entry_is_too_long_to_be_followed(tmp_path: Path) -> None:
    """Whoever is refused chooses what stands there: six bytes for each character, in every field."""
    log, worst = AuditLog(tmp_path / "audit.jsonl", lambda text: text), "\x01" * 5_000
    for _ in range(3):
        log.record(worst, worst, worst, "refused", worst)
    assert len(list(log.entries())) == 3
    reason = "a reason of five hundred characters, to its end ".ljust(500, "x")
    log.record("Ada", "preference: exclude", "127.0.0.1", "allowed", f"evt-{'0' * 32}: {reason}")
    assert list(log.entries())[-1].detail.endswith(reason)
