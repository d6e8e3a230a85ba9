"""Servers that answers are forwarded to: each is told what to hold, and nobody is sent to one that does not hold it."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.errors import SettingsError
from dpo_pipeline.request_errors import NotReady, UpstreamFailed
from dpo_pipeline.serving.engines import model_server as module
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.serving.engines.forward import ForwardEngine
from dpo_pipeline.serving.router import Router
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import put_version, settings_in
from dpo_pipeline_tests.programs_under_test import eventually, free_port
from dpo_pipeline_tests.upstream import Upstream, model_server

NOT_OURS = {"base": "", "somebody-elses": "/srv/theirs"}


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "AGAIN_S", 0.02)


@pytest.fixture
def first() -> Iterator[Upstream]:
    with model_server() as running:
        running.holds = dict(NOT_OURS)
        yield running


@pytest.fixture
def second() -> Iterator[Upstream]:
    with model_server() as running:
        running.holds = dict(NOT_OURS)
        yield running


@pytest.fixture
def adapters(tmp_path: Path) -> dict[str, Adapter]:
    made = {}
    for version in ("v1.0", "v1.1"):
        folder = tmp_path / "adapters" / version
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text(f"weights of {version}")
        made[version] = Adapter(artifacts.write_manifest(folder, {})["sha256"], folder)
    return made


@contextmanager
def engine(tmp_path: Path, *urls: str, **fields: Any) -> Iterator[ForwardEngine]:
    settings = settings_in(
        tmp_path, engine={"kind": "forward", "url": urls, "loads": True, **fields}, limits={"deadline_s": 1.0}
    )
    made = ForwardEngine(settings)
    try:
        yield made
    finally:
        asyncio.run(made.close())


def name(version: str, adapters: dict[str, Adapter]) -> str:
    return f"{version}@{adapters[version].sha[:12]}"


async def answer(engine: ForwardEngine, version: str = "v1.1") -> Answer:
    [found] = await engine.answers([Ask(version, (("user", "Why is the sky blue?"),), Sampling())])
    return found


def until(look: Callable[[], bool]) -> bool:
    return eventually(look, bool, seconds=5)


def test_both_hold_a_version_before_anybody_is_sent_to_it(
    first: Upstream, second: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, first.url, second.url) as made:
        made.serve(adapters)
        theirs = {name(version, adapters): str(adapter.directory) for version, adapter in adapters.items()}
        assert first.holds == second.holds == NOT_OURS | theirs
        found = asyncio.run(answer(made))
        assert found.adapter == adapters["v1.1"].sha
        assert [model for model, _ in first.asked + second.asked] == [name("v1.1", adapters)]
        assert [(each.reachable, each.trouble) for each in made.servers] == [(True, None)] * 2


def test_other_folders_there_are_named_as_those_servers_see_them(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, first.url, adapters="/mnt/loop/adapters/") as made:
        made.serve(adapters)
        assert first.holds is not None
        assert first.holds[name("v1.1", adapters)] == "/mnt/loop/adapters/v1.1"


def test_a_lost_adapter_comes_back_and_who_asked_meanwhile_is_answered_by_it(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 60)  # a request finds it, no look
    with engine(tmp_path, first.url) as made:
        made.serve(adapters)
        first.holds = dict(NOT_OURS)
        assert asyncio.run(answer(made)).adapter == adapters["v1.1"].sha
        assert name("v1.1", adapters) in first.holds
        assert made.servers[0].lost == 1


def test_what_a_server_lost_is_back_without_a_request(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, first.url) as made:
        made.serve(adapters)
        first.holds = dict(NOT_OURS)
        assert until(lambda: name("v1.0", adapters) in (first.holds or ()))
        assert made.servers[0].lost == 0


@pytest.mark.slow
def test_an_adapter_that_does_not_come_back_is_no_fault_of_the_version(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, first.url) as made:
        made.serve(adapters)
        first.holds, first.refuses = dict(NOT_OURS), "no room for another adapter"
        with pytest.raises(NotReady, match="no room for another adapter"):
            asyncio.run(answer(made))


def test_while_one_server_is_gone_the_other_answers(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, f"http://127.0.0.1:{free_port()}/v1", first.url) as made:
        made.serve(adapters)
        for _ in range(3):
            assert asyncio.run(answer(made)).adapter == adapters["v1.1"].sha
        gone, there = made.servers
        assert not gone.reachable and "Start that server" in str(gone.trouble)
        assert there.reachable and there.trouble is None


def test_one_that_dies_before_the_first_piece_is_replaced_by_the_other(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 60)
    with model_server() as dying:
        dying.holds = dict(NOT_OURS)
        made = ForwardEngine(
            settings_in(tmp_path, engine={"kind": "forward", "url": [dying.url, first.url], "loads": True})
        )
        made.serve(adapters)
    assert asyncio.run(answer(made)).adapter == adapters["v1.1"].sha
    assert [model for model, _ in first.asked] == [name("v1.1", adapters)]
    asyncio.run(made.close())


def test_what_is_served_no_longer_is_unloaded_once_nobody_can_be_on_the_way_to_it(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    with engine(tmp_path, first.url) as made:
        made.serve(adapters)
        made.serve({"v1.0": adapters["v1.0"]})
        assert name("v1.1", adapters) in (first.holds or ()), "another server of ours may still send people there"
        assert until(lambda: name("v1.1", adapters) not in (first.holds or ()))
        assert first.holds == NOT_OURS | {name("v1.0", adapters): str(adapters["v1.0"].directory)}


def test_other_weights_than_the_ledgers_are_not_loaded(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    shutil.copy(
        adapters["v1.0"].directory / "adapter_model.safetensors",
        adapters["v1.1"].directory / "adapter_model.safetensors",
    )
    with engine(tmp_path, first.url) as made:
        with pytest.raises(UpstreamFailed, match=r"No server holds v1\.1"):
            made.serve(adapters)
        made.serve({"v1.0": adapters["v1.0"]})
        assert sorted(first.holds or ()) == sorted([*NOT_OURS, name("v1.0", adapters)])


def test_a_refusal_says_what_that_server_said(first: Upstream, adapters: dict[str, Adapter], tmp_path: Path) -> None:
    first.refuses = "LoRA rank 32 is greater than max_lora_rank 16."
    with engine(tmp_path, first.url) as made, pytest.raises(UpstreamFailed, match="rank 32 is greater"):
        made.serve(adapters)


def test_a_server_that_lists_no_models_cannot_be_told_what_to_hold(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    first.holds = None
    with engine(tmp_path, first.url) as made, pytest.raises(UpstreamFailed, match="needs a vLLM server"):
        made.serve(adapters)


def test_nobody_is_sent_to_a_version_that_the_server_does_not_hold(first: Upstream, tmp_path: Path) -> None:
    """Where that server loads by itself: staging stays, the champion answers, and `/readyz` says why."""
    first.holds = {"v1.0": ""}
    settings = settings_in(tmp_path, engine={"kind": "forward", "url": first.url})
    with Ledger(settings.ledger_address) as ledger, engine(tmp_path, first.url, loads=False) as made:
        for version in ("v1.0", "v1.1"):
            put_version(ledger, version, status="registered", adapter_sha=f"sha of {version}", adapter_dir="/nowhere")
        ledger.install_champion("v1.0", "test")
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
        router = Router(settings, made)
        router.follow_once(ledger)
        assert (router.route.champion, router.route.challenger) == ("v1.0", None)
        assert "v1.1: that server does not hold it" in str(router.trouble)


def test_a_gateway_may_answer_for_more_than_it_lists(
    first: Upstream, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    first.answers_for = ("v1.0", "v1.1")
    with engine(tmp_path, first.url, loads=False) as made:
        made.serve(adapters)
        assert asyncio.run(answer(made)).text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "forward"}, "forward needs engine.url"),
        ({"loads": True}, "set engine.kind to forward"),
        ({"kind": "forward", "url": "http://a/v1", "loads": True, "names": {"v1.0": "a"}}, "leave engine.names out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load_settings(engine=fields)


def test_several_addresses_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_ENGINE__KIND", "forward")
    monkeypatch.setenv("DPO_ENGINE__URL", "http://a/v1,http://b/v1")
    assert load_settings().engine.url == ("http://a/v1", "http://b/v1")
