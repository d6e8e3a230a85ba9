"""One visit to the A/B page: what is shown, what was voted, and what comes next. Events are `ab_test`'s.

Names of versions stay on the server until the vote; the browser gets text to look at, and what `ab_kept` says.
"""

import time
import uuid
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dpo_pipeline.core.questions import OriginFilter
from dpo_pipeline.core.votes import Choice
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.comparison_views import ComparisonView, Recorded
from dpo_pipeline.serving.services.prefetch import Preparing

SECOND_CLICK_S = 0.3
"""A vote sooner than this after a pair appeared is the second half of a double click: nobody reads that fast."""
REMEMBERED = 20


@dataclass(frozen=True)
class Plan:
    """What the person wants compared: versions by name, or null where the server picks; and on which questions."""

    first: str | None = None
    second: str | None = None
    origin: OriginFilter = "mix"

    def models(self, serving: Serving) -> tuple[str, ...] | None:
        """For `ComparisonPrompt.models`; one name alone meets the champion, the champion meets its challenger."""
        if self.first and self.second:
            return self.first, self.second
        named = self.first or self.second
        if named is None:
            return None
        route = serving.router.route
        other = route.challenger if named == route.champion and route.challenger else FOLLOW_ROLLOUT
        return named, other


@dataclass
class Batch:
    """A batch testing session of n questions."""

    length: int
    session_id: str = field(default_factory=lambda: f"batch-{uuid.uuid4().hex[:12]}")
    votes: list[tuple[Choice, Recorded]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return len(self.votes) >= self.length


@dataclass
class Visit:
    """What one open page knows. Gradio keeps it on the server, by page load.

    `given` is what was voted on last, which may be off the screen already.

    `told` is what the page was told last of components that only this server changes; `later` is what it is still to be
    told, and does not wait for.
    """

    key: str = ""
    session_id: str = ""
    plan: Plan = field(default_factory=Plan)
    question: ComparisonPrompt | None = None
    shown: ComparisonView | None = None
    changed_at: float = 0.0
    voting: bool = False
    voted: tuple[Choice, Recorded] | None = None
    given: ComparisonView | None = None
    batch: Batch | None = None
    offered: tuple[str, ...] = ()
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    prepared: ComparisonPrompt | None = None
    writing: Preparing | None = None
    turn: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)

    def go_on_from(self, before: "Visit") -> None:
        """With a copy of what another load of the page showed: what was begun for that one is nothing to this."""
        batch = replace(before.batch, votes=list(before.batch.votes)) if before.batch else None
        recent = deque(before.recent, maxlen=REMEMBERED)
        own: dict[str, Any] = {
            "batch": batch,
            "recent": recent,
            "prepared": None,
            "writing": None,
            "voting": False,
            "offered": (),
            "told": {},
            "later": {},
        }
        vars(self).update(vars(before) | own)

    def news(
        self, update: Mapping[str, Any], typed: Collection[str], filled_in: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Of an update, what the page does not show already: each component that changes costs it a millisecond or two.

        Args:
            typed: components that people fill in; the others only this server changes.
            filled_in: what stands in these now, as far as it is known.
        """
        shown = {**self.told, **(filled_in or {})}
        fresh = {name: value for name, value in update.items() if name not in shown or shown[name] != value}
        self.told |= {name: value for name, value in update.items() if name not in typed}
        return fresh

    @property
    def in_batch(self) -> bool:
        return self.batch is not None and not self.batch.over

    @property
    def conversation(self) -> list[dict[str, str]] | None:
        """What a follow-up question goes on from: all that was said, and the answer that won, in a tie that on the
        left; what a follow-up without answers went on from. Null where nothing can: before the vote, or when both
        answers are bad, or the vote was a slip.
        """
        if self.shown is None and self.question and isinstance(self.question.prompt, list):
            return self.question.prompt[:-1] or None
        if self.shown is None or self.voted is None or self.voted[0] == "both_bad" or self.voted[1].withdrawn:
            return None
        answer = self.shown.right if self.voted[0] == "right" else self.shown.left
        said, prompt = {"role": "assistant", "content": answer}, self.shown.prompt
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return [*turns, said] if answer.strip() else None

    @property
    def just_changed(self) -> bool:
        """Within a double click's time: nobody reads that fast."""
        return time.monotonic() - self.changed_at < SECOND_CLICK_S

    @property
    def session(self) -> str:
        return self.batch.session_id if self.batch else self.session_id
