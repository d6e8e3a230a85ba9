"""What happens on each click of the A/B page. Each handler yields what changes, by the name of the component; the flow
is `ab_visit`'s.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Literal

from dpo_pipeline.core.versions import iteration
from dpo_pipeline.core.votes import Choice, VoteReason
from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import AlreadyVoted, TokenRefused, UnknownComparison
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages import ab_view
from dpo_pipeline.serving.pages.ab_flow import ComparisonFlow
from dpo_pipeline.serving.pages.ab_kept import Unsent, comparison_on
from dpo_pipeline.serving.pages.ab_layout import ANY, BATCHES
from dpo_pipeline.serving.pages.ab_updates import (
    NOTHING_SAID,
    Update,
    batch_buttons,
    cards,
    changed,
    standing,
    vote_buttons,
)
from dpo_pipeline.serving.pages.ab_visit import Batch, Visit
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.select import offering
from dpo_pipeline.serving.pages.theme import notice
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.comparison_views import PartialView
from dpo_pipeline.serving.services.prefetch import Prefetch
from dpo_pipeline.serving.services.visitors import Visitor

SENT_AGAIN = "The connection was lost when you voted. Your vote was sent again."
BEHIND = "Our last answer did not reach this page, so this click does not count as a vote. This is where you are."
EXPIRED = "This comparison can no longer be voted on: it is not known here any more. Press “Next comparison”."


class Clicks:
    def __init__(self, serving: Callable[[], Serving]):
        self._serving = serving
        self._prefetch = Prefetch()
        self._desk = ComparisonFlow(serving, self._prefetch)

    async def opened(self, visit: Visit, draft: str) -> Update:
        """The page as it was before a reload; at first sight, with what can be chosen."""
        chosen = {"first": visit.plan.first, "second": visit.plan.second}
        update = await self._around(visit)
        for name, version in chosen.items():
            if version in visit.offered:
                update[name] = offering(_choices(visit.offered), f"chat-{version}")
        update |= {
            "origin": offering(chosen=visit.plan.origin),
            **({"typed": draft} if draft else {}),
            **standing(visit),
        }
        return update

    async def sent_again(self, visit: Visit, visitor: Visitor, vote: Unsent) -> str:
        """A vote to which no answer came is sent once more: the comparison takes one, whoever it reached."""
        recorded = await self._desk.vote(visit, visitor, vote.choice, _of(vote.choice, vote.why))
        return notice(SENT_AGAIN) if recorded else ""

    def closed(self, key: str | None) -> None:
        """The tab is gone: nobody comes for what was prepared."""
        self._prefetch.drop(key or "")

    async def generate(self, visit: Visit, visitor: Visitor, text: str) -> AsyncGenerator[Update]:
        """A comparison at the person's wish, of a typed question or of one that is drawn."""
        if visit.batch and visit.batch.over:
            visit.batch = None
        async for update in self._show(visit, visitor, "typed", text):
            yield update

    async def go_on(self, visit: Visit, visitor: Visitor, text: str | None) -> AsyncGenerator[Update]:
        """Two models answer the next message of the conversation; without one nothing happens."""
        if visit.batch and visit.batch.over:
            visit.batch = None
        if (text or "").strip():
            async for update in self._show(visit, visitor, "follow", text):
                yield update

    async def start_batch(self, visit: Visit, visitor: Visitor, length: int) -> AsyncGenerator[Update]:
        visit.batch = Batch(length if length in BATCHES else BATCHES[0])
        async for update in self._show(visit, visitor):
            yield update

    async def end_batch(self, visit: Visit, visitor: Visitor) -> AsyncGenerator[Update]:
        """Stop before the end; what was voted stays, and so does the pair on screen."""
        batch, visit.batch = visit.batch, None
        if batch:
            batch.length = len(batch.votes)
        summary = ab_view.batch_line(batch, True) if batch and batch.votes else ""
        yield {"batch": summary, **batch_buttons(False)}

    async def vote(
        self, visit: Visit, visitor: Visitor, choice: Choice, why: VoteReason, shown: str
    ) -> AsyncGenerator[Update]:
        """Record, reveal, and in a batch testing session go on at once.

        Args:
            shown: what the tab keeps of the pair on its screen, which is another one where our last answer was lost.
        """
        if visit.voting or visit.just_changed:
            return
        if visit.question is None:
            yield {"notice": notice(EXPIRED, error=True), **vote_buttons(False), "next": changed(visible=True)}
            return
        if visit.shown is None:  # the page never came for the rest of the pair
            async for update in self._show(visit, visitor, opening={"notice": notice(BEHIND)}, asked=visit.question):
                yield update
            return
        if visit.voted or visit.shown.comparison_id != comparison_on(shown):
            yield {"notice": notice(BEHIND), **standing(visit)}
            return
        pair = visit.shown
        try:
            recorded = await self._desk.vote(visit, visitor, choice, _of(choice, why))
        except DpoError as error:
            told = notice(ab_view.trouble(error), error=True)
            lost = isinstance(error, TokenRefused | UnknownComparison | AlreadyVoted)
            yield {"notice": told, **vote_buttons(not lost), "next": changed(visible=lost)}
            return
        if recorded is None:
            return
        if visit.shown is not pair:  # somebody went on to another one meanwhile
            yield await self._around(visit)
            return
        revealed = {"result": ab_view.result(visit), "notice": "", **NOTHING_SAID, **await self._around(visit)}
        if visit.batch and not visit.batch.over:
            async for update in self._show(visit, visitor, opening=revealed):
                yield update
            return
        yield {
            **revealed,
            **cards(visit, visit.shown),
            "batch": ab_view.batch_line(visit.batch, True),
            **vote_buttons(False),
            **batch_buttons(False),
            "next": changed(visible=True),
            "further": changed(visible=visit.conversation is not None),
        }

    async def take_back(self, visit: Visit, visitor: Visitor, comparison_id: str) -> AsyncGenerator[Update]:
        """The vote on this was a slip."""
        try:
            known = await self._desk.take_back(visit, visitor, comparison_id)
        except DpoError as error:
            yield {"notice": notice(explained(error), error=True)}
            return
        if not known:
            yield {"notice": notice(BEHIND), **standing(visit)}
            return
        voted = visit.voted is not None
        yield {
            "notice": "",
            "result": ab_view.TAKEN_BACK,
            "further": changed(visible=False),
            "batch": ab_view.batch_line(visit.batch, voted),
            **await self._around(visit),
        }

    async def _show(
        self,
        visit: Visit,
        visitor: Visitor,
        field: Literal["typed", "follow"] = "typed",
        text: str | None = "",
        opening: Update | None = None,
        asked: ComparisonPrompt | None = None,
    ) -> AsyncGenerator[Update]:
        """The next pair as it grows. What `opening` says goes out with the first sight of it.

        Args:
            field: where the question was typed; without a text one is drawn.
            asked: a question that is there already.
        """
        opening = {"notice": "", "result": ""} if opening is None else opening
        running, on_screen = visit.batch is not None, None
        if text := (text or "").strip():
            opening[field] = ""
            asked = (self._desk.follow_up if field == "follow" else self._desk.typed)(visit, text)
        opening |= vote_buttons(False, skip=True) | batch_buttons(running) | {"next": changed(visible=False)}
        # What was said of one pair does not go with the vote on another.
        opening |= {"further": changed(visible=False), **NOTHING_SAID}
        try:
            async for event in self._desk.show(visit, visitor, asked):
                if opening:
                    opening |= {"batch": ab_view.batch_line(visit.batch, False)}
                if visit.question is not on_screen:  # another, where the answers to the first were equal
                    on_screen, opening["question"] = visit.question, ab_view.question(visit)
                update, opening = {**opening, **cards(visit, event)}, {}
                if not isinstance(event, PartialView):
                    update |= vote_buttons(True)
                yield update
        except DpoError as error:
            told = notice(ab_view.trouble(error), error=True)
            kept = {field: text, "further": changed(visible=field == "follow")} if text else {}
            none = {**cards(visit, None), **vote_buttons(False), "next": changed(visible=not text)}
            yield {**opening, "notice": told, **none, **kept}

    async def _around(self, visit: Visit) -> Update:
        """Progress and coverage; the choice of versions where it has changed."""
        serving = self._serving()
        tally = await asyncio.to_thread(serving.tally.refresh)
        target, zone = serving.settings.collection.daily_target, serving.settings.time_zone
        update: Update = {"progress": ab_view.progress(tally.today, target, tally.categories, zone)}
        served = tuple(sorted(serving.engine.models, key=iteration))
        if served != visit.offered:
            visit.offered = served
            update |= {name: offering(_choices(served)) for name in ("first", "second")}
        return update


def _of(choice: Choice, why: VoteReason) -> VoteReason:
    """Nobody is better in a tie: what was picked for the other button does not stand in the way of this one."""
    return why if choice in ab_view.LETTER else VoteReason(words=why.words)


def _choices(served: Sequence[str]) -> list[tuple[str, str]]:
    return [(label, label) for label in (ANY, *(f"chat-{name}" for name in served))]
