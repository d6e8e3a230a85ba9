"""What ledger and serving log know of a version, for its card, tags and description."""

from dpo_pipeline.core.version_card import CardFacts
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.serving_log import version_metrics

SHOWN = ("promote", "rollback", "order", "pause", "resume")


def card_facts(settings: Settings, ledger: Ledger, name: str) -> CardFacts:
    """As of now; satisfaction since the version first answered people."""
    record = ledger.version(name)
    told = [decision for decision in ledger.decisions(name) if decision.decision in SHOWN]
    out = next((each.decided_at for each in told if each.stage != "staging" and each.decision != "rollback"), None)
    rated = version_metrics(settings.serving_log_dir, out, [name])[name].satisfaction if out else None
    return CardFacts(
        name=name,
        parent=record.parent,
        base_model=settings.model.base,
        base_sha=record.base_sha,
        adapter_sha=record.adapter_sha,
        dataset_hash=record.dataset_hash,
        pairs=record.pairs,
        recipe=record.recipe,
        evaluation=record.evaluation,
        trained_at=record.created_at,
        attempt=record.attempt,
        satisfaction=rated,
        deployed_at=out,
        history=tuple(
            f"{each.decided_at}: {each.decision} at {each.stage} by {each.actor} ({'; '.join(each.reasons[:2])})"
            for each in told
        ),
    )
