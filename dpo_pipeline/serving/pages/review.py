"""Browse what was collected, with validation results; take a preference out, or put it back, with a reason."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dpo_pipeline.core.validated_pair import PairFilter
from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import OrderChanged
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.callers import address_of
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markup import notice, page
from dpo_pipeline.serving.pages.polling import QUIET, told_by
from dpo_pipeline.serving.pages.review_layout import ANY, ReviewLayout
from dpo_pipeline.serving.pages.select import offering
from dpo_pipeline.serving.services.reviews import Order, find, page_of

DONE: dict[Order, str] = {
    "exclude": "Excluded. Left out of",
    "restore": "Restored. Included in",
    "keep": "Reviewed. It stays as it is in",
}
OPPOSITE: dict[Order, Order] = {"exclude": "restore", "restore": "exclude"}


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    ui, number, asked, undone = ReviewLayout(gr), gr.State(0), gr.State(None), gr.State(None)

    def show(turn: int, chosen: str | None, *filters: Any) -> dict[Any, Any]:
        wanted = _wanted(*filters)
        try:
            listed = page_of(serving().reviews.collected, wanted, turn)
        except DpoError as error:
            return {ui.count: notice(explained(error), trouble=True)}
        # A pair that somebody just spoke of stays on screen, also where it fits the filters no longer.
        read = (find(serving().reviews.collected(), chosen) if chosen else None) or next(iter(listed.rows), None)
        return ui.listed(listed, read, wanted, serving().settings.zone) | {
            number: listed.number,
            ui.filters[3]: offering([(name, name) for name in (ANY, *listed.versions)]),
        }

    def first(*filters: Any) -> dict[Any, Any]:
        return show(0, None, *filters) | ui.unasked()  # the question was about other filters

    def opened(*filters: Any) -> dict[Any, Any]:
        return first(*filters) | {ui.guidelines: ui.advice(serving().reviews.guidelines())}

    def earlier(number: int, *filters: Any) -> dict[Any, Any]:
        return show(number - 1, None, *filters)

    def later(number: int, *filters: Any) -> dict[Any, Any]:
        return show(number + 1, None, *filters)

    def read(chosen: str | None) -> dict[Any, Any]:
        return ui.reading(find(serving().reviews.collected(), chosen), serving().settings.zone) | {ui.told: page()}

    def ordering(action: Order) -> Callable[..., Awaitable[dict[Any, Any]]]:
        async def order(
            request: gr.Request, chosen: str | None, reason: str, key: str, number: int, *rest: Any
        ) -> dict[Any, Any]:
            try:
                account = await serving().accounts.at_page(request, key)
                await asyncio.to_thread(
                    serving().reviews.order, chosen or "", action, reason, account, address_of(request)
                )
            except DpoError as error:
                return {ui.told: notice(explained(error), trouble=True)}
            told = f"{DONE[action]} datasets built after the next curation run."
            shown = await asyncio.to_thread(show, number, chosen, *rest)
            opposite = OPPOSITE.get(action)  # that somebody looked at a pair cannot be undone
            shown |= {ui.told: notice(told), ui.reason: "", ui.undo: gr.update(visible=opposite is not None)}
            return shown | {undone: opposite and (chosen, opposite)}

        return order

    async def undo(
        request: gr.Request, last: tuple[str, Order] | None, key: str, number: int, *filters: Any
    ) -> dict[Any, Any]:
        if last is None:
            return {}
        done = await ordering(last[1])(request, last[0], "undone", key, number, *filters)
        return done | ({ui.undo: gr.update(visible=False), undone: None} if undone in done else {})

    def asking(action: Order) -> Callable[..., dict[Any, Any]]:
        def ask(*filters: Any) -> dict[Any, Any]:
            try:
                count = len(serving().reviews.changed_by(_wanted(*filters), action))
            except DpoError as error:
                return {ui.told: notice(explained(error), trouble=True)}
            return ui.asked(action, count) | {asked: (action, count, filters)}

        return ask

    async def confirm(
        request: gr.Request, wish: tuple[Order, int, tuple[Any, ...]], reason: str, key: str, *filters: Any
    ) -> dict[Any, Any]:
        action, count, meant = wish
        try:
            account = await serving().accounts.at_page(request, key)
            await asyncio.to_thread(
                serving().reviews.order_all, action, _wanted(*meant), count, reason, account, address_of(request)
            )
        except OrderChanged as error:
            return ui.unasked() | {ui.told: notice(explained(error), trouble=True)}
        except DpoError as error:
            return {ui.told: notice(explained(error), trouble=True)}
        shown = await asyncio.to_thread(show, 0, None, *filters)
        told = notice(f"{DONE[action]} datasets built after the next curation run: {count} pairs.")
        return shown | ui.unasked() | {ui.told: told, ui.reason: ""}

    outputs = [*ui.outputs, number, asked, undone]
    blocks = gr.context.Context.root_block
    assert blocks is not None
    blocks.load(opened, ui.filters, outputs, **QUIET)
    gr.on([told_by(each) for each in ui.filters], first, ui.filters, outputs, **QUIET)
    ui.back.click(earlier, [number, *ui.filters], outputs, **QUIET)
    ui.on.click(later, [number, *ui.filters], outputs, **QUIET)
    ui.list.input(read, ui.list, outputs, **QUIET)
    for action, button in (("exclude", ui.exclude), ("restore", ui.restore), ("keep", ui.keep)):
        given = [ui.list, ui.reason, ui.key, number, *ui.filters]
        button.click(ordering(action), given, outputs, **QUIET)  # type: ignore[arg-type]
    ui.undo.click(undo, [undone, ui.key, number, *ui.filters], outputs, **QUIET)
    ui.exclude_all.click(asking("exclude"), ui.filters, outputs, **QUIET)
    ui.restore_all.click(asking("restore"), ui.filters, outputs, **QUIET)
    ui.no.click(ui.unasked, None, outputs, **QUIET)
    ui.yes.click(confirm, [asked, ui.reason, ui.key, *ui.filters], outputs, **QUIET)


def _wanted(
    validity: Any, criterion: str, category: str, version: str, source: str, text: str, review: Any
) -> PairFilter:
    criterion, category, version, source = (
        "" if value == ANY else value for value in (criterion, category, version, source)
    )
    return PairFilter(validity, criterion, category, version, source, text or "", "" if review == ANY else review)
