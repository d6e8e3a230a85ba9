"""Does a team of eight turn the loop: when are its v1.1 and its v1.2 at full traffic?

Eight people, 25 votes and 160 chats a day, 30 % of answers rated, for sixty days on a simulated clock, six hours at a
time; the tiny profile, default settings. Real are the logs, the warehouse, every training and evaluation, ledger,
MLflow and all decisions: the use cases of `dpo_pipeline.loop`, as Dagster's assets call them. Simulated are the clock,
the people (a hidden taste, noise, habits; `dpo_pipeline.simulation.people`) and what fails: 1 % of requests, whichever
version answers.

Goals: v1.1 at full traffic by day 30 in at least 80 % of 20 runs, v1.2 by day 60.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, cast

import duckdb
import msgspec
from inputs import baseline, settings_for
from reporting import Goal, plot, report, say, show
from servers import mlflow_server

from dpo_pipeline.core.candidates import best_partner
from dpo_pipeline.core.exposure import gets_challenger, unit_key
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.matchmaking import matches, pick
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.questions import Question, least_covered, split_bank
from dpo_pipeline.core.rollout import STAGES, traffic_of
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord
from dpo_pipeline.core.versions import BASELINE, next_version
from dpo_pipeline.core.votes import Category, Letter, Preference, Sampling, encode_preference, outcome
from dpo_pipeline.errors import AdapterRefused, TrainingDiverged
from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.evaluate import evaluate_version
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.loop.register import register_version
from dpo_pipeline.loop.roll_out import decide_now, plan_of
from dpo_pipeline.loop.train import train, train_baseline
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.reports import plots
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.simulation.people import choose, make_person, rate, satisfaction
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.ledger import Ledger, utc_text
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.warehouse import Warehouse, prepare

LETTERS: tuple[Letter, ...] = ("a", "b")
PEOPLE, VOTES_A_DAY, CHATS_A_DAY, RATED, ERRORS = 8, 25, 160, 0.3, 0.01
VISIT = timedelta(hours=6)
CONVERSATION = 4
"""Chats of a conversation, on average."""
HABITS = 0.8
"""Standard deviation of the logarithm of how often people ask and vote, as in `simulation.rollouts`."""
GOALS = {"v1.1": 30, "v1.2": 60}


@dataclass
class Months:
    """How one run went. `full_on`: the day on which a version was at full traffic. `events`: (day, what happened)."""

    seed: int
    full_on: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    events: list[tuple[float, str]] = field(default_factory=list)
    likes_by_week: list[float] = field(default_factory=list)
    valid: int = 0


class Team:
    """Eight people, one data folder, and a clock that moves six hours at a time."""

    def __init__(self, settings: Settings, base: BaseModel, seed: int, begin: datetime) -> None:
        self.settings, self.begin, self.now = settings, begin, begin
        self.draw, self.months = random.Random(seed), Months(seed)
        self.ledger = Ledger(settings.ledger_address, clock=lambda: utc_text(self.now))
        self.registry = Registry(settings.mlflow_address, settings.registered_model)
        self.generator = Generator(base, settings.model)
        self.bank = read_bank(settings.bank_dir)
        self.asked, _ = split_bank(self.bank, settings.collection.holdout_share)
        self.people = [make_person(f"person-{number}", seed) for number in range(PEOPLE)]
        self.habits = [self.draw.lognormvariate(0, HABITS) for _ in self.people]
        self.categories: Counter[str] = Counter()
        self.known: dict[tuple[str, str], str] = {}
        self.likes: list[float] = []
        settings.warehouse_path.parent.mkdir(parents=True)
        train_baseline(settings, self.ledger, self.registry)
        register_version(settings, self.ledger, self.registry, BASELINE)

    def close(self) -> None:
        self.ledger.close()

    @property
    def day(self) -> float:
        return (self.now - self.begin) / timedelta(days=1)

    def live(self, days: int) -> Months:
        """People come, then the loop looks."""
        while self.day < days:
            self._vote()
            self._chat()
            self.now += VISIT
            self._look()
            if self.day % 7 == 0:
                self.months.likes_by_week.append(fmean(self.likes))
                self.likes.clear()
        self.months.statuses = {each.name: each.status for each in self.ledger.versions()}
        return self.months

    def _look(self) -> None:
        settings, ledger = self.settings, self.ledger
        with closing(duckdb.connect(settings.warehouse_path)) as connection:
            prepare(connection)
            warehouse = Warehouse(connection, settings.prefs_log)
            ingest(warehouse, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
            self.months.valid = curate(settings, warehouse).summary.valid
            if next_training(settings, ledger, self.now).due:
                self._next_version(warehouse)
            subject = ledger.deployment().subject
            waiting = [each.name for each in ledger.versions() if each.status == Status.REGISTERED]
            name = waiting[0] if waiting and not ledger.deployment().challenger else subject
            if name and (waiting or ledger.deployment().stage):
                self._decide(warehouse, name)

    def _decide(self, warehouse: Warehouse, name: str) -> None:
        decision = decide_now(self.settings, self.ledger, lambda: nullcontext(warehouse), name, "study", self.now)
        if decision.decision == "hold":
            return
        reconcile_registry(self.settings, self.ledger, self.registry)
        stage = self.ledger.deployment().stage
        self._happened(f"{name}: {decision.decision} to {stage}" if stage else f"{name}: {decision.reasons[:2]}")
        if decision.decision == "promote" and self.ledger.deployment().champion == name:
            self.months.full_on[name] = self.day

    def _next_version(self, warehouse: Warehouse) -> None:
        """Attempts as the sensors launch them: another recipe after each one that is not better."""
        settings, ledger = self.settings, self.ledger
        name = next_version([each.name for each in ledger.versions()])
        build_dataset(settings, ledger, warehouse, name)
        for attempt in range(1, settings.cadence.max_attempts + 1):
            try:
                train(settings, ledger, self.registry, name)
                verdict = evaluate_version(settings, ledger, self.registry, name).verdict
                self._happened(f"{name}, attempt {attempt}: {verdict.verdict}, {verdict.overall}")
            except (TrainingDiverged, AdapterRefused) as error:
                self._happened(f"{name}, attempt {attempt}: {error}")
            if ledger.version(name).status == Status.IMPROVED:
                register_version(settings, ledger, self.registry, name)
                return
        self._happened(f"{name} is given up")

    def _vote(self) -> None:
        """On the A/B page: the pair by the matchmaking of serving, the question of the category covered least."""
        state = self.ledger.deployment()
        champion, challenger = str(state.champion), state.challenger
        served = [name for name in (champion, challenger, state.previous) if name]
        share, open_test = self.settings.collection.measure_share, state.stage == STAGES[0]
        offered = matches(champion, challenger, served, {}, share, open_test)
        votes: list[tuple[Question, tuple[str, str], float]] = []
        for _ in range(self._poisson(VOTES_A_DAY)):
            category = least_covered(self.categories)
            question = self.draw.choice([each for each in self.asked if each.category == category])
            self.categories[category] += 1
            match = pick(offered, self.draw.random())
            votes.append((question, (match.first, match.second), match.propensity))
        answers = self._answers([(question, pair) for question, pair, _ in votes])
        events = [
            self._event(question, pair, *texts, propensity, number)
            for number, ((question, pair, propensity), texts) in enumerate(zip(votes, answers, strict=True))
        ]
        AppendLog(self.settings.prefs_log, durable=False).append_all([encode_preference(each) for each in events])

    def _answers(self, wanted: Sequence[tuple[Question, tuple[str, str]]]) -> list[tuple[str, str]]:
        """As serving gives them: two versions as in production, two samples of one warmer, and chosen among some."""
        samples = self.settings.collection.samples
        asked = [
            [(question, name) for name in (pair if pair[0] != pair[1] else pair[:1] * samples)]
            for question, pair in wanted
        ]
        warm = [pair[0] == pair[1] for (_, pair), each in zip(wanted, asked, strict=True) for _ in each]
        texts, found = iter(self._fresh([one for each in asked for one in each], warm)), []
        for each in asked:
            first, *others = [next(texts) for _ in each]
            found.append((first, others[best_partner(first, others, self.settings.quality)]))
        return found

    def _event(
        self, question: Question, pair: tuple[str, str], a: str, b: str, propensity: float, number: int
    ) -> Preference:
        [person] = self.draw.choices(self.people, self.habits)
        left = self.draw.choice(LETTERS)
        choice = choose(person, question, *((a, b) if left == "a" else (b, a)), self.draw)
        vote: Any = choice if choice in ("tie", "both_bad") else left if choice == "left" else "ba"[left == "b"]
        decided = outcome(vote, a, b, *pair)
        name = f"{self.day:.2f}-{number}"
        return Preference(
            event_id=name, recorded_at=utc_text(self.now + VISIT * self.draw.random()), comparison_id=name,
            session_id=person.name, prompt=question.question, model_a=pair[0], model_b=pair[1],
            category=cast(Category, question.category), response_a=a, response_b=b, vote=vote,
            chosen=decided[0], rejected=decided[1], chosen_model=decided[2], rejected_model=decided[3],
            left=left, annotator=person.name, source="api", sampling=Sampling(), propensity=propensity,
        )  # fmt: skip

    def _chat(self) -> None:
        """In conversations; one in a hundred requests fails, three in ten answers are rated."""
        state = self.ledger.deployment()
        champion, challenger = str(state.champion), state.challenger
        plan = plan_of(state, self.settings.rollout)
        traffic = traffic_of(state.stage, plan.policy) if challenger and state.stage else 0.0
        asked: list[tuple[int, str, Question, str]] = []
        for talk in range(self._poisson(CHATS_A_DAY / CONVERSATION)):
            [who] = self.draw.choices(range(PEOPLE), self.habits)
            for turn in range(self.draw.randint(1, 2 * CONVERSATION - 1)):
                talk_name, request_id = f"{self.day:.2f}-{talk}", f"{self.day:.2f}-{talk}-{turn}"
                key = unit_key(plan.unit, self.people[who].name, talk_name, request_id)
                name = challenger if challenger and gets_challenger(key, challenger, traffic) else champion
                asked.append((who, request_id, self.draw.choice(self.bank), name))
        self._learn({(question, name) for _, _, question, name in asked})
        records: list[Record] = []
        for who, request_id, question, name in asked:
            person = self.people[who]
            usual: dict[str, Any] = {
                "recorded_at": utc_text(self.now + VISIT * self.draw.random()), "user": person.name, "session_id": "",
                "conversation": request_id.rsplit("-", 1)[0], "adapter_sha": "", "stage": state.stage or "full",
                "latency_ms": self.draw.uniform(200, 600), "ttft_ms": None, "tokens": 20,
            }  # fmt: skip
            failed = self.draw.random() < ERRORS
            records.append(self._request(request_id, name, failed, False, usual))
            if challenger and state.stage == "staging" and self.draw.random() < plan.shadow_share:
                copy_failed = self.draw.random() < ERRORS
                records.append(self._request(f"{request_id}-copy", challenger, copy_failed, True, usual))
            if failed:
                continue
            answer = self.known[question.question, name]
            self.likes.append(satisfaction(person, question, answer))
            if self.draw.random() < RATED:
                rating = rate(person, question, answer, self.draw)
                records.append(
                    FeedbackRecord(
                        event_id=f"r-{request_id}", recorded_at=usual["recorded_at"], request_id=request_id,
                        user=person.name, version=name, signal="rating", value=rating,
                    )
                )  # fmt: skip
        by_day: dict[str, list[bytes]] = {}
        for record in sorted(records, key=lambda each: each.recorded_at):
            by_day.setdefault(record.recorded_at[:10], []).append(msgspec.json.encode(record))
        for day, lines in by_day.items():
            AppendLog(self.settings.serving_log_dir / f"{day}.jsonl", durable=False).append_all(lines)

    def _request(self, name: str, version: str, failed: bool, shadow: bool, usual: dict[str, Any]) -> RequestRecord:
        outcome = RequestOutcome.ENGINE_ERROR if failed else RequestOutcome.OK
        return RequestRecord(request_id=name, version=version, shadow=shadow, outcome=outcome, **usual)

    def _learn(self, wanted: set[tuple[Question, str]]) -> None:
        """What a version answers in production, once for each question: at its temperature it hardly varies."""
        missing = sorted(
            ((question, name) for question, name in wanted if (question.question, name) not in self.known),
            key=lambda each: (each[0].question, each[1]),
        )
        for (question, name), text in zip(missing, self._fresh(missing, [False] * len(missing)), strict=True):
            self.known[question.question, name] = text

    def _fresh(self, wanted: Sequence[tuple[Question, str]], warm: Sequence[bool]) -> list[str]:
        """Answers as production gives them, or, where `warm`, as two samples of one version are drawn."""
        adapters = {name: self._loaded(name) for name in {name for _, name in wanted}}
        collection, generation = self.settings.collection, self.settings.generation
        requests = [
            GenerationRequest(
                messages=(("user", question.question),),
                adapter=adapters[name],
                temperature=(collection if drawn else generation).temperature,
                top_p=(collection if drawn else generation).top_p,
                max_tokens=self.settings.model.max_new_tokens,
                seed=self.draw.randrange(2**31),
            )
            for (question, name), drawn in zip(wanted, warm, strict=True)
        ]
        texts: list[str] = []
        for begin in range(0, len(requests), 128):
            texts += [answer.text for answer in self.generator.generate(requests[begin : begin + 128])]
        return texts

    def _loaded(self, name: str) -> str:
        record = self.ledger.version(name)
        sha = str(record.adapter_sha)
        if sha not in self.generator.loaded:
            self.generator.load(sha, Path(str(record.adapter_dir)))
        return sha

    def _poisson(self, a_day: float) -> int:
        """How many in a visit."""
        mean, count, reached = a_day * (VISIT / timedelta(days=1)), 0, self.draw.expovariate(1)
        while reached < mean:
            count, reached = count + 1, reached + self.draw.expovariate(1)
        return count

    def _happened(self, what: str) -> None:
        self.months.events.append((round(self.day, 2), what))


def play(seed: int, days: int, variables: dict[str, str], begin: datetime) -> Months:
    """One run in this process, in a data folder of its own beside the others' base model."""
    import os

    import torch

    torch.set_num_threads(1)
    os.environ.update(variables)
    with tempfile.TemporaryDirectory(prefix=f"team-{seed}-") as folder:
        settings = load_settings(data_dir=folder, registered_model=f"team-{seed}")
        base, _ = baseline(settings)
        team = Team(settings, base, seed, begin)
        with closing(team):
            return team.live(days)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--days", type=int, default=60)
    args = parser.parse_args()
    settings_for(None)
    # Windows of the loop that end now, such as ratings of the last sixty days, hold the simulated days.
    begin = datetime.combine(datetime.now(UTC).date(), time(), UTC) - timedelta(days=args.days)
    with tempfile.TemporaryDirectory(prefix="team-mlflow-") as folder, mlflow_server(Path(folder)) as variables:
        variables = {name: variables[name] for name in ("DPO_PORTS__MLFLOW",)}
        one = partial(play, days=args.days, variables=variables, begin=begin)
        found: list[Months] = []
        with ProcessPoolExecutor(2) as pool:
            for months in pool.map(one, range(args.runs)):
                found.append(months)
                say(f"run {months.seed}: at full traffic {months.full_on or 'none'}; {months.statuses}")
    _report(found, args.days)


def _report(found: list[Months], days: int) -> None:
    rows = []
    for name in sorted({name for months in found for name in months.statuses} - {BASELINE}):
        reached = [months.full_on[name] for months in found if name in months.full_on]
        ends = Counter(months.statuses.get(name, "not begun") for months in found)
        rows.append(
            {
                "version": name,
                "at full traffic": f"{len(reached)} of {len(found)}",
                "day, median": median(reached) if reached else None,
                "day, last": max(reached, default=None),
                "at the end": ", ".join(f"{count} {status}" for status, count in ends.most_common()),
            }
        )
    show(f"Eight people, 25 votes and 160 chats a day, {days} days, {len(found)} runs", rows)
    weeks = [fmean(each) for each in zip(*(months.likes_by_week for months in found), strict=True)]
    goals = [
        Goal(f"{name} at full traffic by day {day}, share of runs:", _share(found, name, day), "at least", 0.8)
        for name, day in GOALS.items()
    ]
    report("team_of_eight", goals, {"days": days, "liked_by_week": weeks, "runs": [asdict(each) for each in found]})
    _plot(found, days)


def _share(found: Sequence[Months], name: str, day: float) -> float:
    return sum(months.full_on.get(name, 1e9) <= day for months in found) / len(found)


def _plot(found: Sequence[Months], days: int) -> None:
    def draw(axes: Any) -> None:
        steps = [number / 4 for number in range(4 * days + 1)]
        colors = {"v1.1": plots.BLUE, "v1.2": plots.ORANGE, "v1.3": plots.GREY}
        for name, color in colors.items():
            axes.step(steps, [_share(found, name, day) for day in steps], where="post", color=color, label=name)
        for name, day in GOALS.items():
            axes.plot([day], [0.8], "v", color=colors[name], markersize=9)
        axes.plot([], [], "v", color=plots.INK, linestyle="none", label="goal")
        axes.set_xlim(0, days)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("day")
        axes.set_ylabel(f"share of {len(found)} runs at full traffic")
        axes.legend(frameon=False, fontsize=8, loc="upper left")

    plot("team_of_eight", plots.svg(draw, 7.0, 3.5))


if __name__ == "__main__":
    main()
