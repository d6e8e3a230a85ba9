"""Which feedback may be trained on: what votes' own criteria would let through, nothing of a person twice."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dpo_pipeline.core.feedback import Signal
from dpo_pipeline.core.quality import names_a_model
from dpo_pipeline.core.template_tokens import has_template_token
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.settings import QualityCriteria


@dataclass(frozen=True)
class Said:
    """One signal of one person on one answer, as it was given; `anonymous`: nobody vouches for them."""

    event_id: str
    person: str
    request_id: str
    signal: Signal
    value: int | str
    prompt: str | list[Message]
    answer: str
    anonymous: bool = False


@dataclass(frozen=True)
class Usable:
    """In log order; `left_out` counts the others by reason."""

    said: tuple[Said, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def usable(
    given: Sequence[Said],
    text: Callable[[Said], str],
    held_out: frozenset[str],
    criteria: QualityCriteria,
    says_something: Callable[[Said], bool] = lambda each: True,
) -> Usable:
    """
    Args:
        given: in log order; of one person on one request the newest counts.
        text: of each what is trained on.
        held_out: `prompt_key`s of the questions that versions are judged on.
        says_something: what does not takes back what was said before, and holds no share.
    """
    newest = {(each.person, each.request_id): each.event_id for each in given}
    left_out: Counter[str] = Counter()
    fit: list[Said] = []
    for each in given:
        if newest[each.person, each.request_id] != each.event_id:
            left_out["said_again"] += 1
        elif not says_something(each):
            left_out["says_too_little"] += 1
        elif prompt_key(each.prompt) in held_out:
            left_out["held_out_question"] += 1
        elif reason := _refused(text(each), criteria):
            left_out[reason] += 1
        else:
            fit.append(each)
    used = _within_shares(fit, criteria, left_out)
    return Usable(tuple(each for each in fit if each.event_id in used), dict(left_out))


def _within_shares(fit: Sequence[Said], criteria: QualityCriteria, left_out: Counter[str]) -> set[str]:
    """Event ids, newest first: so many that nobody, nor strangers together, hold too large a share."""
    share, together = criteria.max_annotator_share, criteria.max_anonymous_share
    given = Counter(each.person for each in fit)
    held: Counter[str] = Counter()
    known, strangers = set[str](), list[str]()
    for each in reversed(fit):
        others = len(fit) - given[each.person]
        if (
            share is not None
            and share < 1
            and held[each.person] >= max(criteria.annotator_floor, int(share / (1 - share) * others))
        ):
            left_out["annotator_share"] += 1
            continue
        held[each.person] += 1
        known.add(each.event_id) if not each.anonymous else strangers.append(each.event_id)
    allowed = len(strangers) if together is None or together == 1 else int(together / (1 - together) * len(known))
    if len(strangers) > allowed:
        left_out["anonymous_share"] += len(strangers) - allowed
    return known | set(strangers[:allowed])


def _refused(text: str, criteria: QualityCriteria) -> str:
    """What is wrong with a text by itself; empty where nothing is."""
    if not text.strip():
        return "empty"
    if criteria.min_characters is not None and len(text) <= criteria.min_characters:
        return "too_short"
    if criteria.no_template_tokens and has_template_token(text):
        return "template_tokens"
    if criteria.no_self_naming and names_a_model(text):
        return "self_naming"
    return ""
