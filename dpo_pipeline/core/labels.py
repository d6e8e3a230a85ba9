"""From what people said of answers to what is trained on: pairs, and answers that are labelled good or bad.

A correction is a pair: what somebody wrote over what was answered. So is an answer that was asked for once more and
then liked, over the one before it. A thumb, the best and the two worst ratings, and a comparison in which both answers
were bad label an answer alone.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dpo_pipeline.core.dataset import LabelledAnswer, Pair, count_sources
from dpo_pipeline.core.feedback import ACTIONS, DOWN, Signal, label_of
from dpo_pipeline.core.quality import failed_criteria
from dpo_pipeline.core.usable_feedback import SAYS_TOO_LITTLE, Said, usable
from dpo_pipeline.core.validated_pair import MEANINGS
from dpo_pipeline.core.votes import Preference, prompt_text
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.settings.collection import FeedbackSource

BOTH_BAD = "both_bad"
JUDGEMENTS = ("thumb", "rating")
NOT_DRAWN = "not_drawn"
WHY_NOT = {
    **MEANINGS,
    SAYS_TOO_LITTLE: "a rating of 3 or 4 calls an answer neither good nor bad",
    NOT_DRAWN: "only a share of this kind is used (collection.feedback_shares)",
}


@dataclass(frozen=True)
class TrainableFeedback:
    """`left_out` counts what is not used, by kind of feedback and reason; `refused` tells why, by event."""

    pairs: tuple[Pair, ...] = ()
    labelled: tuple[LabelledAnswer, ...] = ()
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, int]:
        return count_sources(self.pairs, self.labelled)


def trainable(
    said: Sequence[Said],
    both_bad: Sequence[Preference],
    held_out: frozenset[str],
    criteria: QualityCriteria,
    shares: Mapping[FeedbackSource, float],
    taken_out: Mapping[str, str] | None = None,
) -> TrainableFeedback:
    """
    Args:
        said: everything people said of answers, in log order.
        both_bad: votes that both answers were bad, in log order.
        held_out: `prompt_key`s of the questions that versions are judged on.
        shares: how much of each source is used; of one that is not named, nothing.
        taken_out: as `usable_feedback.usable` takes it.
    """

    drawn: dict[str, float] = dict(shares.items())

    def is_drawn(event_id: str, source: str) -> bool:
        return _place(event_id) < drawn.get(source, 0.0)

    def answer(each: Said) -> str:
        return each.answer

    given = (
        ("correction", [each for each in said if each.signal == "correction"], lambda each: str(each.value)),
        # Thumb and rating of one answer are one opinion: the newest counts.
        ("judgement", [each for each in said if each.signal in JUDGEMENTS], answer),
        (BOTH_BAD, _bad(both_bad), answer),
    )
    usable_of = {kind: usable(some, text, held_out, criteria, _says_something, taken_out) for kind, some, text in given}
    refused = dict(each for found in usable_of.values() for each in found.refused)
    left_out = {kind: Counter(found.left_out) for kind, found in usable_of.items()}
    corrected, judged, bad = (usable_of[kind].said for kind, _, _ in given)
    before = _answers_before(said)
    written = [_pair(each, str(each.value), each.answer, "correction") for each in corrected]
    liked = [
        _pair(each, each.answer, before[each.event_id], "regenerated")
        for each in judged
        if each.event_id in before and label_of(each.signal, each.value)
    ]
    failed, failed_likes = _failed(written, criteria), _failed(liked, criteria)  # of these, the other is a label still
    left_out["correction"].update(failed.values())
    refused |= failed
    pairs = [pair for pair in (*written, *liked) if pair.event_id not in failed | failed_likes]
    refused |= {pair.event_id: NOT_DRAWN for pair in pairs if not is_drawn(pair.event_id, pair.source)}
    pairs = [pair for pair in pairs if is_drawn(pair.event_id, pair.source)]
    in_pairs = {pair.event_id for pair in pairs}
    labelled = [_labelled(each, each.signal) for each in judged if each.event_id not in in_pairs]
    labelled += [_labelled(each, BOTH_BAD) for each in bad]
    refused |= {each.event_id: NOT_DRAWN for each in labelled if not is_drawn(each.event_id, each.source)}
    return TrainableFeedback(
        pairs=tuple(pairs),
        labelled=tuple(each for each in labelled if is_drawn(each.event_id, each.source)),
        left_out={kind: dict(reasons) for kind, reasons in left_out.items() if reasons},
        refused=refused,
    )


def what_becomes(event_id: str, signal: Signal, found: TrainableFeedback) -> str:
    """Of something that was said of an answer, in words: what it is for the next dataset, or why it is nothing."""
    if reason := found.refused.get(event_id):
        return f"not trained on: {WHY_NOT.get(reason, reason)}"
    if any(pair.event_id == event_id for pair in found.pairs):
        return "a pair, for the next dataset"
    if any(each.event_id == event_id for each in found.labelled):
        return "a labelled answer, for the next dataset whose objective is kto"
    if signal == "comment":
        return "kept for people to read"
    return "kept beside the answer; it judges nothing by itself" if signal in ACTIONS else "not counted yet"


def _failed(pairs: Sequence[Pair], criteria: QualityCriteria) -> dict[str, str]:
    """By event id, the first criterion that it fails."""
    of_any_length = _of_any_length(criteria)
    found = ((pair.event_id, failed_criteria(pair.chosen, pair.rejected, of_any_length)) for pair in pairs)
    return {event_id: failed[0] for event_id, failed in found if failed}


def _of_any_length(criteria: QualityCriteria) -> QualityCriteria:
    """Those of votes, except that what people write or ask for again may be the shorter."""
    return criteria.model_copy(update={"more_detailed": False, "min_length_ratio": None})


def _pair(each: Said, chosen: str, rejected: str, source: str) -> Pair:
    return Pair(
        event_id=each.event_id, prompt=each.prompt, chosen=chosen, rejected=rejected, category="other", source=source
    )


def _says_something(each: Said) -> bool:
    return each.signal not in JUDGEMENTS or label_of(each.signal, each.value) is not None


def _labelled(each: Said, source: str) -> LabelledAnswer:
    good = bool(label_of(each.signal, each.value))
    return LabelledAnswer(event_id=each.event_id, prompt=each.prompt, answer=each.answer, good=good, source=source)


def _answers_before(said: Sequence[Said]) -> dict[str, str]:
    """For what people said of the answer that came when they asked again: the answer before, by event."""
    before: dict[tuple[str, str], tuple[Said, str]] = {}
    found = {}
    for each in said:
        key = each.person, prompt_text(each.prompt)
        if each.signal == "regenerate":
            before[key] = each, ""
        elif key in before:
            asked_again, after = before[key]
            if each.request_id != asked_again.request_id and after in ("", each.request_id):
                before[key] = asked_again, each.request_id  # later answers to the same question are others
                found[each.event_id] = asked_again.answer
    return {event: answer for event, answer in found.items() if answer}


def _bad(votes: Sequence[Preference]) -> list[Said]:
    return [
        Said(
            event_id=vote.event_id,
            person=vote.annotator,
            request_id=f"{vote.comparison_id} {side}",
            signal="thumb",
            value=DOWN,
            prompt=vote.prompt,
            answer=answer,
            anonymous=vote.is_anonymous,
        )
        for vote in votes
        for side, answer in (("a", vote.response_a), ("b", vote.response_b))
    ]


def _place(event_id: str) -> float:
    """In [0, 1): the same for an event each time, so that a larger share holds all of a smaller one."""
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big") / 2**64
