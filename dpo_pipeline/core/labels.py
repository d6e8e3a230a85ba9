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
from dpo_pipeline.core.feedback import label_of
from dpo_pipeline.core.quality import failed_criteria
from dpo_pipeline.core.usable_feedback import Said, usable
from dpo_pipeline.core.votes import Preference, prompt_key
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.settings.collection import FeedbackSource

BOTH_BAD = "both_bad"


@dataclass(frozen=True)
class TrainableFeedback:
    """`left_out` counts what is not used, by source and reason; `until` is when the newest of all was given."""

    pairs: tuple[Pair, ...] = ()
    labelled: tuple[LabelledAnswer, ...] = ()
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    until: str = ""

    @property
    def sources(self) -> dict[str, int]:
        return count_sources(self.pairs, self.labelled)


def trainable(
    said: Sequence[Said],
    both_bad: Sequence[Preference],
    held_out: frozenset[str],
    criteria: QualityCriteria,
    shares: Mapping[FeedbackSource, float],
) -> TrainableFeedback:
    """
    Args:
        said: everything people said of answers, in log order.
        both_bad: votes that both answers were bad, in log order.
        held_out: `prompt_key`s of the questions that versions are judged on.
        shares: how much of each source is used; of one that is not named, nothing.
    """
    left_out: dict[str, dict[str, int]] = {}
    pairs: list[Pair] = []
    labelled: list[LabelledAnswer] = []
    corrections = [each for each in said if each.signal == "correction"]
    found = usable(corrections, lambda each: str(each.value), held_out, criteria)
    left_out["correction"] = Counter(found.left_out)
    for each in found.said:
        _add_pair(pairs, each, str(each.value), each.answer, "correction", criteria, left_out["correction"])
    rated = [each for each in said if label_of(each.signal, each.value) is not None]
    for source in ("thumb", "rating"):
        found = usable([each for each in rated if each.signal == source], lambda each: each.answer, held_out, criteria)
        left_out[source] = Counter(found.left_out)
        labelled += [_labelled(each, bool(label_of(each.signal, each.value)), source) for each in found.said]
    liked = usable(_liked_at_last(said), lambda each: each.answer, held_out, criteria)
    left_out["regenerated"] = Counter(liked.left_out)
    for each in liked.said:
        _add_pair(pairs, each, each.answer, str(each.value), "regenerated", criteria, left_out["regenerated"])
    found = usable(_bad(both_bad), lambda each: each.answer, held_out, criteria)
    left_out[BOTH_BAD] = Counter(found.left_out)
    labelled += [_labelled(each, False, BOTH_BAD) for each in found.said]
    drawn: dict[str, float] = dict(shares.items())

    def is_drawn(event_id: str, source: str) -> bool:
        return _place(event_id) < drawn.get(source, 0.0)

    moments = [each.recorded_at for each in said] + [each.recorded_at for each in both_bad]
    return TrainableFeedback(
        pairs=tuple(each for each in pairs if is_drawn(each.event_id, each.source)),
        labelled=tuple(each for each in labelled if is_drawn(each.event_id, each.source)),
        left_out={source: dict(reasons) for source, reasons in left_out.items() if reasons},
        until=max(moments, default=""),
    )


def _add_pair(
    pairs: list[Pair],
    each: Said,
    chosen: str,
    rejected: str,
    source: str,
    criteria: QualityCriteria,
    left_out: dict[str, int],
) -> None:
    """A pair that passes the criteria of votes, except that what people write may be the shorter."""
    any_length = criteria.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    if failed := failed_criteria(chosen, rejected, any_length):
        left_out[failed[0]] = left_out.get(failed[0], 0) + 1
        return
    pairs.append(
        Pair(
            event_id=each.event_id,
            prompt=each.prompt,
            chosen=chosen,
            rejected=rejected,
            category="other",
            source=source,
        )
    )


def _labelled(each: Said, good: bool, source: str) -> LabelledAnswer:
    return LabelledAnswer(event_id=each.event_id, prompt=each.prompt, answer=each.answer, good=good, source=source)


def _liked_at_last(said: Sequence[Said]) -> list[Said]:
    """Answers that people liked after they had asked for another one to the same; `value` is the answer before."""
    before: dict[tuple[str, str], Said] = {}
    found = []
    for each in said:
        key = each.person, prompt_key(each.prompt)
        if each.signal == "regenerate":
            before[key] = each
        elif label_of(each.signal, each.value) and key in before and before[key].answer != each.answer:
            found.append(
                Said(
                    event_id=each.event_id,
                    recorded_at=each.recorded_at,
                    person=each.person,
                    request_id=each.request_id,
                    signal=each.signal,
                    value=before.pop(key).answer,
                    prompt=each.prompt,
                    answer=each.answer,
                    anonymous=each.anonymous,
                )
            )
    return found


def _bad(votes: Sequence[Preference]) -> list[Said]:
    return [
        Said(
            event_id=vote.event_id,
            recorded_at=vote.recorded_at,
            person=vote.annotator,
            request_id=f"{vote.comparison_id} {side}",
            signal="thumb",
            value="down",
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
