"""The services of one server, put together from its settings."""

from dataclasses import dataclass

from dpo_pipeline.loop.redactor import redactor
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.engines.forward import ForwardEngine
from dpo_pipeline.serving.engines.local import LocalEngine
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.services.chats import Chats
from dpo_pipeline.serving.services.comparing import Comparing
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
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.pseudonyms import signing_key
from dpo_pipeline.stores.served_texts import ServedTexts
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState


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

    async def close(self) -> None:
        """Stop following the ledger and answering, and write what waits to be written."""
        self.router.close()
        await self.engine.close()
        self.log.close()
        self.texts.close()
        self.state.close()


def assemble(settings: Settings, metrics: Metrics, engine: Engine, accounts: Accounts) -> Serving:
    """Nothing is started: the router begins to follow the ledger when it is told to."""
    collection, key = settings.collection, signing_key(settings)
    log, state = ServingLog(settings.serving_log_dir), ServingState(settings.serving_state)
    texts = ServedTexts(settings.served_texts_dir, collection.retain_texts_days)
    tally = Tally(settings.prefs_log, collection.max_line_bytes, settings.rollout.votes_per_person, settings.zone)
    router, rates = Router(settings, engine), RateLimits(settings.limits)
    readiness = Readiness(settings.data_dir / "progress", engine, router)
    defaults = Defaults(settings.generation, collection, settings.model.max_new_tokens)
    questions = Questions(collection, settings.bank_dir, state)
    visitors, redact = Visitors(settings, accounts, state, key), redactor(collection)
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
            Comparisons(collection, settings.prefs_log, questions, state, tally, key, redact),
            tally, visitors, rates, metrics, defaults, collection.measure_share,
        ),
        feedback=Feedback(state, log, visitors, rates, metrics, redact),
        reviews=Reviews(settings.review_table, settings.reviews_log, accounts),
        rollouts=Rollouts(settings, router, accounts),
        rollout_watch=RolloutWatch(settings, router, tally),
        loop_watch=LoopWatch(settings),
        versions=Versions(settings),
        contributors=Contributors(state, tally, visitors, rates, settings.cadence, settings.zone),
        log=log,
        texts=texts,
        state=state,
    )  # fmt: skip


def make_engine(settings: Settings) -> Engine:
    return ForwardEngine(settings) if settings.engine.kind == "forward" else LocalEngine(settings)
