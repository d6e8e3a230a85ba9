"""How a version does in a stage of its rollout, beside its control, and what the units of both met."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec

from dpo_pipeline.core.exposure import Unit, gets_challenger, is_control, unit_key
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.rollout import Exposure, VersionMetrics
from dpo_pipeline.core.sequential_tests import Events, Shares
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord, is_rating, somebody_vouches
from dpo_pipeline.core.version_metrics import Rated, how_it_went, metrics_of, opinions_of

ByUnit = Mapping[str, Sequence[RequestRecord]]


@dataclass(frozen=True)
class Stage:
    """A stage of a rollout: when it began, and who in it is served what.

    Attributes:
        since: RFC 3339 in UTC.
        epoch: the deployment's epoch since which this stage has been served; what was asked in an earlier one is not of
            this stage, whatever the clock said. Null: `since` alone tells.
        traffic: the share of the new version; 0 in staging, where shadow copies stand for it beside all that the
            baseline answers, by request.
        count_unproven: what people met for whom nobody vouches counts too.
    """

    since: str
    new: str
    baseline: str
    traffic: float
    unit: Unit = "person"
    epoch: int | None = None
    count_unproven: bool = False

    @property
    def staging(self) -> bool:
        return self.traffic == 0

    def holds(self, record: Record) -> bool:
        """Whether what happened is evidence in this stage, as far as the record alone can tell."""
        if record.version not in (self.new, self.baseline):
            return False
        if not (self.count_unproven or somebody_vouches(record)):
            return False
        if isinstance(record, RequestRecord):
            shadow = self.staging and record.version == self.new
            return self._is_within(record) and record.shadow == shadow and record.outcome.counts
        return is_rating(record)

    def unit_of(self, request: RequestRecord) -> str:
        unit = "request" if self.staging else self.unit
        return unit_key(unit, request.user, request.conversation or request.session_id, request.request_id)

    def serves(self, key: str, version: str) -> bool:
        """Whether a unit is served this version, or would be if it had not asked for one by name."""
        return self.staging or gets_challenger(key, self.new, self.traffic) == (version == self.new)

    def compares(self, key: str) -> bool:
        """Whether a unit of the baseline is of the control.

        Shadow copies are a share of the requests, by the budget: no two groups of one size.
        """
        return self.staging or is_control(key, self.new, self.traffic)

    def _is_within(self, request: RequestRecord) -> bool:
        if self.epoch is None or request.epoch is msgspec.UNSET:
            return request.recorded_at >= self.since
        return request.epoch >= self.epoch


def stage_metrics(
    records: Iterable[Record], stage: Stage, max_p99_ms: float
) -> tuple[VersionMetrics, VersionMetrics, Exposure]:
    """Both versions in a stage, and what their units met.

    A request for a version by name does not count, unless the rollout would have served it that version too.
    """
    requests: dict[str, dict[str, list[RequestRecord]]] = {stage.new: {}, stage.baseline: {}}
    keys: dict[str, str] = {}
    given: list[FeedbackRecord] = []
    for record in filter(stage.holds, records):
        if isinstance(record, FeedbackRecord):
            given.append(record)
        elif stage.serves(key := stage.unit_of(record), record.version):
            keys[record.request_id] = key
            requests[record.version].setdefault(key, []).append(record)
    ratings = _rated(given, keys, stage)
    champions = requests[stage.baseline]
    control = {key: mine for key, mine in champions.items() if stage.compares(key)}
    compared = [] if stage.staging else [each for each in ratings[stage.baseline] if stage.compares(each[0])]
    met = _met(requests[stage.new], control, champions, max_p99_ms, ratings[stage.new], compared)
    ours, theirs = (
        metrics_of(
            [how_it_went(each) for mine in requests[name].values() for each in mine],
            [rating for _, rating in ratings[name]],
        )
        for name in (stage.new, stage.baseline)
    )
    return ours, theirs, met


def _rated(given: Sequence[FeedbackRecord], keys: Mapping[str, str], stage: Stage) -> dict[str, list[Rated]]:
    """The newest rating of each request, by version.

    Read after all requests: they are written a moment later than answered, and who is quick has rated by then.

    Args:
        keys: the unit of each request of this stage.
    """
    newest: dict[str, dict[str, Rated]] = {stage.new: {}, stage.baseline: {}}
    for rating in given:
        # A request from before the stage is known by its person only.
        by_person = stage.unit == "person" and not stage.staging and rating.recorded_at >= stage.since
        unit = keys.get(rating.request_id, rating.user if by_person else "")
        if unit and stage.serves(unit, rating.version):
            newest[rating.version][rating.request_id] = unit, rating
    return {name: list(found.values()) for name, found in newest.items()}


def _met(
    ours: ByUnit,
    control: ByUnit,
    champions: ByUnit,
    max_p99_ms: float,
    ratings: Iterable[Rated],
    control_ratings: Iterable[Rated],
) -> Exposure:
    def crashed(request: RequestRecord) -> bool:
        return request.outcome is RequestOutcome.CRASH

    def failed(request: RequestRecord) -> bool:
        return request.outcome.failed

    def slow(request: RequestRecord) -> bool:
        return request.latency_ms > max_p99_ms

    return Exposure(
        new=len(ours),
        control=len(control),
        bad=Events(len(ours), _units_with(ours, failed), len(champions), _units_with(champions, failed)),
        errors=_shares(ours, failed),
        crashes=_shares(ours, crashed),
        slow=_shares(ours, slow),
        control_errors=_shares(control, failed),
        control_crashes=_shares(control, crashed),
        control_slow=_shares(control, slow),
        opinions=opinions_of(ratings),
        control_opinions=opinions_of(control_ratings),
    )


def _units_with(by_unit: ByUnit, happened: Callable[[RequestRecord], bool]) -> int:
    return sum(any(map(happened, mine)) for mine in by_unit.values())


def _shares(by_unit: ByUnit, happened: Callable[[RequestRecord], bool]) -> Shares:
    return Shares(len(by_unit), math.fsum(fmean(map(happened, mine)) for mine in by_unit.values()))
