"""The plan that brings MLflow's registry and the ledger together."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.registry_plan import (
    Action,
    LedgerSnapshot,
    NoteDeleted,
    PromoteManually,
    PublishedVersion,
    RefusePromotion,
    RegistrySnapshot,
    RollBackChallenger,
    SetAlias,
    SetStatus,
    reconcile,
)

ADAPTERS = {"1": "sha of v1.0", "2": "sha of v1.1", "3": "sha of v1.2"}
STATUSES = {"1": "retired", "2": "champion", "3": "rolling_out"}
AS_IT_IS = {"champion": "2", "challenger": "3", "previous": "1"}
LEDGER = LedgerSnapshot(
    champion="v1.1",
    challenger="v1.2",
    previous="v1.0",
    versions=tuple(
        PublishedVersion(f"v1.{int(number) - 1}", number, ADAPTERS[number], STATUSES[number]) for number in ADAPTERS
    ),
    mirrored=AS_IT_IS,
)


def plan(
    aliases: Mapping[str, str], ledger: LedgerSnapshot = LEDGER, unfit: Mapping[str, str] | None = None
) -> list[Action]:
    return reconcile(ledger, RegistrySnapshot(aliases, ADAPTERS, STATUSES), lambda name: (unfit or {}).get(name, ""))


def test_where_both_agree_nothing_is_written() -> None:
    assert plan(AS_IT_IS) == []


def test_champion_moved_is_a_manual_promotion_and_nothing_else_until_it_is_carried_out() -> None:
    assert plan({**AS_IT_IS, "champion": "1"}) == [PromoteManually("v1.0")]
    assert plan({"champion": "3"}) == [PromoteManually("v1.2")]


def test_one_that_must_not_serve_is_refused_and_the_alias_set_back() -> None:
    found = plan({**AS_IT_IS, "champion": "1"}, unfit={"v1.0": "v1.0 is rolled back"})
    assert found == [RefusePromotion("v1.0", "1", "v1.0 is rolled back"), SetAlias("champion", "2", "1", moved=True)]
    [refused, _] = plan({**AS_IT_IS, "champion": "9"})
    assert refused == RefusePromotion(None, "9", "it is none of the versions in the ledger")


def test_challenger_moved_onto_the_champion_rolls_it_back() -> None:
    assert plan({**AS_IT_IS, "challenger": "2"}) == [RollBackChallenger("v1.2")]


def test_where_nobody_asks_who_somebody_is_all_is_set_back() -> None:
    def plan_of(aliases: Mapping[str, str]) -> list[Action]:
        return reconcile(LEDGER, RegistrySnapshot(aliases, ADAPTERS, STATUSES), lambda name: "", orders=False)

    refused, back = plan_of({**AS_IT_IS, "champion": "1"})
    assert isinstance(refused, RefusePromotion) and "dpo rollout make-champion v1.0." in refused.reason
    assert back == SetAlias("champion", "2", "1", moved=True)
    assert plan_of({**AS_IT_IS, "challenger": "2"}) == [SetAlias("challenger", "3", "2", moved=True)]
    assert plan_of(AS_IT_IS) == []


def test_a_challenger_that_nobody_moved_is_not_rolled_back() -> None:
    """v1.1 became champion, and its alias as challenger was not taken away yet when v1.2 came."""
    behind = LedgerSnapshot("v1.1", "v1.2", "v1.0", LEDGER.versions, {"champion": "2", "challenger": "2"})
    assert SetAlias("challenger", "3", "2", moved=False) in plan({"champion": "2", "challenger": "2"}, behind)


def test_our_own_step_is_no_news_and_somebody_elses_is() -> None:
    before = LedgerSnapshot("v1.1", "v1.2", "v1.0", LEDGER.versions, {"champion": "1"})
    found = plan({"champion": "1"}, before)
    assert [(each.alias, each.moved) for each in found if isinstance(each, SetAlias)] == [
        ("champion", False), ("challenger", False), ("previous", False),
    ]  # fmt: skip
    [deleted] = plan({"champion": "2", "previous": "1"})
    assert deleted == SetAlias("challenger", "3", None, moved=True)
    assert str(deleted) == "alias challenger pointed to nothing; set to 3 as the ledger has it"


def test_before_anything_was_set_an_alias_there_is_nobodys_promotion() -> None:
    fresh = LedgerSnapshot("v1.1", None, None, LEDGER.versions, {})
    assert SetAlias("champion", "2", "1", moved=False) in plan({"champion": "1"}, fresh)


def test_a_version_deleted_there_is_noted_first_by_its_adapter_and_not_by_its_number() -> None:
    made_again = RegistrySnapshot({"champion": "1"}, {"1": "sha of v1.1"}, {})
    found = reconcile(LEDGER, made_again, lambda name: "")
    assert found == [NoteDeleted(f"v1.{number}", str(number + 1)) for number in range(3)]


def test_without_a_champion_there_is_nothing_to_bring_together() -> None:
    assert plan({"champion": "3"}, LedgerSnapshot(None, None, None, LEDGER.versions, {})) == []


def test_only_statuses_that_differ_are_written() -> None:
    seen = RegistrySnapshot(AS_IT_IS, ADAPTERS, {**STATUSES, "3": "registered"})
    assert reconcile(LEDGER, seen, lambda name: "") == [SetStatus("3", "rolling_out")]


numbers = st.sampled_from([*ADAPTERS, None])


@given(st.fixed_dictionaries(dict.fromkeys(AS_IT_IS, numbers)), st.booleans())
def test_what_the_plan_sets_is_agreed_on_afterwards(pointed: dict[str, str | None], fit: bool) -> None:
    aliases = {alias: number for alias, number in pointed.items() if number}
    found = plan(aliases, unfit={} if fit else {f"v1.{number}": "no" for number in range(3)})
    if any(isinstance(each, PromoteManually | RollBackChallenger) for each in found):
        assert len(found) == 1, "the ledger changes first"
        return
    for each in found:
        if isinstance(each, SetAlias):
            aliases.pop(each.alias, None)
            if each.number:
                aliases[each.alias] = each.number
    assert plan(aliases) == []


@pytest.mark.parametrize("alias", AS_IT_IS)
def test_a_deleted_alias_is_never_an_order(alias: str) -> None:
    aliases = {name: number for name, number in AS_IT_IS.items() if name != alias}
    assert plan(aliases) == [SetAlias(alias, AS_IT_IS[alias], None, moved=True)]
