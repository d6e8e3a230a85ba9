"""What a decision looks at: what both versions did, and what their units met."""

from dataclasses import dataclass, field

from dpo_pipeline.core.ab_test import AbTest
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares


@dataclass(frozen=True)
class VersionMetrics:
    """What one version did in a window. A rate is null where nothing was measured.

    Requests and ratings of simulated people count like those of the people they stand for, and are counted apart too.
    """

    requests: int = 0
    errors: int = 0
    crashes: int = 0
    p99_ms: float | None = None
    ratings: int = 0
    satisfaction: float | None = None
    simulated_requests: int = 0
    simulated_ratings: int = 0

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def crash_rate(self) -> float | None:
        return self.crashes / self.requests if self.requests else None


@dataclass(frozen=True)
class Exposure:
    """What the units of both arms met in a stage; the control is a group of the champion's units of the same size.

    In staging nobody is served the new version: its shadow copies stand beside the requests of the champion. `bad`
    counts all of the champion's units: whose event it was is asked one by one, so more of them tell more. `errors`,
    `crashes` and `slow` are shares of the new version's requests, `slow` above the p99 limit; `control_…` of the
    control's.
    """

    new: int = 0
    control: int = 0
    bad: Events = field(default_factory=Events)
    errors: Shares = field(default_factory=Shares)
    crashes: Shares = field(default_factory=Shares)
    slow: Shares = field(default_factory=Shares)
    control_errors: Shares = field(default_factory=Shares)
    control_crashes: Shares = field(default_factory=Shares)
    control_slow: Shares = field(default_factory=Shares)
    opinions: Opinions = field(default_factory=Opinions)
    control_opinions: Opinions = field(default_factory=Opinions)

    def __add__(self, other: "Exposure") -> "Exposure":
        """Both together; `bad` stays the other's, because events are compared stage by stage."""
        return Exposure(
            new=self.new + other.new,
            control=self.control + other.control,
            bad=other.bad,
            errors=self.errors + other.errors,
            crashes=self.crashes + other.crashes,
            slow=self.slow + other.slow,
            control_errors=self.control_errors + other.control_errors,
            control_crashes=self.control_crashes + other.control_crashes,
            control_slow=self.control_slow + other.control_slow,
            opinions=self.opinions + other.opinions,
            control_opinions=self.control_opinions + other.control_opinions,
        )


@dataclass(frozen=True)
class Evidence:
    """All that a decision looks at. `hours` is the time in the stage, already unscaled.

    `met` is of this stage, `earlier` of the stages of this rollout that are over. `ab_won`: this version won its A/B
    test. `day` is which day of full traffic this is: evidence is counted from zero every day there. `burst` says what
    is wrong with the votes of people whom nobody vouches for, where something is, `uncounted` which votes do not count.
    """

    stage: str
    hours: float
    ab: AbTest | None = None
    new: VersionMetrics = field(default_factory=VersionMetrics)
    baseline: VersionMetrics = field(default_factory=VersionMetrics)
    met: Exposure = field(default_factory=Exposure)
    earlier: tuple[Exposure, ...] = ()
    ab_won: bool = False
    day: int = 1
    burst: str = ""
    uncounted: str = ""

    @property
    def so_far(self) -> Exposure:
        """What was met in the whole rollout."""
        return sum(self.earlier, Exposure()) + self.met

    @property
    def events(self) -> tuple[Events, ...]:
        return (*(each.bad for each in self.earlier), self.met.bad)
