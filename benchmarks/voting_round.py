"""One round of votes by simulated people on a small, real model, and the pairs of them that count."""

import random
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from inputs import baseline, settings_for

from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.matchmaking import PairTally
from dpo_pipeline.core.prompt_choice import by_kind, kinds, ratios
from dpo_pipeline.core.quality import ValidationHistory, validate, vote_features
from dpo_pipeline.core.questions import Question, least_covered, split_bank
from dpo_pipeline.core.votes import Preference, Sampling, outcome
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.settings import Settings
from dpo_pipeline.simulation.people import Person, choose, make_person
from dpo_pipeline.stores.bank import read_bank

VOTES, PEOPLE, AT_ONCE = 100, 60, 10


@dataclass(frozen=True)
class Arm:
    """One way to run the loop; what it leaves out is as the settings say."""

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    uniform: bool = False
    worth_share: float = 0.0


@dataclass
class World:
    """What all arms and seeds share: the model, the people, the questions."""

    settings: Settings
    base: BaseModel
    start: train_process.ProcessResult
    generator: Generator
    asked: list[Question]
    held_out: list[Question]
    samples: int

    def load(self, result: train_process.ProcessResult) -> str:
        self.generator.load(result.adapter_sha, Path(result.adapter_dir))
        return result.adapter_sha

    def answers(
        self, wanted: Sequence[tuple[Question, str]], seed: int, warm: Container[int] = frozenset(), first: int = 0
    ) -> list[str]:
        """One answer for each (question, adapter), as production gives them; warmer at the places of `warm`.

        Args:
            first: the number of the first answer, of all that are drawn by this seed.
        """
        collection, generation = self.settings.collection, self.settings.generation
        requests = [
            GenerationRequest(
                messages=(("user", question.question),),
                adapter=adapter,
                temperature=(collection if number in warm else generation).temperature,
                top_p=(collection if number in warm else generation).top_p,
                max_tokens=self.settings.model.max_new_tokens,
                seed=seed * 100_003 + first + number,
            )
            for number, (question, adapter) in enumerate(wanted)
        ]
        texts: list[str] = []
        for begin in range(0, len(requests), 128):
            texts += [answer.text for answer in self.generator.generate(requests[begin : begin + 128])]
        return texts


@cache
def make_world(data_dir: str | None, samples: int) -> World:
    """With base model and v1.0, built where they are not here yet; v1.0 is loaded."""
    settings = settings_for(data_dir)
    base, start = baseline(settings)
    asked, held_out = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    world = World(settings, base, start, Generator(base, settings.model), asked, held_out, samples)
    world.load(start)
    return world


def collect(world: World, arm: Arm, newest: str, parent: str, seed: int, turn: int) -> list[Preference]:
    """A hundred votes, by one of the people each: on questions of the category covered least, or as the arm has it."""
    draw = random.Random(f"{seed}:{turn}")
    people = [make_person(f"voter-{number}", seed) for number in range(PEOPLE)]
    asked = [question.question for question in world.asked]
    kind_of = dict(zip(asked, kinds(asked), strict=True)) if arm.worth_share else {}
    step = AT_ONCE if arm.worth_share else VOTES
    counts: Counter[str] = Counter()
    votes: list[Preference] = []
    for first in range(0, VOTES, step):
        # In the first round both answers are of one version, and neither is the newer.
        given = Counter(str(vote.prompt) for vote in votes if vote.vote != "both_bad")
        tallies = by_kind(kind_of, {prompt: PairTally(count, count / 2) for prompt, count in given.items()})
        weights = ratios(list(kind_of.values()), tallies, arm.worth_share) or None
        chosen: list[Question] = []
        for _ in range(step):
            category = least_covered(counts)
            pool = [each for each in world.asked if weights or arm.uniform or each.category == category]
            chosen.append(draw.choices(pool, weights)[0] if weights else draw.choice(pool))
            counts[chosen[-1].category] += 1
        versions = [(newest, parent if number % 2 else newest) for number in range(step)]
        wanted = [(question, name) for question, pair in zip(chosen, versions, strict=True) for name in pair]
        warm = {place for place in range(2 * step) if versions[place // 2][0] == versions[place // 2][1]}
        texts = world.answers(wanted, seed * 10 + turn, warm, first=2 * first)
        for question, a, b in zip(chosen, texts[::2], texts[1::2], strict=True):
            votes.append(_vote(question, a, b, draw.choice(people), draw, f"{seed}-{turn}-{len(votes)}"))
    return votes


def _vote(question: Question, a: str, b: str, person: Person, draw: random.Random, name: str) -> Preference:
    left = draw.choice("ab")
    choice = choose(person, question, *((a, b) if left == "a" else (b, a)), draw)
    vote: Any = choice if choice in ("tie", "both_bad") else left if choice == "left" else "ba"[left == "b"]
    won, lost, won_model, lost_model = outcome(vote, a, b, "v1.0", "v1.1")
    return Preference(
        event_id=name,
        recorded_at="2026-01-01T00:00:00Z",
        comparison_id=name,
        session_id="study",
        prompt=question.question,
        category=question.category,  # type: ignore[arg-type]
        model_a="v1.0",
        model_b="v1.1",
        response_a=a,
        response_b=b,
        vote=vote,
        chosen=won,
        rejected=lost,
        chosen_model=won_model,
        rejected_model=lost_model,
        left=left,  # type: ignore[arg-type]
        annotator=person.name,
        source="simulated",
        sampling=Sampling(),
    )


def valid_pairs(votes: Sequence[Preference], settings: Settings) -> list[Pair]:
    """What the quality criteria leave of these votes, in their order."""
    memory = ValidationHistory()
    return [
        Pair(
            event_id=vote.event_id,
            prompt=vote.prompt,
            chosen=str(vote.chosen),
            rejected=str(vote.rejected),
            category=vote.category,
            source=vote.source,
        )
        for vote in votes
        if not validate(vote_features(vote, settings.quality), settings.quality, memory)
    ]
