"""Talk to the version that the rollout gives this person; judge its answers, correct them, or ask for another."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from dpo_pipeline.core.feedback import DOWN, UP
from dpo_pipeline.errors import DpoError
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.conversation import Conversation
from dpo_pipeline.serving.pages.markdown import TOGGLE, as_it_is, formatted
from dpo_pipeline.serving.pages.markup import Markup, notice, page, paragraph, text
from dpo_pipeline.serving.pages.person import person_state, visitor_of
from dpo_pipeline.serving.pages.polling import QUIET, STREAMED

THUMBS = {UP: "Good answer", DOWN: "Bad answer"}
STARS = ("1 · poor", "2", "3", "4", "5 · very good")
EMPTY = "No messages yet: ask something below. You are talking to the model in production."
LONGEST = 8_000


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    ui = _Layout(gr)
    person, talk = person_state(), gr.State(Conversation())
    ask, again = _answering(ui, serving)
    saying, correct = _judging(ui, serving)

    def stopped(talk: Conversation) -> dict[Any, Any]:
        talk.end_turn()
        return ui.rest(talk, "Stopped.")

    def start_again(talk: Conversation) -> tuple[Any, ...]:
        fresh = Conversation(talk.session_id)
        return fresh, *ui.in_order(ui.rest(fresh))

    # A question sent while an answer is written waits for its end: by Gradio's default that Enter would be lost.
    asked = gr.on(
        [ui.question.submit, ui.send.click], ask, [ui.question, talk, person], ui.outputs,
        trigger_mode="always_last", **STREAMED,
    )  # fmt: skip
    repeated = ui.again.click(again, [talk, person], ui.outputs, **STREAMED)
    under_way = [asked, repeated]
    ui.stop.click(stopped, talk, ui.outputs, cancels=under_way, **QUIET)
    ui.start_again.click(start_again, talk, [talk, *ui.outputs], cancels=under_way, **QUIET)
    for thumb, button in ui.thumbs.items():
        button.click(saying("your opinion", thumb=thumb), [talk, person], ui.outputs, **QUIET)
    for stars, button in enumerate(ui.stars, start=1):
        button.click(saying(f"your rating of {stars} of 5", rating=stars), [talk, person], ui.outputs, **QUIET)
    ui.save.click(correct, [ui.correction, talk, person], ui.told, **QUIET)


def _answering(ui: "_Layout", serving: Callable[[], Serving]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What happens when somebody asks, and when they ask for another answer to the same."""
    import gradio as gr

    async def answer(
        question: str, talk: Conversation, person: Any, request: gr.Request, instead: bool
    ) -> AsyncGenerator[dict[Any, Any]]:
        kept = {ui.question: gr.skip()} if instead else {}  # somebody may be typing the next one
        try:
            visitor = visitor_of(serving(), person, talk.named(), request)
            async with aclosing(talk.ask(serving().chats, question[:LONGEST], visitor, instead)) as steps:
                await anext(steps)
                yield ui.begin(talk) | kept
                async for _ in steps:
                    yield {ui.chat: _conversation(talk)}
            yield ui.rest(talk)
        except DpoError as error:
            yield ui.rest(talk, _advice(error, talk), trouble=True) | ({} if instead else {ui.question: question})

    async def ask(
        question: str, talk: Conversation, person: Any, request: gr.Request
    ) -> AsyncGenerator[dict[Any, Any]]:
        if not question.strip() or talk.growing is not None:
            yield ui.rest(talk, "" if talk.growing is None else "One answer at a time: wait, or stop the one above.")
            return
        async with aclosing(answer(question, talk, person, request, instead=False)) as steps:
            async for changes in steps:
                yield changes

    async def again(talk: Conversation, person: Any, request: gr.Request) -> AsyncGenerator[dict[Any, Any]]:
        if trouble := _said(serving(), talk, person, request, action="regenerate"):
            yield ui.rest(talk, trouble, trouble=True)
            return
        async with aclosing(answer(talk.last_question, talk, person, request, instead=True)) as steps:
            async for changes in steps:
                yield changes

    return ask, again


def _judging(ui: "_Layout", serving: Callable[[], Serving]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What happens when somebody says how good the last answer is, and when they correct it."""
    import gradio as gr

    def saying(told: str, **given: Any) -> Callable[..., dict[Any, Any]]:
        [signal] = given

        def say(talk: Conversation, person: Any, request: gr.Request) -> dict[Any, Any]:
            if signal in talk.judged:
                return ui.rest(talk)
            if trouble := _said(serving(), talk, person, request, **given):
                return ui.rest(talk, trouble, trouble=True)
            talk.judged.add(signal)
            return ui.rest(talk, f"Thank you: {told} is recorded.")

        return say

    def correct(text: str, talk: Conversation, person: Any, request: gr.Request) -> dict[Any, Any]:
        if not text.strip() or text.strip() == talk.last_answer.strip():
            return {ui.told: notice("Nothing was saved: change the text to the answer you would have wanted.")}
        if trouble := _said(serving(), talk, person, request, correction=text[:LONGEST]):
            return {ui.told: notice(trouble, trouble=True)}
        return {ui.told: notice("Thank you: your answer is stored as an example to learn from.")}

    return saying, correct


def _said(serving: Serving, talk: Conversation, person: Any, request: Any, **given: Any) -> str:
    """Keep what somebody says of the last answer; returns why that cannot be, else nothing."""
    if talk.request_id is None:
        return "There is no complete answer to comment on. Ask something first."
    try:
        serving.feedback.give(talk.request_id, visitor_of(serving, person, talk.named(), request), **given)
    except DpoError as error:
        return str(error)
    return ""


class _Layout:
    """The components, and what they show at rest and while an answer is written."""

    def __init__(self, gr: Any):
        # Our own markup: Gradio's chatbot shows harmless tags of an answer, and an image asks another server.
        self.chat = gr.HTML(
            _conversation(Conversation()), min_height=220, max_height="min(46vh, 34rem)", autoscroll=True,
            container=True, padding=True, elem_id="conversation",
        )  # fmt: skip
        with gr.Row():
            self.question = gr.Textbox(
                label="Your message", placeholder="Type, then press Enter", lines=1, max_lines=8, max_length=LONGEST,
                scale=5, min_width=220, autofocus=True, elem_id="message",
            )  # fmt: skip
            with gr.Column(scale=1, min_width=110):
                self.send = gr.Button("Send", variant="primary")
                self.stop = gr.Button("Stop", visible=False)
                self.start_again = gr.Button("New conversation", size="sm")
        gr.HTML(page(TOGGLE))
        self.told = gr.HTML(page(), elem_id="told")
        with gr.Column(visible=False) as self.feedback:
            gr.HTML(page(paragraph("How good was the last answer?")))
            with gr.Row():
                self.thumbs = {thumb: gr.Button(name, size="sm", min_width=110) for thumb, name in THUMBS.items()}
                self.again = gr.Button("Answer again", size="sm", min_width=110)
            with gr.Row():
                self.stars = tuple(gr.Button(star, size="sm", min_width=56) for star in STARS)
            with gr.Accordion("Correct this answer", open=False):
                self.correction = gr.Textbox(
                    label="The answer you would have wanted", lines=4, max_lines=16, max_length=LONGEST
                )
                self.save = gr.Button("Save correction", size="sm")
        self._gr = gr
        self._state = [self.chat, self.question, self.send, self.stop, self.told, self.feedback]
        self.outputs = [*self._state, *self.thumbs.values(), *self.stars, self.correction]

    def begin(self, talk: Conversation) -> dict[Any, Any]:
        """While an answer is written."""
        gr = self._gr
        return {
            self.chat: _conversation(talk),
            self.question: "",
            self.send: gr.update(visible=False),
            self.stop: gr.update(visible=True),
            self.told: page(),
            self.feedback: gr.update(visible=False),
        }

    def rest(self, talk: Conversation, told: str = "", trouble: bool = False) -> dict[Any, Any]:
        """When nothing is under way. Only a whole answer can be rated and corrected."""
        gr, whole = self._gr, talk.request_id is not None
        changes = {
            self.chat: _conversation(talk),
            self.send: gr.update(visible=True),
            self.stop: gr.update(visible=False),
            self.told: notice(told, trouble),
            self.feedback: gr.update(visible=whole),
            self.correction: gr.skip() if talk.judged else gr.update(value=talk.last_answer),
        }
        for signal, buttons in (("thumb", self.thumbs.values()), ("rating", self.stars)):
            changes |= {button: gr.update(interactive=signal not in talk.judged) for button in buttons}
        return changes

    def in_order(self, changes: dict[Any, Any]) -> list[Any]:
        """Of every output, for handlers that return a tuple."""
        return [changes.get(part, self._gr.skip()) for part in self.outputs]


def _conversation(talk: Conversation) -> str:
    """Everything that was said; the version that answered stands small under its answer."""
    if not talk.said:
        return page(paragraph(EMPTY, "muted"))
    turns = [_turn(turn.text, turn.version, "" if turn.whole else ", stopped") for turn in talk.said]
    if talk.growing is not None:
        turns.append(_growing(talk.growing or "…", talk.version or ""))
    busy = "false" if talk.growing is None else "true"
    log = f'<div role="log" aria-label="Conversation" aria-busy="{busy}">{"".join(turns)}</div>'
    return page(Markup(log))


def _turn(said: str, version: str | None, note: str) -> str:
    if version is None:
        return f'<div class="turn own">{text(said)}</div>'
    return f'<div class="turn model">{formatted(said)}</div><p class="muted by">Answered by {text(version)}{note}</p>'


def _growing(said: str, version: str) -> str:
    """As it is until it is whole: formatting it again with every word would cost more than the words."""
    return f'<div class="turn">{as_it_is(said)}</div><p class="muted by">Answered by {text(version)}, writing</p>'


def _advice(error: DpoError, talk: Conversation) -> str:
    """What failed and what to do; the message itself says it, but for what only this page can do."""
    too_long = "fit (model.max_length)" in str(error) and talk.said
    return "This conversation is longer than the model can read. Start a new one." if too_long else str(error)
