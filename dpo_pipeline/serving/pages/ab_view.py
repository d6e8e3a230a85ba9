"""The A/B page in words and HTML: progress, the two answers, what was revealed, what went wrong.

Everything that a person wrote goes through `inert`, and what a model wrote through `formatted`.
"""

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Literal

from dpo_pipeline.core.questions import CATEGORIES, OriginFilter, category_label
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.errors import (
    DeadlineExceeded,
    DpoError,
    NotReady,
    QueueFull,
    TokenRefused,
    UnknownComparison,
    VoteNotRecorded,
)
from dpo_pipeline.serving.pages.ab_visit import Batch, Visit
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.markdown import TOGGLE, as_it_is, formatted
from dpo_pipeline.serving.pages.theme import inert
from dpo_pipeline.serving.pages.version_link import link_to
from dpo_pipeline.serving.services.comparisons import SLIP_S, Recorded

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

CSS = """
.ab-progress { display: grid; grid-template-columns: minmax(16rem, 1fr) minmax(20rem, 1.4fr); gap: .5rem 2rem;
  align-items: end; color: var(--body-text-color); }
.ab-progress p { margin: 0 0 .3rem; font-size: .9375rem; }
.ab-progress b { font-variant-numeric: tabular-nums; }
.ab-bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--border-color-primary); }
.ab-bar > span { height: 100%; background: var(--color-accent); }
.ab-bar > .simulated { background: repeating-linear-gradient(-45deg, var(--color-accent) 0 3px, transparent 3px 7px); }
.ab-coverage { display: grid; grid-template-columns: repeat(5, 1fr); gap: .25rem .9rem; margin: 0; padding: 0;
  list-style: none; font-size: .8125rem; color: var(--body-text-color-subdued); }
.ab-coverage li { margin: 0; white-space: nowrap; }
.ab-coverage .ab-bar { height: 4px; margin-top: .2rem; }
.ab-question { margin: 0; scroll-margin-top: .25rem; font-size: 1.125rem; font-weight: 600; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; color: var(--body-text-color); }
.ab-question small { display: block; font-size: .8125rem; font-weight: 400; color: var(--body-text-color-subdued); }
.ab-turn { margin: 0 0 .6rem; padding: .5rem .8rem; border-radius: 10px; width: fit-content; max-width: min(44rem, 92%);
  border: 1px solid var(--border-color-primary); color: var(--body-text-color); overflow-wrap: anywhere; }
.ab-turn.user { margin-left: auto; white-space: pre-wrap; border-color: var(--color-accent); }
.ab-card { box-sizing: border-box; height: 100%; padding: .8rem 1rem 1rem; border-radius: 10px;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill);
  color: var(--body-text-color); }
.ab-card.chosen { border-color: var(--color-accent); box-shadow: inset 0 0 0 1px var(--color-accent); }
.ab-card h2 { display: flex; flex-wrap: wrap; gap: .25rem .6rem; align-items: baseline; margin: 0 0 .5rem;
  font-size: .9375rem; font-weight: 650; color: var(--body-text-color); }
.ab-card h2 .name { font-weight: 400; color: var(--body-text-color-subdued); }
.ab-card h2 .mark { font-weight: 600; color: var(--link-text-color); }
.ab-answer { min-height: 7rem; max-height: max(14rem, 60vh); overflow-y: auto; font-size: 1rem; line-height: 1.55;
  overflow-wrap: anywhere; }
.ab-answer.empty { color: var(--body-text-color-subdued); }
.ab-cell :is(.block, .html-container, .prose) { display: grid; grid-template: 1fr / minmax(0, 1fr); flex: 1; }
.gradio-container { overflow: visible !important; overflow-x: clip !important; }
#ab-bar { position: sticky; bottom: 0; z-index: 5; padding: .5rem 0; gap: .4rem;
  background: var(--body-background-fill); }
#ab-bar:not(:has(button:enabled)) { position: static; }
#ab-votes:has(#ab-next) button:not(#ab-next), .column:has(#ab-next) #ab-why { display: none; }
.ab-result { display: inline; margin: 0; font-size: 1rem; color: var(--body-text-color);
  background: var(--body-background-fill); }
:is(.ab-result, .ab-card h2) a { padding: 0; }
.ab-slip { border: none; background: none; padding: 0; cursor: pointer; text-decoration: underline; font: inherit;
  font-size: .875rem; color: var(--link-text-color); animation: ab-over 0s SLIP_S forwards; }
@keyframes ab-over { to { visibility: hidden; font-size: 0; } }
.ab-keys { margin: 0; font-size: .8125rem; line-height: 1.9; color: var(--body-text-color-subdued); }
.ab-keys span { display: inline-block; margin-right: 1rem; white-space: nowrap; }
.ab-keys kbd { padding: .05rem .35rem; border-radius: 4px; border: 1px solid var(--border-color-primary);
  background: var(--block-background-fill); color: var(--body-text-color); font: inherit; white-space: nowrap; }
.ab-order { align-items: center; }
.ab-line:not(:has(p)):not(:has(section)) { display: none; }
.ab-batch { margin: 0; font-weight: 600; color: var(--body-text-color); }
.ab-summary { padding: .8rem 1rem; border-radius: 10px; border: 1px solid var(--border-color-primary);
  background: var(--block-background-fill); color: var(--body-text-color); }
.ab-summary h2 { margin: 0 0 .4rem; font-size: 1rem; color: var(--body-text-color); }
.ab-summary ul { margin: 0; padding-left: 1.2rem; }
@media (max-width: 700px) {
  .ab-progress { grid-template-columns: 1fr; }
  .ab-coverage { grid-template-columns: repeat(2, 1fr); }
  .ab-answer { min-height: 0; height: 23vh; }
  /* What two answers and the bar leave: a long question scrolls, for answers below the bar cannot be compared. Half a
     line at its end shows that there is more. */
  .ab-question { max-height: max(5.2rem, 54vh - 17rem); overflow-y: auto; }
  .ab-card { padding: .5rem .8rem; } .ab-card h2 { margin: 0 0 .2rem; }
  .ab-result { font-size: .875rem; line-height: 1.35; }
  #ab-votes { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; }
  #ab-votes button { grid-column: span 2; min-width: 0 !important; padding: .5rem .25rem; }
  #ab-votes :is(#ab-left, #ab-right) { grid-column: span 3; }
  #ab-votes #ab-next { grid-column: span 6; }
}
/* One button at a time is the one to press: what cannot be pressed is none, nor what a pair on screen waits for. */
.column:has(#ab-left:enabled, #ab-next, .ab-card.growing) #ab-generate, #ab-votes button:disabled {
  background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); border-color: var(--button-secondary-border-color); }
@media (pointer: coarse) { .ab-keys { display: none; } }
""".replace("SLIP_S", f"{SLIP_S}s")

# A new question may be out of sight, above the buttons that were pressed; on a narrow screen it goes to the top, so
# that both answers fit below it. Once a typed one is sent, keys are for voting.
LOOK_UP = """watch('value', () => {
  const block = innerWidth > 700 ? 'nearest' : 'start';
  (element.querySelector('.ab-question') ?? element).scrollIntoView({block});
  if (document.activeElement?.closest('#ab-typed, #ab-follow')) document.activeElement.blur();
});"""
# Which vote was a slip, by the comparison that it was on: another may be on screen by now.
SLIPPED = """element.addEventListener("click", event => {
  const button = event.target.closest("button.ab-slip");
  if (button) trigger("select", {index: 0, value: button.dataset.comparison});
});"""
KEYS_HINT = (
    '<p class="ab-keys">'
    + " ".join(
        "<span>" + " ".join(f"<kbd>{key}</kbd>" for key in keys) + f" {what}</span>"
        for keys, what in (
            (("1", "A", "←"), "Model A"),
            (("2", "B", "→"), "Model B"),
            (("T",), "Tie"),
            (("X",), "Both bad"),
            (("S",), "Skip"),
            (("Enter",), "Next comparison"),
        )
    )
    + f"</p>{TOGGLE}"
)


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
