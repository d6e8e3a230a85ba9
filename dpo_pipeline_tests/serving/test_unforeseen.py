"""What nobody foresaw is told in the form of every error, in words that tell nothing more, and browsers may do nothing
with it. In this process: no real server has a route that fails like that.
"""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dpo_pipeline import request_errors
from dpo_pipeline.errors import ArtifactMissing, DatabaseUnavailable, LogWriteError
from dpo_pipeline.request_errors import NotReady, TooManyWrongKeys, UnknownModel
from dpo_pipeline.serving.app import create_app
from dpo_pipeline.settings import PROJECT_DIR
from dpo_pipeline_tests.examples import settings_in


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    app = create_app(settings_in(tmp_path, access={"pages": False}))
    raised = {
        "boom": ZeroDivisionError("a secret of the server"),
        "disk": LogWriteError("/srv/secret/prefs.jsonl: full"),
        "database": DatabaseUnavailable("/srv/secret/state.db: away"),
        "folder": ArtifactMissing("/srv/secret/base is gone"),
        "early": NotReady("wait"),
        "keys": TooManyWrongKeys("many", 42),
        "model": UnknownModel("none"),
    }

    @app.get("/raise/{name}")
    def fail(name: str) -> None:
        raise raised[name]

    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_what_nobody_foresaw_tells_nothing_more(client: TestClient, accept: str) -> None:
    answer = client.get("/raise/boom", headers={"Accept": accept})
    assert answer.status_code == 500 and "nobody foresaw" in answer.text
    assert "ZeroDivision" not in answer.text and "secret" not in answer.text
    told = answer.headers
    assert told["content-type"].startswith("text/html") == (accept == "text/html")
    assert "default-src 'none'; frame-ancestors 'none'" in told["content-security-policy"]
    assert ("style-src" in told["content-security-policy"]) == (accept == "text/html"), "a page keeps its own style"
    assert (told["x-content-type-options"], told["x-frame-options"]) == ("nosniff", "DENY")
    assert told["referrer-policy"] == "same-origin" and len(told.get_list("content-security-policy")) == 1


@pytest.mark.parametrize(
    ("name", "status", "again"),
    [
        ("disk", 507, "1"), ("database", 503, "1"), ("folder", 500, None), ("early", 503, "1"), ("keys", 429, "42"),
        ("model", 404, None),
    ],
)  # fmt: skip
def test_who_may_try_again_is_told_when(client: TestClient, name: str, status: int, again: str | None) -> None:
    answer = client.get(f"/raise/{name}")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, again)
    assert "secret" not in answer.text, "paths are for the log"


def test_every_code_of_an_error_stands_in_the_guide() -> None:
    told = (PROJECT_DIR / "docs" / "guide" / "http_api.md").read_text(encoding="utf-8")
    kinds, codes = [request_errors.RequestError], set[str]()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        codes.add(kind.code)
    assert [code for code in sorted(codes) if f"`{code}`" not in told] == []
