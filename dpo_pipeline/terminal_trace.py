"""What `dpo trace` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from dpo_pipeline.core.kpi_names import kpi_label
from dpo_pipeline.core.source_names import counted
from dpo_pipeline.in_words import spoken

if TYPE_CHECKING:
    from dpo_pipeline.loop.trace import Trace
    from dpo_pipeline.loop.traces import PersonTrace, RequestTrace, UsedIn, VersionTrace, VoteTrace
    from dpo_pipeline.stores.ledger import DecisionRecord
from dpo_pipeline.terminal import console, counts


def print_trace(found: "Trace") -> None:
    from dpo_pipeline.loop.traces import PersonTrace, RequestTrace, VoteTrace

    if isinstance(found, VoteTrace):
        _print_vote_trace(found)
    elif isinstance(found, RequestTrace):
        _print_request_trace(found)
    elif isinstance(found, PersonTrace):
        _print_person_trace(found)
    else:
        _print_version_trace(found)


def _print_request_trace(found: "RequestTrace") -> None:
    from dpo_pipeline.core.feedback import described

    table, request = Table(box=None, show_header=False), found.request
    if request is None:
        table.add_row("request", f"{found.request_id}; its line in the serving log was lost")
    else:
        table.add_row("request", f"{request.request_id}, {request.recorded_at}, answered by {request.version}")
        table.add_row("outcome", f"{request.outcome}, {request.tokens} tokens in {request.latency_ms:.0f} ms")
        table.add_row("stage", request.stage or "none")
    for each in found.said:
        table.add_row("feedback", f"{described(each.signal, each.value)}, {each.recorded_at} ({each.event_id})")
        table.add_row("", found.becomes[each.event_id])
    _add_datasets(table, found.datasets)
    console.print(table)


def _print_person_trace(found: "PersonTrace") -> None:
    table = Table(box=None, show_header=False)
    table.add_row("person", ", ".join(found.pseudonyms))
    table.add_row("votes", counted(found.votes) or "none")
    table.add_row("chat requests", f"{found.requests:,}")
    table.add_row("feedback", counts(found.feedback) or "none")
    _add_datasets(table, found.datasets)
    table.add_row("descendants", ", ".join(found.descendants) or "none")
    console.print(table)


def _add_datasets(table: Table, datasets: "Sequence[UsedIn]") -> None:
    for used in datasets:
        built = f"; built for {', '.join(used.waiting)}, which is not trained yet" if used.waiting else ""
        trained = ", ".join(used.versions) or "no version"
        table.add_row("dataset", f"{used.content_hash[:12]} ({used.part}), trained {trained}{built}")


def _print_vote_trace(went: "VoteTrace") -> None:
    table = Table(box=None, show_header=False)
    event = went.event
    table.add_row("vote", f"{event.vote} on {event.model_a} and {event.model_b}, {event.recorded_at}")
    if went.withdrawn:
        table.add_row("taken back", "as a slip, by whoever gave it: it counts nowhere")
    _add_datasets(table, went.datasets)
    table.add_row("descendants", ", ".join(went.descendants) or "none")
    table.add_row("A/B tests", ", ".join(went.judged) or "none")
    table.add_row("KPIs of its week", ", ".join(map(kpi_label, went.kpis)) or "none")
    _add_decisions(table, went.decisions)
    console.print(table)


def _print_version_trace(came: "VersionTrace") -> None:
    table = Table(box=None, show_header=False)
    record = came.record
    adapter = f"adapter {record.adapter_sha[:12]}" if record.adapter_sha else "no adapter yet"
    table.add_row("version", f"{record.name}, {spoken(record.status)}, {adapter}")
    table.add_row("parents", " ← ".join(came.ancestors) or "none")
    what = f"{len(came.events):,} votes and other feedback"
    dataset = f"{record.dataset_hash[:12]}: {what}" if record.dataset_hash else "none: it was not trained on votes"
    table.add_row("dataset", dataset)
    table.add_row("people", f"{came.people:,}")
    table.add_row("trained on", counted(came.sources) or "no votes or feedback")
    _add_decisions(table, came.decisions)
    console.print(table)


def _add_decisions(table: Table, decisions: "Sequence[DecisionRecord]") -> None:
    for decision in decisions:
        table.add_row(decision.decided_at, f"{decision.version} {decision.stage}: {decision.decision}")
