"""Which feedback may be trained on: what votes' own criteria would let through, nothing of a person twice."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dpo_pipeline.core.feedback import Signal
from dpo_pipeline.core.quality import names_a_model
from dpo_pipeline.core.template_tokens import has_template_token
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.settings import QualityCriteria

SAID_AGAIN, HELD_OUT, SAYS_TOO_LITTLE = "said_again", "held_out_question", "says_too_little"


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
    """What may be trained on, in log order, and (event id, reason) of what may not."""

    said: tuple[Said, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def left_out(self) -> dict[str, int]:
        """How many for which reason."""
        return dict(Counter(reason for _, reason in self.refused))


def usable(
    given: Sequence[Said],
    text: Callable[[Said], str],
    held_out: frozenset[str],
    criteria: QualityCriteria,
    says_something: Callable[[Said], bool] = lambda each: True,
    taken_out: Mapping[str, str] | None = None,
) -> Usable:
    """
    Args:
        given: in log order; of one person on one request the newest counts.
        text: of each what is trained on.
        held_out: `prompt_key`s of the questions that versions are judged on.
        says_something: what does not takes back what was said before, and holds no share.
        taken_out: by event id, why a reviewer or a rollback took it out, as a criterion.
    """
    taken_out = taken_out or {}
    newest = {(each.person, each.request_id): each.event_id for each in given}
    refused: list[tuple[str, str]] = []
    fit: list[Said] = []
    for each in given:
        if newest[each.person, each.request_id] != each.event_id:
            reason = SAID_AGAIN
        elif each.event_id in taken_out:
            reason = taken_out[each.event_id]
        elif not says_something(each):
            reason = SAYS_TOO_LITTLE
        elif prompt_key(each.prompt) in held_out:
            reason = HELD_OUT
        else:
            reason = _refused(text(each), criteria)
        if reason:
            refused.append((each.event_id, reason))
        else:
            fit.append(each)
    used, beyond = _within_shares(fit, criteria)
    return Usable(tuple(each for each in fit if each.event_id in used), (*refused, *beyond))


def _within_shares(fit: Sequence[Said], criteria: QualityCriteria) -> tuple[set[str], list[tuple[str, str]]]:
    """Event ids, newest first: so many that nobody, nor strangers together, hold too large a share; and the others."""
    share, together = criteria.max_annotator_share, criteria.max_anonymous_share
    given = Counter(each.person for each in fit)
    held: Counter[str] = Counter()
    known, strangers, beyond = set[str](), list[str](), list[tuple[str, str]]()
    for each in reversed(fit):
        others = len(fit) - given[each.person]
        if (
            share is not None
            and share < 1
            and held[each.person] >= max(criteria.annotator_floor, int(share / (1 - share) * others))
        ):
            beyond.append((each.event_id, "annotator_share"))
            continue
        held[each.person] += 1
        known.add(each.event_id) if not each.anonymous else strangers.append(each.event_id)
    allowed = len(strangers) if together is None or together == 1 else int(together / (1 - together) * len(known))
    beyond += [(event_id, "anonymous_share") for event_id in strangers[allowed:]]
    return known | set(strangers[:allowed]), beyond


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
