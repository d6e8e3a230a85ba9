"""How far the newest version is let out, how it does beside the baseline, and a person's orders about it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from dpo_pipeline.core.rollout import STAGES, Metrics
from dpo_pipeline.errors import DpoError, InvalidRequest
from dpo_pipeline.serving.access import check_admin
from dpo_pipeline.serving.live_rollout import LiveRollout, RolloutWatch
from dpo_pipeline.serving.pages.live import QUIET, following
from dpo_pipeline.serving.pages.markup import Markup, figures, heading, intervals, notice, page, paragraph, table
from dpo_pipeline.serving.service import Service

REFRESH_S = 5.0
DECISIONS = 50
Order = Literal["pause", "resume", "abort"]
MEANING = {
    "pause": "Paused: the version stays where it is. Harm still takes it back.",
    "resume": "Resumed: the next check may let the version out further.",
    "abort": "Aborted: the version is taken back; everybody is served by the one before.",
}


def build(service: Callable[[], Service]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    watch = RolloutWatch()
    shown = gr.HTML(page(paragraph("Reading the ledger…", "muted")), elem_id="rollout")
    with gr.Accordion("Pause, resume or abort", open=True):
        with gr.Row():
            reason = gr.Textbox(label="Reason", max_length=500, scale=3, min_width=220, elem_id="reason")
            key = gr.Textbox(label="Admin key", type="password", scale=1, min_width=160, elem_id="admin-key")
        with gr.Row():
            orders = {
                "pause": gr.Button("Pause", min_width=90),
                "resume": gr.Button("Resume", min_width=90),
                "abort": gr.Button("Abort: take it back", min_width=90),
            }
        told = gr.HTML(page(), elem_id="told")

    def ordering(order: Order) -> Callable[[str, str], tuple[Any, str, Any]]:
        def give(reason: str, key: str) -> tuple[Any, str, Any]:
            try:
                _order(service(), order, reason, key)
                now = _page(watch.look(service(), fresh=True))
            except DpoError as error:
                return gr.skip(), notice(str(error), trouble=True), gr.skip()
            return now, notice(MEANING[order]), ""

        return give

    for order, button in orders.items():
        button.click(ordering(order), [reason, key], [shown, told, reason], **QUIET)  # type: ignore[arg-type]
    following(shown, lambda _: _page(watch.look(service())), REFRESH_S)


def _order(service: Service, order: Order, reason: str, key: str) -> None:
    check_admin(key, service.settings.keys.admin)
    if not reason.strip():
        raise InvalidRequest("Give a reason: it stands in the history of decisions.")
    service.order_rollout(order, reason.strip(), actor="admin")


def _page(live: LiveRollout) -> str:
    if live.state.champion is None:
        return page(
            paragraph("No version is served yet: the first one is being built. This page follows by itself.", "notice")
        )
    return page(_where(live), _stages(live), _metrics(live), _conditions(live), _evidence(live), _history(live))


def _where(live: LiveRollout) -> Markup:
    state = live.state
    numbers = [("Champion", state.champion), ("Challenger", state.challenger or "none")]
    if live.under_way:
        stage = f"{state.stage}, paused" if state.paused else state.stage
        numbers += [("Stage", stage), ("Traffic of the challenger", f"{live.traffic:.0%}")]
    elif state.stage:
        numbers += [("Stage", state.stage)]
    if state.stage_since:
        hours = (datetime.now(UTC) - datetime.fromisoformat(state.stage_since)).total_seconds() / 3600
        least = f" of at least {_hours(live.at_least_h)}" if live.at_least_h else ""
        numbers.append(("In this stage", _hours(hours) + least))
    said = (
        ""
        if live.under_way
        else paragraph(
            f"No version is being rolled out: {state.champion} answers everybody. A version that was trained and "
            "judged better than it appears here by itself.",
            "notice",
        )
    )
    return Markup(heading("Now") + figures(numbers) + said)


def _hours(hours: float) -> str:
    if 0 < hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if 0 < hours < 1 else f"{round(hours, 1):g} h"


def _stages(live: LiveRollout) -> Markup:
    """The way of a version, the present stage marked."""
    if not live.under_way:
        return Markup("")
    steps = "".join(
        f'<li aria-current="step"><b>{stage}</b></li>' if stage == live.state.stage else f"<li>{stage}</li>"
        for stage in STAGES
    )
    return Markup(f'<ol class="steps" aria-label="Stages">{steps}</ol>')


def _metrics(live: LiveRollout) -> Markup:
    if not (live.new and live.baseline):
        return Markup("")
    new, baseline = live.metrics[live.new], live.metrics[live.baseline]
    rows = [
        ("Requests", new.requests, baseline.requests),
        ("Error rate", _share(new.error_rate), _share(baseline.error_rate)),
        ("Crash rate", _share(new.crash_rate), _share(baseline.crash_rate)),
        ("p99 latency", _ms(new), _ms(baseline)),
        ("Ratings", new.ratings, baseline.ratings),
        ("Satisfaction, of 5", _stars(new), _stars(baseline)),
    ]
    caption = f"Since this {'stage' if live.under_way else 'day of full traffic'} began, {live.since}"
    head = ["", f"{live.new}, new", f"{live.baseline}, baseline"]
    return Markup(heading("Live metrics") + table(caption, head, rows, numbers=(1, 2)))


def _conditions(live: LiveRollout) -> Markup:
    """Each rule for taking the version back, judged twice."""
    if not live.conditions:
        return Markup("")
    said = {True: "holds", False: "does not hold", None: "no data"}
    rows = [
        (each["name"], f"{said[each['literal']]}: {each['said']}", f"{said[each['evidence']]}: {each['shown']}")
        for each in live.conditions
    ]
    caption = "As the newest decision saw them; evidence takes a version back, a rule without evidence holds it"
    head = ["Taken back for", "The rule, on what was counted", "The evidence"]
    return Markup(heading("Rules and evidence") + table(caption, head, rows))


def _share(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2%}"


def _ms(metrics: Metrics) -> str:
    return "no data" if metrics.p99_ms is None else f"{metrics.p99_ms:.0f} ms"


def _stars(metrics: Metrics) -> str:
    return "no data" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"


def _evidence(live: LiveRollout) -> Markup:
    if not (live.new and live.baseline):
        return Markup("")
    votes = paragraph(f"{live.votes} votes between {live.new} and {live.baseline} in the log.", "muted")
    if live.ab is None or live.ab.rate is None:
        missing = paragraph("No votes have been counted yet: compare the two on the A/B test page.", "notice")
        return Markup(heading("A/B test") + missing + votes)
    ab = live.ab
    name = f"{live.new} over {live.baseline}"
    plot = intervals(
        "Win rate", [(name, ab.low, ab.rate or 0.0, ab.high, f"{ab.rate:.1%}")], mark=0.5, bounds=(0.0, 1.0)
    )
    people = "" if ab.people is None else f" by {ab.people} people"
    told = paragraph(
        f"Win rate {ab.rate:.1%} [{ab.low:.1%}, {ab.high:.1%}] of {ab.count} votes{people}, as the newest decision in "
        "staging saw them. The thin line is 50 %: above it the new version wins, and the test is decided when the "
        "whole interval lies on one side.",
        "muted",
    )
    return Markup(heading("A/B test") + plot + told + votes)


def _history(live: LiveRollout) -> Markup:
    if not live.history:
        return Markup(heading("Decisions") + paragraph("No decisions yet.", "muted"))
    rows = [_decision(decision) for decision in live.history[:DECISIONS]]
    head = ["When", "Version", "Stage", "Decision", "Reasons", "By"]
    more = len(live.history) - DECISIONS
    rest = paragraph(f"{more} older ones are in the ledger.", "muted") if more > 0 else Markup("")
    return Markup(heading("Decisions") + table("Newest first", head, rows) + rest)


def _decision(decision: Mapping[str, Any]) -> tuple[object, ...]:
    when = datetime.fromisoformat(decision["decided_at"]).strftime("%d %b %H:%M:%S")
    reasons = "; ".join(decision["reasons"])
    return when, decision["version"], decision["stage"], decision["decision"], reasons, decision["actor"]
