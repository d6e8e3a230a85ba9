"""How far the newest version is rolled out, how it does beside the baseline, and what a person decides about it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dpo_pipeline.core.identity import may
from dpo_pipeline.errors import DpoError
from dpo_pipeline.loop.manual_actions import ManualAction
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.callers import account_of, address_of
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markup import notice, page, paragraph, told_here
from dpo_pipeline.serving.pages.polling import QUIET, all_following
from dpo_pipeline.serving.pages.rollout_history import history_page
from dpo_pipeline.serving.pages.rollout_view import evidence_page, now_page

READ_ONLY = (
    "Nobody has an operator's key yet; this page is read-only. Use “dpo rollout promote|pause|resume|abort --reason …” "
    "locally, or “dpo keys add NAME --role operator” to get buttons here."
)
REFRESH_S = 5.0
DECISIONS = 30
MEANING = {
    "promote": "Promoted: the version moves on to its next stage.",
    "pause": "Paused: the version stays where it is. Evidence of harm still rolls it back.",
    "resume": "Resumed: the next check may promote the version.",
    "abort": "Rolled back: everybody is served by the previous version.",
}


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    older = gr.State(DECISIONS)
    shown = gr.HTML(page(paragraph("Reading the ledger…", "muted")), elem_id="rollout")
    _orders(serving, shown)
    evidence = gr.HTML(page(), elem_id="evidence")
    history = gr.HTML(page(), elem_id="history")
    more = gr.Button("Show older decisions", size="sm", elem_id="older")
    more.click(lambda count: count + DECISIONS, older, older, **QUIET)

    def look(count: int, request: object) -> list[str]:
        live, zone = serving().rollout_watch.look(), serving().settings.zone
        return [now_page(live), evidence_page(live, zone), history_page(live, count, zone)]

    all_following([shown, evidence, history], look, REFRESH_S, older)


def _orders(serving: Callable[[], Serving], shown: Any) -> None:
    """Promote, pause, resume, abort. Abort asks once."""
    import gradio as gr

    blocks = gr.context.Context.root_block
    assert blocks is not None, "called inside the page's gr.Blocks context"
    read_only = gr.HTML(page(), elem_id="read-only")
    with gr.Accordion("Promote, pause, resume or abort", open=True, visible=False) as given:
        with gr.Row():
            reason = gr.Textbox(label="Reason", max_length=500, scale=3, min_width=220, elem_id="reason")
            key = gr.Textbox(label="Operator's key", type="password", scale=1, min_width=160, elem_id="key")
        with gr.Row():
            buttons: dict[ManualAction, Any] = {
                "promote": gr.Button("Promote", min_width=110),
                "pause": gr.Button("Pause", min_width=90),
                "resume": gr.Button("Resume", min_width=90),
            }
            abort = gr.Button("Abort: roll it back", variant="stop", min_width=170)
        with gr.Column(visible=False) as asked:
            gr.HTML(page(paragraph("Roll it back for everybody it serves?", "notice")))
            with gr.Row():
                buttons["abort"] = gr.Button("Yes, roll it back", variant="stop", min_width=90)
                keep = gr.Button("No, keep it", min_width=90)
        told = told_here()

    def ordering(order: ManualAction) -> Callable[..., Awaitable[tuple[Any, str, Any, Any]]]:
        async def give(reason: str, key: str, request: gr.Request) -> tuple[Any, str, Any, Any]:
            try:
                account = await serving().accounts.at_page(request, key)
                await asyncio.to_thread(serving().rollouts.order, order, reason, account, address_of(request))
                now = now_page(await asyncio.to_thread(serving().rollout_watch.look, fresh=True))
            except DpoError as error:
                return gr.skip(), notice(explained(error), trouble=True), gr.skip(), gr.Column(visible=False)
            return now, notice(MEANING[order]), "", gr.Column(visible=False)

        return give

    for order, button in buttons.items():
        button.click(ordering(order), [reason, key], [shown, told, reason, asked], **QUIET)

    def open_page(request: gr.Request) -> tuple[str, Any, Any]:
        orders = serving().accounts.has_operators
        account = account_of(request)
        signed_in = account is not None and may(account.role, "operator")
        told = page(*([] if orders else [paragraph(READ_ONLY, "muted")]))
        return told, gr.Accordion(visible=orders), gr.Textbox(visible=not signed_in)

    blocks.load(open_page, None, [read_only, given, key], **QUIET)
    abort.click(lambda: gr.Column(visible=True), None, asked, **QUIET)
    keep.click(lambda: gr.Column(visible=False), None, asked, **QUIET)
