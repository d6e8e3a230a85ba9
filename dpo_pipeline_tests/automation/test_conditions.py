"""Assets that follow what they are made from: when it changed, and at most once between two ticks of their clock."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dpo_pipeline.automation.sensors import inputs_changed
from dpo_pipeline.definitions import defs

BEGIN = datetime(2026, 1, 5, 12, 1, tzinfo=UTC)


def test_leaderboard_and_requests_follow_their_inputs_and_are_not_made_anew_without_a_reason() -> None:
    cursor = None
    with dg.DagsterInstance.ephemeral() as instance:

        def asked(minutes: float) -> set[str]:
            nonlocal cursor
            now = BEGIN + timedelta(minutes=minutes)
            found = dg.evaluate_automation_conditions(
                defs, instance, inputs_changed.asset_selection, evaluation_time=now, cursor=cursor
            )
            cursor = found.cursor
            names = ("serving_log", "requests", "leaderboard")
            return {name for name in names if found.get_num_requested(dg.AssetKey(name))}

        def observed(size: str) -> None:
            tags = {"dagster/data_version": size}
            instance.report_runless_asset_event(dg.AssetObservation("serving_log", tags=tags))

        assert asked(0) == set(), "nothing is there yet"
        instance.report_runless_asset_event(dg.AssetMaterialization("validated_pairs"))
        assert asked(1) == set(), "its clock has not ticked"
        assert asked(10) == {"leaderboard"}
        # Votes that come while it is being made: both are new at the next look.
        instance.report_runless_asset_event(dg.AssetMaterialization("leaderboard"))
        instance.report_runless_asset_event(dg.AssetMaterialization("validated_pairs"))
        assert asked(12) == set() and asked(20) == {"leaderboard"}, "they are not forgotten"
        instance.report_runless_asset_event(dg.AssetMaterialization("leaderboard"))
        assert asked(22) == set() and asked(30) == set(), "no vote since"
        assert asked(60) == {"serving_log"}, "every hour somebody looks how long the log is"
        observed("long")
        assert asked(70) == {"requests"}
        instance.report_runless_asset_event(dg.AssetMaterialization("requests"))
        assert asked(72) == set()
        observed("long")
        assert asked(130) == {"serving_log"}, "the same log, no new count"
        observed("longer")
        assert asked(131) == {"requests"}
