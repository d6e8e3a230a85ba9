"""Counting for the weekly report: weeks of votes and requests, figures of versions, the timeline of an iteration."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from dpo_pipeline.core.calendar import Span
from dpo_pipeline.core.controlled_winrate import controlled_win_rate
from dpo_pipeline.core.kpis import Week
from dpo_pipeline.core.leaderboard import PairCount
from dpo_pipeline.core.quality import CRITERIA
from dpo_pipeline.core.report import TimelineStep
from dpo_pipeline.core.rollout import MANUAL_PROMOTION, STAGES
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord, is_evidence
from dpo_pipeline.core.trajectory import VersionFigures
from dpo_pipeline.core.version_metrics import version_metrics
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.winrate import WinRate, win_rate
from dpo_pipeline.loop.describe import answer_words
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores.ledger import DecisionRecord, Ledger, VersionRecord, utc_text
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.serving_log import read_day, read_records
from dpo_pipeline.stores.warehouse import Warehouse

NEW_VISIT = timedelta(minutes=30)
"""Requests of one person that name no session and lie further apart belong to two visits."""
TRAINING_H, EVALUATION_H = 2.0, 1.0
COLLECT_H = {"weekly": 168.0, "bi-weekly": 336.0, "monthly": 720.0}


@dataclass(frozen=True)
class DayOfVersion:
    """What one version did on one day (UTC)."""

    day: str
    version: str
    requests: int
    errors: int
    crashes: int
    p99_ms: float | None
    ratings: int
    satisfaction: float | None


def weeks(serving_log: Path, warehouse: Warehouse, spans: Sequence[Span]) -> list[Week]:
    """What was counted in each of these weeks, newest first."""
    records = list(_records(serving_log, spans[-1].begins))
    return [_week(warehouse, records, utc_text(span.begins), utc_text(span.ends)) for span in spans]


def version_figures(settings: Settings, ledger: Ledger, warehouse: Warehouse, now: datetime) -> list[VersionFigures]:
    """Every version, in order, as people met it in the last 60 days."""
    versions = ledger.versions()
    names = [record.name for record in versions]
    met = version_metrics(read_records(settings.serving_log_dir, utc_text(now - timedelta(days=60))), names)
    figures = []
    for record in versions:
        metrics, evaluation = met[record.name], record.evaluation or {}
        figures.append(
            VersionFigures(
                name=record.name,
                status=record.status,
                satisfaction=metrics.satisfaction,
                ratings=metrics.ratings,
                win_rate=_over_baseline(settings.rollout, warehouse, record.name),
                controlled=None
                if record.name == BASELINE
                else controlled_win_rate(
                    warehouse.sided_comparisons(record.name, BASELINE, settings.rollout.count_unproven)
                ),
                words=answer_words(versions, record),
                parent_words=evaluation.get("parent_words"),
                evaluation_win_rate=record.win_rate,
            )
        )
    return figures


def timeline(ledger: Ledger, warehouse: Warehouse, policy: RolloutPolicy, frequency: str) -> list[TimelineStep]:
    """Of the newest version after v1.0: collect, train, evaluate, staging, rollout, planned against what happened."""
    trained = [record for record in ledger.versions() if record.name != BASELINE]
    newest = trained[-1] if trained else None
    collect_h = COLLECT_H[frequency]
    planned = [("collect", 0.0), ("train", collect_h), ("evaluate", collect_h + TRAINING_H)]
    planned.append(("staging", planned[-1][1] + EVALUATION_H))
    reached = planned[-1][1] + policy.staging_limit_h * policy.duration_scale / 2
    for stage in STAGES[1:]:
        planned.append((stage, reached))
        reached += getattr(policy, stage).hours * policy.duration_scale
    # What was voted after the training of the version before belongs to this one.
    begun = warehouse.first_vote(trained[-2].created_at if len(trained) > 1 else "")
    if newest is None or begun is None:
        return [TimelineStep(name, hours, None) for name, hours in planned]
    actual = _moments(newest, ledger.decisions(newest.name)) | {"collect": begun}
    origin = datetime.fromisoformat(begun)

    def hours(name: str) -> float | None:
        moment = actual.get(name)
        return round((datetime.fromisoformat(moment) - origin).total_seconds() / 3600, 2) if moment else None

    return [TimelineStep(name, round(at, 2), hours(name)) for name, at in planned]


def days(serving_log_dir: Path) -> list[DayOfVersion]:
    """The whole serving log, a row for each day and version, oldest first."""
    found = []
    for path in days_of(serving_log_dir):
        records = list(read_day(path))
        names = sorted({each.version for each in records if not isinstance(each, RequestRecord) or is_evidence(each)})
        for name, metrics in version_metrics(records, names).items():
            found.append(
                DayOfVersion(
                    path.stem, name, metrics.requests, metrics.errors, metrics.crashes, metrics.p99_ms,
                    metrics.ratings, metrics.satisfaction,
                )
            )  # fmt: skip
    return found


def _week(warehouse: Warehouse, records: Sequence[Record], since: str, until: str) -> Week:
    votes = warehouse.week(since, until)
    mine = [record for record in records if since <= record.recorded_at < until]
    requests = [each for each in mine if isinstance(each, RequestRecord) and is_evidence(each)]
    said = [each for each in mine if isinstance(each, FeedbackRecord)]
    ratings = {each.request_id: each.stars for each in said if each.stars is not None}
    decided = votes.votes.get("a", 0) + votes.votes.get("b", 0)
    total = sum(votes.votes.values())
    lengths = session_lengths(requests)
    return Week(
        preferences=total,
        by_category=votes.categories,
        clear_winners=decided / total if total else None,
        quality_score=None if votes.failed is None else 1 - votes.failed / len(CRITERIA),
        satisfaction=fmean(ratings.values()) if ratings else None,
        ratings=len(ratings),
        error_rate=fmean(each.outcome.failed for each in requests) if requests else None,
        requests=len(requests),
        session_length=fmean(lengths) if lengths else None,
    )


def session_lengths(requests: Sequence[RequestRecord]) -> list[int]:
    """Requests of each visit: by its name, or by person and pauses of half an hour where none is named."""
    named: dict[str, int] = {}
    moments: dict[str, list[datetime]] = {}
    for each in requests:
        if each.session_id:
            named[each.session_id] = named.get(each.session_id, 0) + 1
        else:
            moments.setdefault(each.user, []).append(datetime.fromisoformat(each.recorded_at))
    lengths = list(named.values())
    for mine in moments.values():
        ordered = sorted(mine)
        length = 1
        for before, after in pairwise(ordered):
            if after - before > NEW_VISIT:
                lengths.append(length)
                length = 0
            length += 1
        lengths.append(length)
    return lengths


def battles(warehouse: Warehouse, votes_per_person: int) -> list[PairCount]:
    """Votes per pair of versions, of one person so many on the same two."""
    return [PairCount(*row) for row in warehouse.battles(votes_per_person)]


def _over_baseline(policy: RolloutPolicy, warehouse: Warehouse, name: str) -> WinRate | None:
    if name == BASELINE:
        return None
    policy = policy
    votes = warehouse.head_to_head(name, BASELINE, policy.count_unproven)
    people = [person for person, _ in votes]
    return win_rate([outcome for _, outcome in votes], policy.ab_alpha, people, policy.votes_per_person)


def _moments(record: VersionRecord, decisions: Sequence[DecisionRecord]) -> dict[str, str]:
    """When each step of a version began, as far as the ledger knows."""
    found = {"train": record.created_at}
    if record.evaluation and record.evaluation.get("begun_at"):
        found["evaluate"] = record.evaluation["begun_at"]
    for decision in decisions:
        if decision.decision in ("promote", MANUAL_PROMOTION):
            found.setdefault(decision.stage, decision.decided_at)
    return found


def _records(directory: Path, since: datetime) -> list[Record]:
    return list(read_records(directory, utc_text(since))) if directory.exists() else []
