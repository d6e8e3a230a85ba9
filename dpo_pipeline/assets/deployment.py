"""From an improved adapter to a registered version, and from there, stage by stage, into the traffic."""

from functools import partial

import dagster as dg

from dpo_pipeline.assets.evaluation import eval_report
from dpo_pipeline.assets.partitions import OWNERS, VERSIONS, code_version, data_version, table
from dpo_pipeline.assets.training import sft_adapter
from dpo_pipeline.core.forecast import Forecast
from dpo_pipeline.core.rollout import Condition
from dpo_pipeline.errors import RegistryError
from dpo_pipeline.loop.describe import card_facts, describe, write_card
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.loop.register import register_version
from dpo_pipeline.loop.roll_out import decide_now
from dpo_pipeline.reports.forecast_plot import rollout_forecast
from dpo_pipeline.reports.plots import png_markdown
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry


@dg.asset(
    group_name="deployment",
    owners=OWNERS,
    kinds={"mlflow"},
    deps=[eval_report, sft_adapter],
    partitions_def=VERSIONS,
    code_version=code_version("core.version_card", "ml.export", "loop.register"),
    description="The version in the MLflow registry: adapter, tags, aliases, and a description to decide from.",
)
def model_version(context: dg.AssetExecutionContext, loop: LoopResource, models: Models) -> dg.MaterializeResult:
    registry, call = loop.registry(), partial(models.call, context)
    with loop.ledger() as ledger:
        record = register_version(loop.settings(), ledger, registry, context.partition_key, context.run.run_id, call)
    number = str(record.mlflow_version)
    return dg.MaterializeResult(
        metadata={
            "mlflow_version": number,
            "adapter_sha": str(record.adapter_sha),
            "registry": dg.MetadataValue.url(registry.version_url(number)),
        },
        data_version=data_version(record.adapter_sha, number),
    )


@dg.asset(
    group_name="deployment",
    owners=OWNERS,
    kinds={"mlflow"},
    deps=[model_version],
    partitions_def=VERSIONS,
    code_version=code_version("core.rollout.decide", "core.rollout.conditions", "loop.roll_out"),
    description="Promote, hold or roll back, with the reasons; serving follows the ledger within seconds.",
)
def rollout_decision(
    context: dg.AssetExecutionContext, loop: LoopResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    votes = partial(warehouse.open, settings)
    with loop.ledger() as ledger:
        outcome = decide_now(settings, ledger, votes, name, actor=f"dagster run {context.run.run_id[:8]}")
        forecast = {"forecast": _forecast(ledger, name)} if outcome.begins else {}
        unmirrored = _unmirrored(settings, ledger, loop.registry())
        state = ledger.deployment()
        if unmirrored is None:
            record, facts = ledger.version(name), card_facts(settings, ledger, name)
            describe(settings, loop.registry(), record, facts)
            if outcome.decision != "hold":
                write_card(loop.settings(), loop.registry(), record, facts)
    for reason in outcome.reasons:
        context.log.info(f"{outcome.decision}: {reason}")
    return dg.MaterializeResult(
        metadata={
            "decision": outcome.decision,
            "stage": state.stage or "none",
            "epoch": state.epoch,
            "asks": outcome.asks,
            "reasons": table([{"reason": reason} for reason in outcome.reasons]),
            "rules_and_evidence": table([_condition(each) for each in outcome.conditions]),
            "champion": state.champion or "none",
            **forecast,
            "mlflow": f"brought up to date by the next decision: {unmirrored}" if unmirrored else "up to date",
        },
        data_version=data_version(name, state.epoch, outcome.decision),
    )


def _unmirrored(settings: Settings, ledger: Ledger, registry: Registry) -> RegistryError | None:
    """Bring MLflow up to the ledger; or why it could not be, which keeps no version from being rolled back."""
    try:
        reconcile_registry(settings, ledger, registry)
    except RegistryError as error:
        return error
    return None


def _forecast(ledger: Ledger, name: str) -> dg.MetadataValue:
    """What was forecast when the rollout began, as a plot."""
    found = Forecast.from_json(ledger.decisions(name)[-1].evidence["forecast"])
    plot = png_markdown(rollout_forecast({name: found}), "likely course of the rollout", width=9.0, height=2.2)
    advice = "\n".join(f"- {each}" for each in found.advice)
    return dg.MetadataValue.md(f"{plot}\n\n{advice}")


def _condition(each: Condition) -> dict[str, object]:
    return {
        "rolled back for": each.name,
        "state": each.state,
        "rule": each.message,
        "evidence": each.test_message,
    }
