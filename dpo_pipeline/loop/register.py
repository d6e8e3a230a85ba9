"""Accept an improved version: into MLflow's registry with tags and a card, and into the ledger as registered."""

from pathlib import Path

from dpo_pipeline.core import version_card
from dpo_pipeline.core.lifecycle import RECORDED, Status
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.errors import AdapterRefused
from dpo_pipeline.loop.calls import Call, here
from dpo_pipeline.loop.describe import card_facts, registry_text, write_card
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.loop.recorded_adapter import adapter_of
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.export import write_mlflow_model
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline.stores.registry import Registry

REGISTRABLE = RECORDED | {Status.IMPROVED}


def register_version(
    settings: Settings, ledger: Ledger, registry: Registry, name: str, dagster_run: str = "", call: Call = here
) -> VersionRecord:
    """Doing it twice makes one version; one that somebody deleted in MLflow is made again.

    Args:
        call: where the model is written, which takes the tokenizer.

    Raises:
        AdapterRefused: the version has no adapter, or was not found better than its parent.
        RegistryError: MLflow does not answer or refuses.
    """
    record = ledger.version(name)
    if not record.adapter_sha or not record.mlflow_run:
        raise AdapterRefused(f"{name} has no trained adapter. Materialize `trained_adapter` for it first.")
    if name != BASELINE and record.status not in REGISTRABLE:
        raise AdapterRefused(
            f"{name} is {record.status}; only a version that `eval_report` found improved is registered. Train another "
            "attempt, or the next version."
        )
    facts = card_facts(settings, ledger, name)
    tags = version_card.tags(facts) | {"dagster_run_id": dagster_run}
    base, adapter = locate_base(settings), adapter_of(settings, record)

    def write_model(directory: Path) -> None:
        call(write_mlflow_model, directory, adapter, base, settings.model)

    text = registry_text(settings, registry, record, facts)
    number = registry.register(record.mlflow_run, record.adapter_sha, tags, text, write_model)
    write_card(settings, registry, record, facts)
    ledger.register(name, number)
    reconcile_registry(settings, ledger, registry)
    return ledger.version(name)
