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
    used: list[str] = []
    left_out: Counter[str] = Counter()
    held: Counter[str] = Counter()
    anonymous = 0
    for each in given:
        reason = _refused(each, newest, held_out, criteria)
        share, together = criteria.max_annotator_share, criteria.max_anonymous_share
        most = None if share is None else max(criteria.annotator_floor, share * (len(used) + 1))
        if not reason and most is not None and held[each.person] >= most:
            reason = "annotator_share"
        if not reason and each.anonymous and together is not None and anonymous + 1 > together * (len(used) + 1):
            reason = "anonymous_share"
        if reason:
            left_out[reason] += 1
            continue
        used.append(each.event_id)
        held[each.person] += 1
        anonymous += each.anonymous
    return UsableCorrections(tuple(used), dict(left_out))


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
