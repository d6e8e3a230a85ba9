"""From a vote forward to every dataset, adapter, rollout and KPI that it touched, from a version back to its votes; and
what is known of a request or a person.

Answered from manifests and the ledger, which hold all of it: event ids in every dataset, dataset hashes in every
version, decisions with their evidence.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from dpo_pipeline.core.kpis import kpis_of
from dpo_pipeline.core.labels import what_becomes
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord
from dpo_pipeline.core.versions import is_version_name, served_name
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.errors import UnknownVersion
from dpo_pipeline.loop.label import given_feedback, trainable_feedback
from dpo_pipeline.loop.traces import PersonTrace, RequestTrace, UsedIn, VersionTrace, VoteTrace
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.decode import votes_of
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline.stores.log_reading import Position, days_of, read_batches
from dpo_pipeline.stores.pseudonyms import known_pseudonyms, theirs
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_log import all_feedback, read_day

Trace = VersionTrace | VoteTrace | RequestTrace | PersonTrace


def trace(settings: Settings, what: str) -> Trace:
    """A version, a vote, a request or a person, whichever goes by this name or id.

    Raises:
        UnknownVersion: none does; names the nearest version.
    """
    with Ledger(settings.ledger_address) as ledger:
        names = [record.name for record in ledger.versions()]
    if served_name(what) in names:
        return trace_version(settings, served_name(what))
    near = did_you_mean(what, names, 1)
    unknown = UnknownVersion(
        f"Nothing is known of {what!r}.{near} Give a version "
        f"({', '.join(names[-3:]) or 'there is none yet'}), the event_id of a vote in prefs.jsonl or of feedback, the "
        "id of a chat answer, or a person's name."
    )
    if near and is_version_name(served_name(what)):
        raise unknown  # before weeks of logs are read for it
    try:
        return trace_vote(settings, what)
    except UnknownVersion:
        found = _request(settings, what) or trace_person(settings, what)
    if isinstance(found, PersonTrace) and not found.pseudonyms:
        raise unknown
    return found


def trace_person(settings: Settings, name: str) -> PersonTrace:
    """Of a name as it was given to serving, or a pseudonym; somebody who is not known gave nothing."""
    theirs_by_name = theirs(known_pseudonyms(name, settings))

    def is_theirs(pseudonym: str) -> bool:
        return pseudonym == name or theirs_by_name(pseudonym)

    given = [event for event in all_votes(settings) if is_theirs(event.annotator)]
    records = [record for record in _served(settings.serving_log_dir) if is_theirs(record.user)]
    with Ledger(settings.ledger_address) as ledger:
        versions = ledger.versions()
    said = {record.event_id for record in records if isinstance(record, FeedbackRecord)}
    used = tuple(datasets_with(settings, {event.event_id for event in given} | said, versions))
    trained = {version for each in used if each.part != "eval" for version in each.versions}
    return PersonTrace(
        pseudonyms=tuple(sorted({event.annotator for event in given} | {record.user for record in records})),
        votes=dict(Counter(event.source for event in given)),
        # Copies for a version in staging are no requests of theirs.
        requests=sum(isinstance(record, RequestRecord) and not record.shadow for record in records),
        feedback=dict(Counter(record.signal for record in records if isinstance(record, FeedbackRecord))),
        datasets=used,
        descendants=_descendants(versions, trained),
    )


def _request(settings: Settings, name: str) -> RequestTrace | None:
    """By the id of an answer, or of feedback on it."""
    said = [each for each in all_feedback(settings.serving_log_dir) if name in (each.event_id, each.request_id)]
    request_id = said[0].request_id if said else name
    if said:
        said = [each for each in all_feedback(settings.serving_log_dir) if each.request_id == request_id]
    requests = (each for each in _served(settings.serving_log_dir) if isinstance(each, RequestRecord))
    request = next((each for each in requests if each.request_id == request_id), None)
    if request is None and not said:
        return None
    with Ledger(settings.ledger_address) as ledger:
        used = tuple(datasets_with(settings, {each.event_id for each in said}, ledger.versions()))
    found = trainable_feedback(settings, given_feedback(settings.serving_log_dir, both_bad=(), votes=0))
    becomes = {each.event_id: what_becomes(each.event_id, each.signal, found) for each in said}
    return RequestTrace(request_id, request, tuple(said), used, becomes)


def _served(serving_log: Path) -> Iterator[Record]:
    """Every record of the serving log."""
    for path in days_of(serving_log):
        yield from read_day(path)


def trace_vote(settings: Settings, event_id: str) -> VoteTrace:
    """
    Raises:
        UnknownVersion: there is no such event in the log.
    """
    event = next((each for each in all_votes(settings) if each.event_id == event_id), None)
    if event is None:
        raise UnknownVersion(
            f"The log holds no event {event_id!r}. Give an event id as in prefs.jsonl, or a version such as v1.1."
        )
    with Ledger(settings.ledger_address) as ledger:
        versions = ledger.versions()
        used = tuple(datasets_with(settings, {event_id}, versions))
        withdrawn = event_id in ReviewLog(settings.reviews_log).withdrawn()
        trained = {name for each in used if each.part != "eval" for name in each.versions}
        judged = tuple(
            record.name
            for record in versions
            if not withdrawn and record.parent and {event.model_a, event.model_b} == {record.name, record.parent}
        )
        touched = [*sorted(trained), *(name for name in judged if name not in trained)]
        decisions = tuple(decision for name in touched for decision in ledger.decisions(name))
    return VoteTrace(
        event, used, _descendants(versions, trained), judged, decisions, () if withdrawn else kpis_of(event), withdrawn
    )


def trace_version(settings: Settings, name: str) -> VersionTrace:
    """
    Raises:
        UnknownVersion: the ledger has none of that name.
    """
    with Ledger(settings.ledger_address) as ledger:
        record, decisions = ledger.version(name), tuple(ledger.decisions(name))
        parents = {each.name: each.parent for each in ledger.versions()}
    manifest = dict(_manifests(settings.artifacts_dir)).get(record.dataset_hash or "", (Path(), {}))[1]
    events = taught_by(manifest)
    given = givers_of(settings, events)
    sources: Counter[str] = Counter()
    for (_, source), count in given.items():
        sources[source] += count
    ancestors: list[str] = []
    while parent := parents.get(ancestors[-1] if ancestors else name):
        ancestors.append(parent)
    return VersionTrace(
        record=record,
        ancestors=tuple(ancestors),
        events=events,
        people=len({person for person, _ in given}),
        sources=dict(sources),
        decisions=decisions,
    )


def taught_by(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Votes and feedback that a version was trained on, from the manifest of its dataset."""
    return tuple(dict.fromkeys([*manifest.get("train_events", ()), *manifest.get("labelled_events", ())]))


def givers_of(settings: Settings, events: Collection[str]) -> Counter[tuple[str, str]]:
    """How many of these votes and of this feedback are whose, by (pseudonym, source or signal). Reads both logs."""
    wanted = set(events)
    votes = ((each.annotator, each.source) for each in all_votes(settings) if each.event_id in wanted)
    said = ((each.user, each.signal) for each in all_feedback(settings.serving_log_dir) if each.event_id in wanted)
    return Counter(chain(votes, said)) if wanted else Counter()


def all_votes(settings: Settings) -> Iterator[Preference]:
    """Every event of the log, in order."""
    for batch in read_batches(settings.prefs_log, Position(), settings.collection.max_line_bytes):
        yield from votes_of(batch)


def datasets_with(settings: Settings, event_ids: set[str], versions: list[VersionRecord]) -> Iterator[UsedIn]:
    """Datasets that hold any of these events, once for each part."""
    for content_hash, (directory, manifest) in _manifests(settings.artifacts_dir):
        built_for = [record for record in versions if record.dataset_hash == content_hash]
        trained = tuple(record.name for record in built_for if record.adapter_sha)
        waiting = tuple(record.name for record in built_for if not record.adapter_sha)
        for part in ("train", "eval", "labelled"):
            if not event_ids.isdisjoint(manifest.get(f"{part}_events", ())):
                yield UsedIn(content_hash, directory, part, trained, waiting)


def _manifests(artifacts_dir: Path) -> Iterator[tuple[str, tuple[Path, dict[str, Any]]]]:
    for path in sorted((artifacts_dir / "datasets").glob(f"*/{artifacts.MANIFEST}")):
        manifest = artifacts.read_manifest(path.parent)
        yield str(manifest["content_hash"]), (path.parent, manifest)


def _descendants(versions: list[VersionRecord], trained: set[str]) -> tuple[str, ...]:
    """Versions that have one of these among their parents."""
    found: set[str] = set()
    for record in versions:
        if record.parent and record.parent in trained | found and record.name not in trained:
            found.add(record.name)
    return tuple(sorted(found))
