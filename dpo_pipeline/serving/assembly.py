"""The services of one server, put together from its settings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dpo_pipeline.loop.redactor import redactor
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.engines.forward import ForwardEngine
from dpo_pipeline.serving.engines.local import LocalEngine
from dpo_pipeline.serving.log_follower import LogFollower
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.registry_follower import registry_follower
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.services.chats import Chats
from dpo_pipeline.serving.services.comparing import Comparing
from dpo_pipeline.serving.services.comparison_tokens import forget_expired, valid_s
from dpo_pipeline.serving.services.comparisons import Comparisons
from dpo_pipeline.serving.services.contributors import Contributors
from dpo_pipeline.serving.services.feedback import Feedback
from dpo_pipeline.serving.services.loop_watch import LoopWatch
from dpo_pipeline.serving.services.paired_answers import PairedAnswers
from dpo_pipeline.serving.services.questions import Questions
from dpo_pipeline.serving.services.readiness import Readiness
from dpo_pipeline.serving.services.request_log import RequestLog
from dpo_pipeline.serving.services.reviews import Reviews
from dpo_pipeline.serving.services.rollout_watch import RolloutWatch
from dpo_pipeline.serving.services.rollouts import Rollouts
from dpo_pipeline.serving.services.sampling import Defaults
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.serving.services.versions import Versions
from dpo_pipeline.serving.services.visitors import Visitors
from dpo_pipeline.serving.services.voting import Voting
from dpo_pipeline.serving.shared_rates import SharedRates
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.logs import logs_of, shared_logs
from dpo_pipeline.stores.pseudonyms import signing_key
from dpo_pipeline.stores.published_files import PublishedFiles
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.served_texts import ServedTexts
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState, place_of
from dpo_pipeline.stores.vote_log import FileVotes, SharedVotes, VoteLog


class Follower(Protocol):
    """A thread of the server's own."""

    def start(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Serving:
    """What routes and pages are given: a service for each thing that people can do, and what all look at."""

    settings: Settings
    accounts: Accounts
    engine: Engine
    router: Router
    metrics: Metrics
    tally: Tally
    visitors: Visitors
    readiness: Readiness
    chats: Chats
    comparing: Comparing
    voting: Voting
    feedback: Feedback
    reviews: Reviews
    rollouts: Rollouts
    rollout_watch: RolloutWatch
    loop_watch: LoopWatch
    versions: Versions
    contributors: Contributors
    log: ServingLog
    texts: ServedTexts
    state: ServingState
    followers: Sequence[Follower]

    def start(self) -> None:
        """Begin to follow the ledger, and what other servers write."""
        for each in self.followers:
            each.start()

    async def close(self) -> None:
        """Stop following and answering, and write what waits to be written."""
        for each in self.followers:
            each.close()
        await self.engine.close()
        self.log.close()
        self.texts.close()
        self.state.close()


def assemble(settings: Settings, metrics: Metrics, engine: Engine, accounts: Accounts) -> Serving:
    """Nothing is started yet."""
    collection, logs, key = settings.collection, logs_of(settings), signing_key(settings)
    log, state = ServingLog(settings.serving_log_dir, logs), ServingState(place_of(settings))
    texts = ServedTexts(settings.served_texts_dir, collection.retain_texts_days, logs)
    most, by_worth = settings.rollout.votes_per_person, collection.worth_share > 0
    reviews = ReviewLog(settings.reviews_log, logs)
    tally = Tally(
        settings.prefs_log, collection.max_line_bytes, most, settings.zone, by_worth, reviews=settings.reviews_log
    )
    router = Router(settings, engine)
    rates = RateLimits(settings.limits, time.time if settings.database_url else time.monotonic)
    readiness = Readiness(settings.data_dir / "progress", engine, router)
    defaults = Defaults(settings.generation, collection, settings.model.max_new_tokens)

    def nothing_is_decided() -> bool:
        """An A/B test asks what people prefer on questions as they come: while one is under way, draws are even."""
        return router.route.challenger is None

    questions = Questions(collection, settings.bank_dir, state, tally.on_prompts, nothing_is_decided)
    visitors, redact = Visitors(settings, accounts, state, key), redactor(collection)
    votes = _vote_log(settings, state)
    comparisons = Comparisons(collection, votes, reviews, questions, state, key, redact)
    return Serving(
        settings=settings,
        accounts=accounts,
        engine=engine,
        router=router,
        metrics=metrics,
        tally=tally,
        visitors=visitors,
        readiness=readiness,
        chats=Chats(
            engine, router, readiness,
            RequestLog(log, texts, state, metrics, engine, redact), rates, defaults, visitors,
            patience_s=settings.rollout.max_p99_ms / 1000, copy_all=settings.rollout.count_unproven,
        ),
        comparing=Comparing(
            engine, router, readiness,
            PairedAnswers(engine, collection.samples, settings.limits.queue, settings.quality),
            comparisons, tally, visitors, rates, defaults, collection.measure_share,
        ),
        voting=Voting(comparisons, rates, metrics),
        feedback=Feedback(state, log, visitors, rates, metrics, redact),
        reviews=Reviews((settings.review_table, settings.correction_table), reviews, accounts, redact),
        rollouts=Rollouts(settings, router, accounts),
        rollout_watch=RolloutWatch(settings, engine, router, tally),
        loop_watch=LoopWatch(settings),
        versions=Versions(settings),
        contributors=Contributors(state, tally, visitors, rates, settings.cadence, settings.zone),
        log=log,
        texts=texts,
        state=state,
        followers=[router, registry_follower(settings), *_followers_of_others(settings, rates)],
    )  # fmt: skip


def _followers_of_others(settings: Settings, rates: RateLimits) -> list[Follower]:
    """Of what other servers write and count, where there are some."""
    shared = shared_logs(settings)
    if shared is None:
        return []
    trains_here = settings.dagster_home.exists()
    published = None if trains_here else PublishedFiles(shared.engine, settings.data_dir)
    return [LogFollower(shared, published), SharedRates(shared.engine, rates)]


def _vote_log(settings: Settings, state: ServingState) -> VoteLog:
    """Votes that were given before this server started count, as long as they can be sent again."""
    path, oldest = settings.prefs_log, time.time() - valid_s(settings.collection)
    if shared := shared_logs(settings):
        return SharedVotes(shared, path)
    forget_expired(state, settings.collection)
    return FileVotes(AppendLog(path), settings.collection.max_line_bytes, state.oldest_open_offset(oldest))


def make_engine(settings: Settings) -> Engine:
    return ForwardEngine(settings) if settings.engine.kind == "forward" else LocalEngine(settings)
