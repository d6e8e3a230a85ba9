"""The A/B test: a question, two answers side by side, a vote. What happens on each click; the flow is `ab_visit`'s."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from dpo_pipeline.core.questions import OriginFilter
from dpo_pipeline.core.versions import iteration, served_name
from dpo_pipeline.core.votes import Choice, ReasonTag, Strength, VoteReason
from dpo_pipeline.errors import AlreadyVoted, DpoError, RoleRequired, TokenRefused, UnknownComparison
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages import ab_view
from dpo_pipeline.serving.pages.ab_kept import Unsent, asked_on, comparison_on, kept_of, restored, unsent_vote
from dpo_pipeline.serving.pages.ab_layout import ANY, BATCHES, layout
from dpo_pipeline.serving.pages.ab_updates import (
    CHOICES,
    NOTHING_SAID,
    TYPED,
    VOTED,
    Update,
    batch_buttons,
    cards,
    changed,
    standing,
    vote_buttons,
)
from dpo_pipeline.serving.pages.ab_visit import Batch, ComparisonFlow, Plan, Visit
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.in_parts import InParts
from dpo_pipeline.serving.pages.person import person_state, pseudonym_of, visitor_of
from dpo_pipeline.serving.pages.polling import QUIET, STREAMED
from dpo_pipeline.serving.pages.select import offering
from dpo_pipeline.serving.pages.theme import notice
from dpo_pipeline.serving.pages.visits import Kept, Visits, reopening
from dpo_pipeline.serving.services.comparing import ComparisonPrompt, PartialView
from dpo_pipeline.serving.services.prefetch import Prefetch
from dpo_pipeline.serving.services.visitors import Visitor

INPUTS = ("more", "first", "second", "origin", "typed", "length", "follow", "strength", "tags", "words", "shown")
SENT_AGAIN = "The connection was lost when you voted. Your vote was sent again."
BEHIND = "Our last answer did not reach this page, so this click does not count as a vote. This is where you are."
EXPIRED = "This comparison can no longer be voted on: it is not known here any more. Press “Next comparison”."


@dataclass(frozen=True)
class Form:
    """What the person filled in, and, of a button within what is shown, what it is about."""

    typed: str
    length: int
    follow: str | None
    why: VoteReason
    shown: str
    pressed: str


Run = Callable[[Visit, Visitor, Form], AsyncGenerator[Update]]


class Page:
    """Handlers of the page's events. Each yields what changes, by the name of the component."""

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


def build(serving: Callable[[], Serving]) -> None:
    """Lay the page out and connect it."""
    import gradio as gr
    from gradio.context import Context

    page, visits, waiting = Page(serving), Visits[Visit](), InParts()
    visit, person = gr.State(Visit()), person_state()
    parts = layout()
    inputs, outputs = [visit, person, *(parts[name] for name in INPUTS)], list(parts.values())

    def connect(trigger: Callable[..., Any], run: Run, at_once: Collection[str] = parts, **options: Any) -> None:
        """What a button sets off.

        Args:
            at_once: what its answer can change; the rest of what changes comes a moment later.
        """

        async def handle(
            visit: Visit,
            person: str,
            more: str,
            first: str,
            second: str,
            origin: OriginFilter,
            typed: str,
            length: str,
            follow: str | None,
            strength: Strength | Literal[""],
            tags: list[ReasonTag],
            words: str | None,
            shown: str,
            request: gr.Request,
            pressed: gr.EventData,
        ) -> dict[Any, Any]:
            try:
                # The server may have started again under an open page.
                await restore(serving(), visit, shown, person, request)
                visit.key = request.session_hash or ""
                visit.session_id = visit.session_id or f"visit-{uuid.uuid4().hex[:12]}"
                visit.plan = Plan(_version(first), _version(second), origin if origin in ab_view.ORIGINS else "mix")
                visitor = visitor_of(serving(), person, visit.session, request)
            except DpoError as error:
                return named(_news(visit, {"result": notice(explained(error), error=True)}))
            there = {"shown": shown, "more": more}
            if any(visit.told.get(name, "") != value for name, value in there.items()):  # our last answer was lost
                visit.told = there
            why = VoteReason(strength or None, tuple(tags), (words or "").strip())
            questions = int(length) if length.isdecimal() else BATCHES[0]
            form = Form(typed, questions, follow, why, shown, str((pressed._data or {}).get("value", "")))
            update, more_comes = await waiting.begun(visit.key, run(visit, visitor, form), lambda: visit.turn)
            filled_in = {"typed": typed, "follow": follow, "strength": strength, "tags": tags, "words": words}
            news = _news(visit, update, {name: value or TYPED[name] for name, value in filled_in.items()})
            visit.later = {name: value for name, value in visit.later.items() if name not in news}
            visit.later |= {name: news.pop(name) for name in news.keys() - set(at_once)}
            if more_comes or visit.later:
                news["more"] = visit.told["more"] = uuid.uuid4().hex
            return named(news)

        trigger(handle, inputs, [parts[name] for name in at_once], **QUIET, **options)

    def named(update: Update) -> dict[Any, Any]:
        return {parts[name]: value for name, value in update.items()} or gr.skip()

    async def rest(visit: Visit, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        later, visit.later = visit.later, {}
        try:
            if later:
                yield named(later)
            async with aclosing(waiting.rest(request.session_hash or "", lambda: visit.turn)) as updates:
                async for update in updates:
                    yield named(_news(visit, update))
        except BaseException:
            visit.told = {}  # who knows what has arrived
            raise

    async def closed(request: gr.Request) -> None:
        page.closed(request.session_hash)
        await waiting.drop(request.session_hash or "")

    root = Context.root_block
    assert root is not None

    async def reopened(kept: Kept, here: Visit, person: Any, request: Any) -> tuple[dict[Any, Any], bool]:
        begun = here.question is not None  # somebody may be quicker than this
        told, heard = "", not begun
        if not begun:
            if before := visits.before(kept.tab, request):
                here.go_on_from(before)
            try:
                with suppress(RoleRequired):  # whoever only looks has nothing to go on from
                    await restore(serving(), here, kept.shown, person, request)
                if vote := unsent_vote(kept.said, here):
                    told = await page.sent_again(here, visitor_of(serving(), person, here.session, request), vote)
            except DpoError as error:  # the page opens all the same, and can be loaded again
                told, heard = notice(ab_view.trouble(error), error=True), False
        visits.open(kept.tab, request, here)
        here.key = request.session_hash or ""
        asked = "" if here.shown else asked_on(kept.shown)
        update = await page.opened(here, "" if begun else kept.draft or asked)
        return named(_news(here, update | ({"notice": told} if told else {}))), heard

    reopening(root, reopened, visit, person, parts["typed"], parts["shown"], outputs)
    parts["more"].change(rest, visit, outputs, **STREAMED)
    root.unload(closed)
    _buttons(page, parts, connect)


def _news(visit: Visit, update: Update, filled_in: Update | None = None) -> Update:
    return visit.news(update | {"shown": kept_of(visit)}, TYPED, filled_in)


async def restore(serving: Serving, visit: Visit, shown: str, person: Any, request: Any) -> None:
    """Go on from what the tab keeps, where that is newer than what is known here, and theirs.

    Raises:
        RoleRequired: as `visitor_of`.
        TooManyRequests, DatabaseUnavailable: not now.
    """
    if shown and pseudonym_of(serving, person, request):
        turn, visitor = visit.turn, visitor_of(serving, person, visit.session, request)
        before = await restored(shown, serving.comparing, visitor, newer_than=turn)
        if before and visit.turn == turn:  # nobody has gone on meanwhile
            visit.go_on_from(before)


def _buttons(page: Page, parts: dict[str, Any], connect: Callable[..., Any]) -> None:
    """What each button sets off."""
    connect(parts["generate"].click, lambda visit, visitor, form: page.generate(visit, visitor, form.typed))
    connect(parts["typed"].submit, lambda visit, visitor, form: page.generate(visit, visitor, form.typed))
    for trigger in (parts["next"].click, parts["skip"].click):
        connect(trigger, lambda visit, visitor, form: page.generate(visit, visitor, ""))
    for trigger in (parts["go_on"].click, parts["follow"].submit):
        connect(trigger, lambda visit, visitor, form: page.go_on(visit, visitor, form.follow))
    connect(parts["start"].click, lambda visit, visitor, form: page.start_batch(visit, visitor, form.length))
    connect(parts["end"].click, lambda visit, visitor, form: page.end_batch(visit, visitor))
    connect(parts["result"].select, lambda visit, visitor, form: page.take_back(visit, visitor, form.pressed))
    for choice in CHOICES:
        # `multiple`: Gradio would drop a click that comes before the last one is wholly done, and say nothing.
        options = {"trigger_mode": "multiple", "at_once": (*VOTED, *NOTHING_SAID, "shown", "more")}
        connect(parts[choice].click, partial(_vote, page, choice), **options)


def _vote(page: Page, choice: Choice, visit: Visit, visitor: Visitor, form: Form) -> AsyncGenerator[Update]:
    return page.vote(visit, visitor, choice, form.why, form.shown)


def _of(choice: Choice, why: VoteReason) -> VoteReason:
    """Nobody is better in a tie: what was picked for the other button does not stand in the way of this one."""
    return why if choice in ab_view.LETTER else VoteReason(words=why.words)


def _choices(served: Sequence[str]) -> list[tuple[str, str]]:
    return [(label, label) for label in (ANY, *(f"chat-{name}" for name in served))]


def _version(label: str | None) -> str | None:
    return served_name(label) if label and label != ANY else None
