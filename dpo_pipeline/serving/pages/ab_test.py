"""The A/B test: a question, two answers side by side, a vote. The page laid out and connected with `ab_clicks`."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from dpo_pipeline.core.questions import OriginFilter
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import Choice, ReasonTag, Strength, VoteReason
from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import RoleRequired
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages import ab_view
from dpo_pipeline.serving.pages.ab_clicks import Clicks
from dpo_pipeline.serving.pages.ab_kept import asked_on, kept_of, restored, unsent_vote
from dpo_pipeline.serving.pages.ab_layout import ANY, BATCHES, layout
from dpo_pipeline.serving.pages.ab_updates import CHOICES, NOTHING_SAID, TYPED, VOTED, Update
from dpo_pipeline.serving.pages.ab_visit import Plan, Visit
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.in_parts import InParts
from dpo_pipeline.serving.pages.person import person_state, pseudonym_of, visitor_of
from dpo_pipeline.serving.pages.polling import QUIET, STREAMED
from dpo_pipeline.serving.pages.theme import notice
from dpo_pipeline.serving.pages.visits import Kept, Visits, reopening
from dpo_pipeline.serving.services.visitors import Visitor

INPUTS = ("more", "first", "second", "origin", "typed", "length", "follow", "strength", "tags", "words", "shown")


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


def build(serving: Callable[[], Serving]) -> None:
    """Lay the page out and connect it."""
    import gradio as gr
    from gradio.context import Context

    clicks, visits, waiting = Clicks(serving), Visits[Visit](), InParts()
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
        clicks.closed(request.session_hash)
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
                    told = await clicks.sent_again(here, visitor_of(serving(), person, here.session, request), vote)
            except DpoError as error:  # the page opens all the same, and can be loaded again
                told, heard = notice(ab_view.trouble(error), error=True), False
        visits.open(kept.tab, request, here)
        here.key = request.session_hash or ""
        asked = "" if here.shown else asked_on(kept.shown)
        update = await clicks.opened(here, "" if begun else kept.draft or asked)
        return named(_news(here, update | ({"notice": told} if told else {}))), heard

    reopening(root, reopened, visit, person, parts["typed"], parts["shown"], outputs)
    parts["more"].change(rest, visit, outputs, **STREAMED)
    root.unload(closed)
    _buttons(clicks, parts, connect)


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
        before = await restored(shown, serving.voting, visitor, newer_than=turn)
        if before and visit.turn == turn:  # nobody has gone on meanwhile
            visit.go_on_from(before)


def _buttons(clicks: Clicks, parts: dict[str, Any], connect: Callable[..., Any]) -> None:
    """What each button sets off."""
    connect(parts["generate"].click, lambda visit, visitor, form: clicks.generate(visit, visitor, form.typed))
    connect(parts["typed"].submit, lambda visit, visitor, form: clicks.generate(visit, visitor, form.typed))
    for trigger in (parts["next"].click, parts["skip"].click):
        connect(trigger, lambda visit, visitor, form: clicks.generate(visit, visitor, ""))
    for trigger in (parts["go_on"].click, parts["follow"].submit):
        connect(trigger, lambda visit, visitor, form: clicks.go_on(visit, visitor, form.follow))
    connect(parts["start"].click, lambda visit, visitor, form: clicks.start_batch(visit, visitor, form.length))
    connect(parts["end"].click, lambda visit, visitor, form: clicks.end_batch(visit, visitor))
    connect(parts["result"].select, lambda visit, visitor, form: clicks.take_back(visit, visitor, form.pressed))
    for choice in CHOICES:
        # `multiple`: Gradio would drop a click that comes before the last one is wholly done, and say nothing.
        options = {"trigger_mode": "multiple", "at_once": (*VOTED, *NOTHING_SAID, "shown", "more")}
        connect(parts[choice].click, partial(_vote, clicks, choice), **options)


def _vote(clicks: Clicks, choice: Choice, visit: Visit, visitor: Visitor, form: Form) -> AsyncGenerator[Update]:
    return clicks.vote(visit, visitor, choice, form.why, form.shown)


def _version(label: str | None) -> str | None:
    return served_name(label) if label and label != ANY else None
