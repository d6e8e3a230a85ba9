"""Assets that follow what they are made from: when it changed, and at most once between two ticks of their clock."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dpo_pipeline.automation.sensors import inputs_changed
from dpo_pipeline.definitions import defs

BEGIN = datetime(2026, 1, 5, 12, 1, tzinfo=UTC)


def test_assets_follow_their_inputs_and_are_not_made_anew_without_a_reason() -> None:
    cursor = None
    with dg.DagsterInstance.ephemeral() as instance:
        targets = inputs_changed.asset_selection.resolve(defs.resolve_asset_graph())

        def asked(minutes: float) -> set[str]:
            nonlocal cursor
            now = BEGIN + timedelta(minutes=minutes)
            found = dg.evaluate_automation_conditions(
                defs, instance, inputs_changed.asset_selection, evaluation_time=now, cursor=cursor
            )
            cursor = found.cursor
            return {key.to_user_string() for key in targets if found.get_num_requested(key)}

        def observed(size: str) -> None:
            tags = {"dagster/data_version": size}
            instance.report_runless_asset_event(dg.AssetObservation("serving_log", tags=tags))

        def made(*names: str) -> None:
            for name in names:
                instance.report_runless_asset_event(dg.AssetMaterialization(name))

        assert asked(0) == set(), "nothing is there yet"
        made("validated_pairs")
        assert asked(1) == set(), "its clock has not ticked"
        assert asked(10) == {"leaderboard"}
        # Votes that come while it is being made: both are new at the next look.
        made("leaderboard")
        made("validated_pairs")
        assert asked(12) == set() and asked(20) == {"leaderboard"}, "they are not forgotten"
        made("leaderboard")
        assert asked(22) == set() and asked(30) == set(), "no vote since"
        assert asked(60) == {"serving_log"}, "every hour somebody looks how long the log is"
        observed("long")
        assert asked(70) == {"requests", "feedback"}
        made("requests", "feedback")
        assert asked(72) == {"labelled_answers"}
        made("labelled_answers")
        made("feedback")
        assert asked(74) == set() and asked(80) == {"labelled_answers"}, "once between two ticks"
        made("labelled_answers")
        assert asked(82) == set()
        observed("long")
        assert asked(130) == {"serving_log"}, "the same log, no new count"
        observed("longer")
        assert asked(131) == {"requests", "feedback"}
