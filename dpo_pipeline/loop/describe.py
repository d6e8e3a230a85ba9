"""What ledger and serving log know of a version, for its card, tags and description in MLflow."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dpo_pipeline.core import version_card
from dpo_pipeline.core.rollout import MANUAL_PROMOTION
from dpo_pipeline.core.version_card import CardFacts, CardLinks
from dpo_pipeline.core.version_metrics import version_metrics
from dpo_pipeline.core.versions import page_of
from dpo_pipeline.errors import ArtifactError
from dpo_pipeline.loop.recorded_adapter import adapter_folder
from dpo_pipeline.ml.base_model import base_source
from dpo_pipeline.ml.training_plan import dataset_dir
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import CARD, read_manifest, write_text
from dpo_pipeline.stores.ledger import Ledger, VersionRecord, utc_text
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline.stores.shared_artifacts import fetch

RECENT = timedelta(days=30)
SHOWN = ("promote", "rollback", MANUAL_PROMOTION, "pause", "resume")


def card_facts(settings: Settings, ledger: Ledger, name: str) -> CardFacts:
    """As of now; satisfaction since the version first answered people, over the last month at most.

    A champion may stay for a year, and it is looked at every quarter of an hour.
    """
    record = ledger.version(name)
    told = [decision for decision in ledger.decisions(name) if decision.decision in SHOWN]
    out = next((each.decided_at for each in told if each.stage != "staging" and each.decision != "rollback"), None)
    since = max(out, utc_text(datetime.now(UTC) - RECENT)) if out else None
    recent = read_records(settings.serving_log_dir, since) if since else ()
    rated = version_metrics(recent, [name])[name].satisfaction
    dataset = dataset_manifest(settings, record)
    return CardFacts(
        name=name,
        parent=record.parent,
        base_model=settings.model.base,
        base_sha=record.base_sha,
        adapter_sha=record.adapter_sha,
        dataset_hash=record.dataset_hash,
        pairs=record.pairs,
        demonstrations=(record.training_metrics or {}).get("demonstrations"),
        demonstrations_of=_demonstrations_of(settings, record),
        labelled=int(dataset.get("labelled", 0)),
        sources=dataset.get("sources", {}),
        recipe=record.recipe,
        evaluation=record.evaluation,
        words=answer_words(ledger.versions(), record),
        trained_at=record.created_at,
        attempt=record.attempt,
        satisfaction=rated,
        deployed_at=out,
        data_dir=str(settings.data_dir),
        profile=settings.profile,
        base_folder=base_source(settings, record.base_sha),
        adapter_folder=_adapter_place(settings, record),
        history=tuple(
            f"{each.decided_at}: {each.decision} at {each.stage} by {each.actor} ({'; '.join(each.reasons[:2])})"
            for each in told
        ),
    )


def dataset_manifest(settings: Settings, record: VersionRecord) -> dict[str, Any]:
    """The manifest of what it was trained on; empty where there is none, or none any more."""
    try:
        return read_manifest(fetch(settings, dataset_dir(settings.artifacts_dir, str(record.dataset_hash))))
    except ArtifactError:
        return {}


def _adapter_place(settings: Settings, record: VersionRecord) -> str:
    """Where its adapter is, or was put where the shared store does not answer; empty before there is one."""
    try:
        return str(adapter_folder(settings, record)) if record.adapter_sha else ""
    except ArtifactError:
        return str(record.adapter_dir)


def _demonstrations_of(settings: Settings, record: VersionRecord) -> str:
    """Where v1.0's demonstrations came from: "bank" or "files"; the adapter's manifest knows."""
    try:
        return str(read_manifest(adapter_folder(settings, record)).get("demonstrations_of", "bank"))
    except ArtifactError:
        return "bank"


def describe(settings: Settings, registry: Registry, record: VersionRecord, facts: CardFacts) -> None:
    """Bring tags and description of a registered version up to date; nothing where it is not registered.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    if record.mlflow_version:
        text = registry_text(settings, registry, record, facts)
        registry.describe(record.mlflow_version, version_card.tags(facts), text)


def registry_text(settings: Settings, registry: Registry, record: VersionRecord, facts: CardFacts) -> str:
    """The description of a version that has a run in MLflow.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    pages = registry.run_pages(str(record.mlflow_run))
    own = None if settings.mlflow_url else settings.page_address(page_of(record.name))
    links = CardLinks(pages.evaluation, pages.curves, pages.all_runs, own) if pages else CardLinks(version_page=own)
    return version_card.description(facts, links)


def write_card(settings: Settings, registry: Registry, record: VersionRecord, facts: CardFacts) -> None:
    """The model card, in the adapter's folder and beside the adapter that MLflow keeps.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    card = version_card.model_card(facts)
    write_text(adapter_folder(settings, record) / CARD, card)
    registry.log_card(str(record.mlflow_run), card)


def answer_words(versions: Sequence[VersionRecord], record: VersionRecord) -> float | None:
    """Mean length of a version's answers, in words, from its evaluation, or one in which it was the parent."""
    if record.evaluation and record.evaluation.get("words"):
        return float(record.evaluation["words"])
    successors = (each.evaluation for each in versions if each.parent == record.name and each.evaluation)
    return next((evaluation.get("parent_words") for evaluation in successors), None)
