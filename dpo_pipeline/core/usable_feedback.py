"""Which corrections may be trained on: those that votes' own criteria would let through, none of a person twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpo_pipeline.core.quality import names_a_model
from dpo_pipeline.core.template_tokens import has_template_token
from dpo_pipeline.settings import QualityCriteria


@dataclass(frozen=True)
class Correction:
    """What one answer should have been, by one person. `question` is its `prompt_key`; `anonymous`: nobody vouches."""

    event_id: str
    person: str
    request_id: str
    question: str
    text: str
    anonymous: bool = False


@dataclass(frozen=True)
class UsableCorrections:
    """Event ids in log order; `left_out` counts the others by reason."""

    event_ids: tuple[str, ...]
    left_out: dict[str, int]


def usable_corrections(
    given: Sequence[Correction], held_out: frozenset[str], criteria: QualityCriteria
) -> UsableCorrections:
    """
    Args:
        given: in log order; of one person on one request the newest counts.
        held_out: questions that versions are judged on.
    """
    newest = {(each.person, each.request_id): each.event_id for each in given}
    left_out: Counter[str] = Counter()
    fit: list[Correction] = []
    for each in given:
        if reason := _refused(each, newest, held_out, criteria):
            left_out[reason] += 1
        else:
            fit.append(each)
    used = _within_shares(fit, criteria, left_out)
    return UsableCorrections(tuple(each.event_id for each in given if each.event_id in used), dict(left_out))


def _within_shares(fit: Sequence[Correction], criteria: QualityCriteria, left_out: Counter[str]) -> set[str]:
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


def _refused(
    each: Correction, newest: dict[tuple[str, str], str], held_out: frozenset[str], criteria: QualityCriteria
) -> str:
    """What is wrong with it by itself; empty where nothing is."""
    if newest[each.person, each.request_id] != each.event_id:
        return "corrected again"
    if each.question in held_out:
        return "held_out_question"
    if not each.text.strip():
        return "empty"
    if criteria.min_characters is not None and len(each.text) <= criteria.min_characters:
        return "too_short"
    if criteria.no_template_tokens and has_template_token(each.text):
        return "template_tokens"
    if criteria.no_self_naming and names_a_model(each.text):
        return "self_naming"
    return ""
