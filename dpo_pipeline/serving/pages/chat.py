"""Talk to the version that the rollout gives this person; judge its answers, correct them, ask otherwise or again."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from dpo_pipeline.errors import DpoError
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.chat_kept import JUDGED, corrects, digest, unsent_feedback
from dpo_pipeline.serving.pages.chat_layout import LONGEST, STARS, ChatLayout
from dpo_pipeline.serving.pages.chat_restore import missing, restore
from dpo_pipeline.serving.pages.chat_view import COPY, EDIT, JUDGE, THUMBS, conversation_html
from dpo_pipeline.serving.pages.conversation import Conversation, Turn
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markup import notice
from dpo_pipeline.serving.pages.person import person_state, visitor_of
from dpo_pipeline.serving.pages.polling import QUIET, STREAMED
from dpo_pipeline.serving.pages.visits import Kept, Visits, keeping_presses, reopening
from dpo_pipeline.serving.services.keeping import asking

SAME_AGAIN = "The answer is the same again. Ask in other words for another one."
SENT_AGAIN = "The connection was lost when you said what you think of an answer. It was sent again, and is recorded."
EDITING = (
    "Editing an earlier message: sending it replaces that message and everything after it. Choose Edit again to leave "
    "it as it is."
)
PLACE = """place: Number(document.querySelector("#chat-judged [data-turn]").dataset.turn)"""
PRESSES = keeping_presses(
    {f"chat-rating-{stars}": f"{{rating: {stars}, {PLACE}}}" for stars in range(1, len(STARS) + 1)}
    | {"chat-save": f"""{{correction: document.querySelector("#chat-correction textarea").value, {PLACE}}}"""}
)


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    ui, visits = ChatLayout(gr), Visits[Conversation]()
    person, talk = person_state(), gr.State(Conversation())
    ask, again = _answering(ui, serving)
    saying, correct = _judging(ui, serving)
    pressed = _pressing(ui, serving)

    async def stopped(talk: Conversation, person: Any, kept: str, request: gr.Request) -> dict[Any, Any]:
        if trouble := await missing(serving(), talk, kept, person, request):
            return {ui.told: notice(trouble, trouble=True)}
        if stopped := talk.stop():
            serving().feedback.stopping(stopped, visitor_of(serving(), person, talk.named(), request))
        return ui.rest(talk, "Stopped.")

    def start_again(talk: Conversation) -> tuple[Any, ...]:
        talk.forget()
        return talk, *ui.in_order(ui.rest(talk))

    async def reopened(kept: Kept, talk: Conversation, person: Any, request: Any) -> tuple[dict[Any, Any], bool]:
        if talk.asks:  # somebody was quicker than this
            visits.open(kept.tab, request, talk)
            return {ui.told: gr.skip()}, False
        if before := visits.before(kept.tab, request):
            talk.go_on_from(before)
        told, trouble = "" if talk.editing is None else EDITING, False
        try:
            await restore(serving(), talk, kept.shown, person, request)
            for turn, given in unsent_feedback(kept.said, talk):
                if refused := await asking(_said, serving(), turn, talk, person, request, **given):
                    told, trouble = refused, True
                elif not trouble:
                    told = SENT_AGAIN
        except DpoError as error:  # the page opens all the same, and can be loaded again
            told, trouble = explained(error), True
        visits.open(kept.tab, request, talk)
        update = ui.rest(talk, told, trouble, fresh=True)
        return update | {ui.question: kept.draft or talk.unsent or gr.skip()}, not trouble

    blocks = gr.context.Context.root_block
    assert blocks is not None, "called inside the page's gr.Blocks context"
    reopening(blocks, reopened, talk, person, ui.question, ui.kept, ui.outputs)
    # A question sent while an answer is written waits for its end: by Gradio's default that Enter would be lost.
    asked = gr.on(
        [ui.question.submit, ui.send.click], ask, [ui.question, talk, person, ui.kept], ui.outputs,
        trigger_mode="always_last", **STREAMED,
    )  # fmt: skip
    there = [talk, person, ui.kept]
    repeated = ui.again.click(again, there, ui.outputs, **STREAMED)
    under_way = [asked, repeated]
    ui.stop.click(stopped, there, ui.outputs, cancels=under_way, **QUIET)
    ui.start_again.click(start_again, talk, [talk, *ui.outputs], cancels=under_way, **QUIET)
    ui.chat.select(pressed, there, ui.outputs, **QUIET)
    for stars, button in enumerate(ui.stars, start=1):
        rate = saying(f"your rating of {stars} of 5", rating=stars)
        button.click(rate, there, ui.outputs, **QUIET)
    ui.save.click(correct, [ui.correction, *there], ui.told, **QUIET)


def _answering(ui: ChatLayout, serving: Callable[[], Serving]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What happens when somebody asks, and when they ask for another answer to the same."""
    import gradio as gr

    async def answer(
        question: str, talk: Conversation, person: Any, request: gr.Request, place: int | None, again: bool = False
    ) -> AsyncGenerator[dict[Any, Any]]:
        kept = {ui.question: gr.skip()} if again else {}  # somebody may be typing the next one
        before = talk.last.text if again and talk.last else None
        try:
            visitor = visitor_of(serving(), person, talk.named(), request)
            async with aclosing(talk.ask(serving().chats, question[:LONGEST], visitor, place, again)) as steps:
                await anext(steps)
                asks = talk.asks
                yield ui.begin(talk) | kept
                async for _ in steps:
                    yield {ui.chat: conversation_html(talk)}
            if talk.asks == asks and talk.last:  # else it was stopped, and the page says so
                yield ui.rest(talk, SAME_AGAIN if talk.last.text == before else "", fresh=True)
        except DpoError as error:
            yield ui.rest(talk, _advice(error, talk), trouble=True) | ({} if again else {ui.question: question})

    async def ask(
        question: str, talk: Conversation, person: Any, kept: str, request: gr.Request
    ) -> AsyncGenerator[dict[Any, Any]]:
        try:
            await restore(serving(), talk, kept, person, request)  # the server may have started again under the page
        except DpoError as error:
            yield ui.rest(talk, explained(error), trouble=True) | {ui.question: question}
            return
        if not question.strip() or talk.growing is not None:
            yield ui.rest(talk, "" if talk.growing is None else "One answer at a time: wait, or stop the one above.")
            return
        if talk.editing is None and talk.last:
            # Nobody was asked: what cannot be kept of it is nothing to trouble somebody with who has a question.
            await asking(_said, serving(), talk.last, talk, person, request, action="follow_up")
        async with aclosing(answer(question, talk, person, request, talk.editing)) as steps:
            async for changes in steps:
                yield changes

    async def again(talk: Conversation, person: Any, kept: str, request: gr.Request) -> AsyncGenerator[dict[Any, Any]]:
        if trouble := await missing(serving(), talk, kept, person, request):
            yield {ui.told: notice(trouble, trouble=True)}
            return
        if trouble := await asking(_said, serving(), talk.last, talk, person, request, action="regenerate"):
            yield ui.rest(talk, trouble, trouble=True)
            return
        assert talk.last_question is not None
        question, place = talk.said[talk.last_question].text, talk.last_question
        async with aclosing(answer(question, talk, person, request, place, again=True)) as steps:
            async for changes in steps:
                yield changes

    return ask, again


def _judging(ui: ChatLayout, serving: Callable[[], Serving]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What happens when somebody says how good an answer is, and when they correct it: the last, or the one chosen."""
    import gradio as gr

    def saying(told: str, **given: Any) -> Callable[..., Any]:
        [signal] = given

        async def say(talk: Conversation, person: Any, kept: str, request: gr.Request) -> dict[Any, Any]:
            if trouble := await missing(serving(), talk, kept, person, request):
                return {ui.told: notice(trouble, trouble=True)}
            turn = talk.to_judge
            if turn and signal in turn.judged:
                return ui.rest(talk)
            if trouble := await asking(_said, serving(), turn, talk, person, request, **given):
                return ui.rest(talk, trouble, trouble=True)
            return ui.rest(talk, f"Thank you: {told} is recorded.")

        return say

    async def correct(text: str, talk: Conversation, person: Any, kept: str, request: gr.Request) -> dict[Any, Any]:
        if trouble := await missing(serving(), talk, kept, person, request):
            return {ui.told: notice(trouble, trouble=True)}
        turn = talk.to_judge
        if not (turn and corrects(text, turn)):
            return {ui.told: notice("Nothing was saved: change the text to the answer you would have wanted.")}
        if trouble := await asking(_said, serving(), turn, talk, person, request, correction=text[:LONGEST]):
            return {ui.told: notice(trouble, trouble=True)}
        return {ui.told: notice("Thank you: your answer is stored as an example to learn from.")}

    return saying, correct


def _pressing(ui: ChatLayout, serving: Callable[[], Serving]) -> Callable[..., Any]:
    """What happens when somebody presses a button beside a turn: a thumb, a copy, an edit."""
    import gradio as gr

    async def pressed(
        talk: Conversation, person: Any, kept: str, request: gr.Request, chosen: gr.SelectData
    ) -> dict[Any, Any]:
        if trouble := await missing(serving(), talk, kept, person, request):
            return {ui.told: notice(trouble, trouble=True)}
        place, act = chosen.index, chosen.value
        if not isinstance(place, int) or not 0 <= place < len(talk.said) or talk.growing is not None:
            return {ui.told: gr.skip()}
        turn = talk.said[place]
        if act == EDIT and turn.version is None:
            talk.editing = None if talk.editing == place else place
            return ui.rest(talk, "" if talk.editing is None else EDITING) | {
                ui.question: gr.update(value="" if talk.editing is None else turn.text)
            }
        if act == JUDGE and turn.request_id:
            talk.judging = place
            return ui.rest(talk, fresh=True)
        if act == COPY and turn.request_id:
            await asking(_said, serving(), turn, talk, person, request, action="copy")  # it is copied all the same
        elif act in THUMBS and "thumb" not in turn.judged:
            if trouble := await asking(_said, serving(), turn, talk, person, request, thumb=act):
                return ui.rest(talk, trouble, trouble=True)
            return ui.rest(talk, "Thank you: your opinion is recorded.")
        return {ui.told: gr.skip()}

    return pressed


def _said(serving: Serving, turn: Turn | None, talk: Conversation, person: Any, request: Any, **given: Any) -> str:
    """Keep what somebody says of an answer; returns why that cannot be, else nothing."""
    if turn is None or turn.request_id is None:
        return "There is no complete answer to comment on. Ask something first."
    try:
        serving.feedback.give(turn.request_id, visitor_of(serving, person, talk.named(), request), **given)
    except DpoError as error:
        return explained(error)
    judged = {name: digest(value) if name == "correction" else value for name, value in given.items()}
    turn.judged.update({name: value for name, value in judged.items() if name in JUDGED})
    return ""


def _advice(error: DpoError, talk: Conversation) -> str:
    """What failed and what to do; the message itself says it, but for what only this page can do."""
    too_long = "fit (model.max_length)" in str(error) and talk.said
    return "This conversation is longer than the model can read. Start a new one." if too_long else explained(error)
