"""Who has voted how much this week, for those who want to be named, and how far the team is."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.contributions import NICKNAME_LENGTH, Contribution, TeamWeek
from dpo_pipeline.errors import DpoError
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markup import Markup, chip, figures, heading, notice, page, paragraph, table, told_here
from dpo_pipeline.serving.pages.markup_plots import bar
from dpo_pipeline.serving.pages.person import person_state, pseudonym_of, visitor_of
from dpo_pipeline.serving.pages.polling import QUIET, following

REFRESH_S = 15.0
NOBODY = "No votes yet this week: open the A/B test page, compare two answers, and the first bar appears."
ONLY_SIMULATED = (
    "All votes so far are simulated: no person has voted yet this week. Open the A/B test page to be the first."
)
SIMULATED = chip("simulated", "none")
UNNAMED = "Nobody has joined by name yet. Enter a nickname below to have your votes shown here."


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    person = person_state()
    shown = gr.HTML(page(paragraph("Counting the votes…", "muted")), elem_id="contributors")
    with gr.Group():
        shortest, longest = NICKNAME_LENGTH
        nickname = gr.Textbox(
            label="Your nickname", max_length=longest, elem_id="nickname",
            info=f"{shortest} to {longest} characters, seen by everybody who opens this page. "
            "Without one your votes are counted under “others”.",
        )  # fmt: skip
        with gr.Row():
            joining = gr.Button("Join or rename", variant="primary", min_width=120)
            leaving = gr.Button("Leave: remove my nickname", min_width=120)
    told = told_here()

    def look(person: Any, request: gr.Request) -> str:
        return _week(serving(), pseudonym_of(serving(), person, request))

    def join(person: Any, name: str, request: gr.Request) -> tuple[str, str]:
        pseudonym = pseudonym_of(serving(), person, request)
        if pseudonym is None:
            return look(person, request), notice("This browser has no id yet. Reload the page and try again.", True)
        try:
            name = serving().contributors.join(visitor_of(serving(), person, "", request), name)
        except DpoError as error:
            return look(person, request), notice(explained(error), True)
        return look(person, request), notice(f"You are now {name}.")

    def leave(person: Any, request: gr.Request) -> tuple[str, str, str]:
        pseudonym = pseudonym_of(serving(), person, request)
        if pseudonym:
            serving().contributors.leave(pseudonym)
        return look(person, request), "", notice("Your nickname was removed; your votes now count under “others”.")

    following(shown, look, REFRESH_S, person)
    gr.on([joining.click, nickname.submit], join, [person, nickname], [shown, told], **QUIET)
    leaving.click(leave, person, [shown, nickname, told], **QUIET)


def _week(serving: Serving, person: str | None) -> str:
    return week_page(serving.contributors.week(datetime.now(UTC)), person, serving.settings.time_zone)


def week_page(week: TeamWeek, person: str | None, zone: str) -> str:
    """
    Args:
        zone: in which the week began at midnight.
        person: whose row says "you"; null: nobody's.
    """
    return page(_team(week, zone), _people(week, person))


def _team(week: TeamWeek, zone: str) -> Markup:
    marks = [week.minimum / week.optimal, week.target / week.optimal]
    apart = f": {week.count}" if week.simulated else ""
    label = f"{week.votes} of {week.target} votes this week{apart}"
    numbers = figures(
        [
            ("Votes this week", week.votes),
            *([("By people", week.count.people), ("Simulated", week.count.simulated)] if week.simulated else []),
            ("Weekly target", week.target),
            ("Share of the target", f"{week.progress:.0%}"),
            ("People", week.others + sum(each.votes > 0 for each in week.named)),
        ]
    )
    scale = f"The lines mark the minimum of {week.minimum} and the target of {week.target}; the end is {week.optimal}."
    if week.simulated:
        scale += " Hatched: simulated votes."
    said = week.level if week.votes else NOBODY
    if week.simulated and not week.count.people:
        said += f" {ONLY_SIMULATED}"
    return Markup(
        heading(f"The team, week of {week.first_day:%d %B} ({zone})")
        + numbers
        + bar(week.count.people / week.optimal, label, marks, week.count.simulated / week.optimal)
        + paragraph(scale, "muted")
        + paragraph(said, "notice")
    )


def _people(week: TeamWeek, person: str | None) -> Markup:
    if not week.named and not week.votes:
        return paragraph(UNNAMED, "muted")
    most = max([each.votes for each in week.named] + [week.others_votes, week.count.simulated, 1])
    rows = [_row(each, most, person) for each in week.named]
    if week.others:
        share = week.others_votes / week.votes
        count = f"{week.others} other{'s' if week.others > 1 else ''}"
        rows.append((count, week.others_votes, f"{share:.0%}", "", bar(week.others_votes / most, f"{share:.0%}")))
    if week.simulated:
        rows.append(_simulated(week, most))
    listed = table(
        "Votes this week by person",
        ["Who", "Votes", "Share", "Streak", "Compared with the most active"],
        rows,
        numbers=(1, 2, 3),
    )
    return Markup(heading("Who") + listed + ("" if week.named else paragraph(UNNAMED, "muted")))


def _simulated(week: TeamWeek, most: int) -> tuple[object, ...]:
    votes, share = week.count.simulated, f"{week.count.simulated / week.votes:.0%}"
    who = f"{week.simulated} simulated {'person' if week.simulated == 1 else 'people'} "
    return Markup(f"{who}{SIMULATED}"), votes, share, "", bar(0.0, share, simulated=votes / most)


def _row(each: Contribution, most: int, person: str | None) -> tuple[object, ...]:
    name = f"{each.nickname} (you)" if each.person == person else each.nickname
    days = f"{each.streak} day{'s' if each.streak != 1 else ''}"
    return name, each.votes, f"{each.share:.0%}", days, bar(each.votes / most, f"{each.votes} votes")
