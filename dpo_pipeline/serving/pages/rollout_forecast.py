"""The forecast of a rollout as HTML, beside what happened since."""

from dpo_pipeline.core.forecast import Forecast
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.in_words import hours
from dpo_pipeline.serving.pages.markup import Markup, heading, paragraph, table
from dpo_pipeline.serving.services.rollout_watch import RolloutSnapshot, StageReached


def forecast_part(live: RolloutSnapshot) -> Markup:
    """What was forecast when staging began, beside what happened; before a rollout, what the next one may come to."""
    found = live.forecast
    if not found:
        return Markup("")
    begun = live.reached.get(STAGES[0])
    rows = []
    for each in found.stages:
        ends = each.ends_after_h
        row: list[object] = [each.stage, "not decided in time" if ends is None else f"after {hours(ends)}"]
        if live.under_way:
            row.append(_happened(live, each.stage, begun))
        row.append(f"{each.requests:,}")
        if live.under_way:
            reached = live.reached.get(each.stage)
            row.append("" if reached is None or reached.requests is None else f"{reached.requests:,}")
        rows.append(row)
    head = ["Stage", "Forecast end", *(["Ended"] if live.under_way else []), "Forecast requests"]
    head += ["Met by the new version"] if live.under_way else []
    title = "Forecast and what happened" if live.under_way else "If a version were rolled out now"
    caption = "Counted from the start of staging" if live.under_way else live.usage
    return Markup(
        heading(title)
        + table(caption, head, rows, numbers=tuple(range(1, len(head))))
        + paragraph(_votes_needed(found), "muted")
        + paragraph(found.would_be_seen, "muted")
        + "".join(paragraph(each, "muted") for each in found.advice)
    )


def _happened(live: RolloutSnapshot, stage: str, begun: StageReached | None) -> str:
    reached = live.reached.get(stage)
    if reached is None or begun is None:
        return ""
    after = hours(reached.hours_after(begun.began))
    return f"after {after}" if reached.ended else f"in progress, {after} so far"


def _votes_needed(found: Forecast) -> str:
    needed = [
        f"{'more than 20,000' if votes is None else f'{votes:,}'} at {rate}"
        for rate, votes in found.votes_needed.items()
    ]
    return f"Votes that an A/B test needs, by the win rate of the new version: {', '.join(needed)}."
