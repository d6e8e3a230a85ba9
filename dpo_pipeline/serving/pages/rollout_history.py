"""The decisions of rollouts as HTML, newest first, each opening to what it rested on."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import as_read
from dpo_pipeline.core.rollout import MANUAL_PROMOTION, STAGES, VersionMetrics, next_stage, state_of
from dpo_pipeline.serving.pages.markup import Markup, chip, details, heading, page, paragraph, table, text
from dpo_pipeline.serving.pages.rollout_view import measured, readings
from dpo_pipeline.serving.pages.version_link import linked
from dpo_pipeline.serving.services.rollout_watch import RolloutSnapshot
from dpo_pipeline.stores.ledger import DecisionRecord

DONE = {
    "promote": "promoted",
    "hold": "held",
    "rollback": "rolled back",
    MANUAL_PROMOTION: "manual promotion",
    "pause": "paused",
    "resume": "resumed",
    "refused": "refused",
}
KIND = {"promoted": "ok", "rolled back": "triggered", "held": "watching", "refused": "watching", "paused": "watching"}


def history_page(live: RolloutSnapshot, shown: int, zone: ZoneInfo) -> str:
    """The newest decisions, each opening to what it rested on."""
    if not live.decisions:
        return page(heading("Decision history"), paragraph("No decisions yet.", "muted complete"))
    more = len(live.decisions) - shown
    rest = (
        paragraph(f"{more} older decisions are not shown.", "muted") if more > 0 else Markup('<i class="complete"></i>')
    )
    return page(heading("Decision history"), timeline(live.decisions[:shown], zone), rest)


def timeline(decisions: Sequence[DecisionRecord], zone: ZoneInfo) -> Markup:
    """Decisions in the order given; each opens to what it rested on."""
    return Markup(f'<ol class="timeline">{"".join(f"<li>{_decision(each, zone)}</li>" for each in decisions)}</ol>')


def _decision(decision: DecisionRecord, zone: ZoneInfo) -> Markup:
    """One entry of the timeline, which opens to its evidence."""
    word = DONE.get(decision.decision, decision.decision)
    stage = decision.stage
    if decision.decision == "promote":
        before = [name for name in STAGES if next_stage(name) == stage]
        began = "rollout begins" if decision.epoch > 1 else "first version"
        stage = f"{before[0]} → {stage}" if before and decision.epoch > 1 else began
    summary = Markup(
        f"<time>{as_read(decision.decided_at, zone)}</time> <b>{text(decision.version)}</b> {text(stage)} "
        f"{chip(word, KIND.get(word, 'none'))} <span>{text(decision.reasons[0] if decision.reasons else '')}</span>"
    )
    return details(summary, _evidence(decision))


def _evidence(decision: DecisionRecord) -> Markup:
    which = f"decision {decision.id}"  # several may be open, and regions of one name cannot be told apart
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in decision.reasons)
    parts = [
        f"<ul>{reasons}</ul>",
        paragraph(linked(f"Of {decision.version}, by {decision.actor}, epoch {decision.epoch}."), "muted"),
    ]
    evidence = decision.evidence
    if evidence.get("conditions"):
        rows = [
            (each["name"], state_of(each["literal"], each["evidence"]), each["message"], each["test_message"])
            for each in evidence["conditions"]
        ]
        caption, head = "Rules as this decision saw them", ["Rolled back for", "State", "Rule", "Evidence"]
        parts.append(table(caption, head, rows, label=f"{caption}, {which}"))
    if evidence.get("new") and evidence.get("baseline"):
        rows = measured(VersionMetrics(**evidence["new"]), VersionMetrics(**evidence["baseline"]))  # type: ignore[assignment]
        parts.append(table("Measured", ["Figure", "New", "Baseline"], rows, (1, 2), label=f"Measured, {which}"))
    for name, rate in readings(evidence.get("ab")):
        parts.append(
            paragraph(f"A/B test, {name}: {rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]", "muted")
        )
    return Markup("".join(parts))
