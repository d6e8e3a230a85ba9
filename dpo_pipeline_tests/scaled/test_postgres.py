"""The Postgres of the tests and that of `dpo up-scaled`: they start wherever they are, whatever else is going on."""

import socket
import tempfile
from pathlib import Path

import psycopg
import pytest

from dpo_pipeline import engines
from dpo_pipeline_tests.postgres import new_postgres

pytestmark = pytest.mark.slow


def test_it_starts_beside_somebody_on_its_port_and_at_once_after_it_was_killed() -> None:
    with new_postgres() as server, socket.socket() as somebody:
        somebody.bind(("127.0.0.1", server.port))
        somebody.listen()
        taken = server.port
        server.start()
        assert server.port != taken
        url, free = server.new_database().replace("+psycopg", ""), server.port
        for _ in range(2):
            server.kill()
            server.start()
        assert server.port == free, "clients know it by its port"
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_what_failed_is_said() -> None:
    with new_postgres() as server:
        (server.folder / "data" / "postgresql.conf").write_text("no such option = 1")
        with pytest.raises(AssertionError, match=r"syntax error in file(?s:.*)Postgres ended with 1"):
            server.start()


def test_that_of_up_scaled_starts_below_a_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a socket may have 107 characters at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / ("in a folder with a long name, " * 6)
        folder.mkdir()
        for each in (folder, folder.parent):
            each.chmod(0o711)
        # As it is for whoever is not root, who has the data in the data folder itself.
        monkeypatch.setattr(engines, "_for_nobody", lambda data: data)
        with engines.postgres(folder / "postgres", folder) as url, psycopg.connect(url.replace("+psycopg", "")):
            pass
