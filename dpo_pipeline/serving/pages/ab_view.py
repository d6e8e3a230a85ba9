"""The A/B page in words and HTML: progress, the two answers, what was revealed, what went wrong.

Everything that a person wrote goes through `inert`, and what a model wrote through `formatted`.
"""

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Literal

from dpo_pipeline.core.questions import CATEGORIES, OriginFilter, category_label
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import (
    DeadlineExceeded,
    NotReady,
    QueueFull,
    TokenRefused,
    UnknownComparison,
    VoteNotRecorded,
)
from dpo_pipeline.serving.pages.ab_visit import Batch, Visit
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markdown import as_it_is, formatted
from dpo_pipeline.serving.pages.theme import inert
from dpo_pipeline.serving.pages.version_link import link_to
from dpo_pipeline.serving.services.comparison_views import Recorded

Side = Literal["left", "right"]
LETTER: Mapping[Side, str] = {"left": "A", "right": "B"}
ORIGINS: Mapping[OriginFilter, str] = {
    "mix": "Mixed",
    "bank": "Question bank",
    "production": "Production",
    "edge_case": "Edge cases",
}
DRAWN_FROM = {"production": "production", "edge_case": "edge case"}
STANDS_IN = {
    "production": "No production questions yet: this one is from the question bank.",
    "edge_case": "No edge cases here: this one is from the question bank.",
}

HERE, WAITING, EMPTY_ANSWER = "The answer appears here.", "Writing …", "(This model gave no answer.)"


def progress(today: VoteCount, target: int, by_category: Mapping[str, VoteCount], zone: str) -> str:
    """Votes today against the target, and how the categories are covered; what is simulated is hatched.

    Args:
        zone: where the day began at midnight.
    """
    counts = {name: by_category.get(name, VoteCount()) for name in CATEGORIES}
    most = max([count.total for count in counts.values()] + [1])
    rows = "".join(
        f"<li>{category_label(name)} <b>{count.total}</b>"
        f"{_bar(count, most, str(count) if count.simulated else '')}</li>"
        for name, count in counts.items()
    )
    apart = f" ({today})" if today.simulated else ""
    said = f"{today.total} of {target} preferences today{apart}"
    hatched = " · hatched: simulated" if any(count.simulated for count in (today, *counts.values())) else ""
    return (
        f'<div class="ab-progress"><div><p>Preferences collected today ({zone}): <b>{today.total} / {target}</b> '
        f"target{apart}{hatched}</p>{_bar(today, target, said)}</div>"
        f'<ul class="ab-coverage" aria-label="Preferences by category">{rows}</ul></div>'
    )


def question(visit: Visit) -> str:
    """The question, over it where it comes from, and whether the bank had to stand in for what was wanted."""
    asked = visit.question
    if asked is None:
        return ""
    parts = ["your question"] if asked.origin is None else [DRAWN_FROM.get(asked.origin, "")]
    parts.append("" if asked.category == "other" else category_label(asked.category).lower())
    line = " · ".join(["Question", *filter(None, parts)])
    stands_in = STANDS_IN.get(visit.plan.origin, "") if asked.origin == "bank" else ""
    told = f'<small role="status">{stands_in}</small>' if stands_in else ""
    *earlier, (_, last) = asked.messages
    turns = "".join(_turn(role, said) for role, said in earlier)
    return f'{turns}<p class="ab-question">{told}<small>{line}</small>{inert(last)}</p>'


def _turn(role: str, said: str) -> str:
    """What was said before the question."""
    shown = formatted(said) if role == "assistant" else inert(said)
    name = {"user": "Question", "assistant": "Answer"}.get(role, role.capitalize())
    return f'<section class="ab-turn {role}" aria-label="{name}">{shown}</section>'


def card(side: Side, answer: str | None, visit: Visit, whole: bool = True) -> str:
    """One answer; with the name of its version once the vote is on disk.

    Args:
        answer: null: none was asked for.
        whole: false while it grows, when it stands there as it is: formatting it with every word costs more than words.
    """
    kind, title = "ab-card" if whole else "ab-card growing", f"Model {LETTER[side]}"
    head = title
    if visit.voted:
        choice, recorded = visit.voted
        head += f'<span class="name">{_name(_model(recorded, side))}</span>'
        if choice == side:
            kind, head = "ab-card chosen", head + '<span class="mark">✓ your choice</span>'
    if answer:
        shown = f'<div class="ab-answer" tabindex="0">{formatted(answer) if whole else as_it_is(answer)}</div>'
    else:
        empty = HERE if answer is None else EMPTY_ANSWER if whole else WAITING
        shown = f'<div class="ab-answer empty">{empty}</div>'
    return f'<article class="{kind}" aria-label="{title}"><h2>{head}</h2>{shown}</article>'


SLIP = "That was a slip"
TAKEN_BACK = '<p class="ab-result" role="status">Taken back: that vote counts nowhere.</p>'
PICKED = "You picked the versions: the vote is trained on, and does not decide the rollout."


def result(visit: Visit) -> str:
    """What the last vote was and whose answers they were; in a session the next pair is on screen already."""
    if visit.voted is None:
        return ""
    choice, recorded = visit.voted
    if recorded.withdrawn:
        return TAKEN_BACK
    of = "Previous question: " if visit.batch and not visit.batch.over else ""
    left, right = _name(recorded.left_model), _name(recorded.right_model)
    if choice == "tie":
        text = f"Tie between <b>{left}</b> (A) and <b>{right}</b> (B)."
    elif choice == "both_bad":
        text = f"Both bad: <b>{left}</b> (A) and <b>{right}</b> (B)."
    elif left == right:
        text = f"You chose model {LETTER[choice]}. Both answers were written by <b>{left}</b>."
    else:
        chosen, other = (left, right) if choice == "left" else (right, left)
        text = f"You chose <b>{chosen}</b> over <b>{other}</b>."
    if left != right and (visit.plan.first or visit.plan.second):
        text += f" {PICKED}"
    slip = f'<button type="button" class="ab-slip" data-comparison="{recorded.comparison_id}">{SLIP}</button>'
    return f'<p class="ab-result" role="status">{of}{text}</p> {slip}'


def batch_line(batch: Batch | None, voted: bool) -> str:
    """Where the batch testing session stands, and its summary at the end."""
    if batch is None:
        return ""
    if batch.over:
        return _summary(batch)
    number = len(batch.votes) + (0 if voted else 1)
    where = f"{batch.length} questions · {number} of {batch.length}"
    return f'<p class="ab-batch" role="status">Batch testing session: {where}</p>'


def trouble(error: DpoError) -> str:
    """What went wrong and what the person can do, in words of this page."""
    if isinstance(error, NotReady):
        return f"{error} Then press “Generate Comparison” again."
    if isinstance(error, QueueFull):
        return "Too many questions are being answered right now. Press “Generate Comparison” again in a few seconds."
    if isinstance(error, DeadlineExceeded):
        return "The answers took too long and were abandoned. Press “Generate Comparison” to try again."
    if isinstance(error, VoteNotRecorded):
        return (
            "Your vote is not recorded yet: the server could not write it down, and its log says why. Press the same "
            "button again; the answers stay here."
        )
    if isinstance(error, TokenRefused | UnknownComparison):
        return f"This comparison can no longer be voted on: {error} Press “Next comparison”."
    return explained(error)


def _summary(batch: Batch) -> str:
    wins = Counter(_model(vote, choice) for choice, vote in batch.votes if choice in LETTER)
    seen = sorted({name for _, vote in batch.votes for name in (vote.left_model, vote.right_model)})
    kinds = Counter(choice for choice, _ in batch.votes)
    rows = [f"<b>{_name(name)}</b> chosen {wins[name]} of {len(batch.votes)}" for name in seen]
    rows.append(f"Tie: {kinds['tie']}, both bad: {kinds['both_bad']}")
    items = "".join(f"<li>{row}</li>" for row in rows)
    return (
        f'<section class="ab-summary" role="status"><h2>Batch testing session finished: {len(batch.votes)} questions'
        f"</h2><ul>{items}</ul></section>"
    )


def _model(vote: Recorded, side: str) -> str:
    return vote.left_model if side == "left" else vote.right_model


def _name(version: str) -> str:
    return link_to(f"chat-{version}")


def _bar(count: VoteCount, whole: int, said: str = "") -> str:
    role = f' role="img" aria-label="{escape(said)}"' if said else ' aria-hidden="true"'
    people = min(count.people / whole, 1.0)
    simulated = min(count.simulated / whole, 1 - people)
    return (
        f'<div class="ab-bar"{role}><span style="width:{people:.1%}"></span>'
        f'<span class="simulated" style="width:{simulated:.1%}"></span></div>'
    )
