"""What the chat page is made of, and what it shows at rest and while an answer is written."""

from typing import Any

from dpo_pipeline.serving.pages.chat_kept import kept_of
from dpo_pipeline.serving.pages.chat_view import PRESSED, asked_of, conversation_html
from dpo_pipeline.serving.pages.conversation import Conversation
from dpo_pipeline.serving.pages.markdown import TOGGLE
from dpo_pipeline.serving.pages.markup import notice, page, told_here

STARS = ("1 · poor", "2", "3", "4", "5 · very good")
LONGEST = 8_000


class ChatLayout:
    """The components, and what they show at rest and while an answer is written."""

    def __init__(self, gr: Any):
        # Our own markup: Gradio's chatbot shows harmless tags of an answer, and an image asks another server.
        self.chat = gr.HTML(
            conversation_html(Conversation()), min_height=220, max_height="min(46vh, 34rem)", autoscroll=True,
            container=True, padding=True, elem_id="conversation", js_on_load=PRESSED,
        )  # fmt: skip
        with gr.Row():
            self.question = gr.Textbox(
                label="Your message", placeholder="Type, then press Enter", lines=1, max_lines=8, max_length=LONGEST,
                scale=5, min_width=220, autofocus=True, elem_id="message",
            )  # fmt: skip
            with gr.Column(scale=1, min_width=110):
                self.send = gr.Button("Send", variant="primary")
                self.stop = gr.Button("Stop", variant="primary", visible=False)
                self.start_again = gr.Button("New conversation", size="sm")
        gr.HTML(page(TOGGLE))
        self.told = told_here()
        self.kept = gr.Textbox(visible="hidden")
        with gr.Column(visible=False) as self.feedback:
            self.judged = gr.HTML(page(), elem_id="chat-judged")
            with gr.Row():
                self.stars = tuple(
                    gr.Button(star, size="sm", min_width=56, elem_id=f"chat-rating-{stars}")
                    for stars, star in enumerate(STARS, start=1)
                )
                self.again = gr.Button("Answer again", size="sm", min_width=110)
            with gr.Accordion("Correct this answer", open=False):
                self.correction = gr.Textbox(
                    label="The answer you would have wanted", lines=4, max_lines=16, max_length=LONGEST,
                    elem_id="chat-correction",
                )  # fmt: skip
                self.save = gr.Button("Save correction", size="sm", elem_id="chat-save")
        self._gr = gr
        self._state = [self.chat, self.question, self.send, self.stop, self.told, self.feedback, self.kept, self.judged]
        self.outputs = [*self._state, *self.stars, self.again, self.correction]

    def begin(self, talk: Conversation) -> dict[Any, Any]:
        """While an answer is written."""
        gr = self._gr
        return {
            self.chat: conversation_html(talk),
            self.question: "",
            self.send: gr.update(visible=False),
            self.stop: gr.update(visible=True),
            self.told: page(),
            self.feedback: gr.update(visible=False),
            self.kept: kept_of(talk),
        }

    def rest(self, talk: Conversation, told: str = "", trouble: bool = False, fresh: bool = False) -> dict[Any, Any]:
        """When nothing is under way. Only a whole answer can be rated and corrected.

        Args:
            fresh: the answer to judge is another one: it is what a correction begins with.
        """
        gr, turn = self._gr, talk.to_judge
        judged = turn.judged if turn else {}
        changes = {
            self.chat: conversation_html(talk),
            self.send: gr.update(visible=True),
            self.stop: gr.update(visible=False),
            self.told: notice(told, trouble),
            self.feedback: gr.update(visible=turn is not None),
            self.kept: kept_of(talk),
            self.judged: asked_of(talk),
            self.again: gr.update(visible=turn is not None and turn is talk.last),
            self.correction: gr.update(value=turn.text) if fresh and turn else gr.skip(),
        }
        return changes | {button: gr.update(interactive="rating" not in judged) for button in self.stars}

    def in_order(self, changes: dict[Any, Any]) -> list[Any]:
        """Of every output, for handlers that return a tuple."""
        return [changes.get(part, self._gr.skip()) for part in self.outputs]
