"""A proxy before the server says who is logged in, and is believed where it is named. Against a real server."""

import httpx
import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline_tests.programs_under_test import serving
from dpo_pipeline_tests.serving.callers import bearer, calling_from, newest, person, voted
from dpo_pipeline_tests.serving.conftest import VARIABLES, beside
from dpo_pipeline_tests.upstream import Upstream, answered_by

pytestmark = pytest.mark.slow


def test_a_proxys_login_is_a_name(own_project: Settings, models: Upstream) -> None:
    settings = beside(own_project)
    roles = '{"olga@example.org": "operator"}'
    login = {"DPO_ACCESS__LOGIN_HEADER": "X-Forwarded-User", "DPO_ACCESS__LOGIN_ROLES": roles}
    with serving(settings.data_dir, **VARIABLES, **answered_by(models), **login) as server:
        assert voted(server, {"X-Forwarded-User": "ada@example.org"}).status_code == 201
        assert (newest(settings).annotator, newest(settings).identity) == (person(settings, "ada@example.org"), "named")
        assert voted(server, annotator="ada@example.org").status_code == 201
        assert newest(settings).identity == "anonymous"
        session = server.client.get("/session", headers={"X-Forwarded-User": "olga@example.org"}).json()
        assert (session["name"], session["role"]) == ("olga@example.org", "operator")
        two = [("X-Forwarded-User", "olga@example.org"), ("X-Forwarded-User", "ada@example.org")]
        assert httpx.get(f"{server.url}/session", headers=two).status_code == 403, "one of them came from outside"
        with calling_from("127.0.0.2", server) as stranger:
            olga = {"X-Forwarded-User": "olga@example.org"}
            for path in ("/session", "/v1/models", "/healthz"):
                refused = stranger.get(path, headers=olga)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "untrusted_proxy"), path
            assert "127.0.0.2, which is no proxy" in refused.text and "DPO_ACCESS__TRUSTED_PROXIES" in refused.text
            assert stranger.get("/session").json()["name"] is None
            wrong = stranger.get("/v1/models", headers={"X-Forwarded-For": "198.51.100.7", **bearer("dpo-wrong")})
            assert wrong.status_code == 401
        noted = [(each.what, each.address) for each in AuditLog(settings.audit_log).entries()]
        assert ("sent X-Forwarded-User that is not believed", "127.0.0.2") in noted
        assert noted[-1] == ("sent a key that is wrong", "127.0.0.2"), "nor is it believed whom it forwards"


def test_a_proxy_elsewhere_is_believed_once_it_is_named(own_project: Settings, models: Upstream) -> None:
    settings = beside(own_project)
    told = {"DPO_ACCESS__LOGIN_HEADER": "X-Forwarded-User", "DPO_ACCESS__TRUSTED_PROXIES": "127.0.0.8/29"}
    with serving(settings.data_dir, **VARIABLES, **answered_by(models), **told) as server:
        ada = {"X-Forwarded-User": "ada@example.org", "X-Forwarded-For": "198.51.100.7"}
        with calling_from("127.0.0.9", server) as proxy:
            assert proxy.get("/session", headers=ada).json()["name"] == "ada@example.org"
            assert proxy.get("/v1/models", headers={**ada, **bearer("dpo-wrong")}).status_code == 401
        assert list(AuditLog(settings.audit_log).entries())[-1].address == "198.51.100.7"
        assert server.client.get("/session", headers=ada).status_code == 403, "this machine is none of them"
