"""Is this pair good enough to train on, and if not, why.

The four criteria of the user, those beyond them, and those that look at earlier votes. A verdict
lists every criterion that failed, in the order of `CRITERIA`. Where pairs are stored, and what is
done with the refused ones, belongs elsewhere.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rapidfuzz.distance import Indel

from dpo_pipeline.core.votes import Preference, pair_key, text_key
from dpo_pipeline.settings import QualityCriteria

CRITERIA: dict[str, str] = {
    "no_winner": "a tie, or both were bad: recorded, but no pair to train on",
    "empty": "one side is empty",
    "identical": "both sides are the same text within the length that the model reads",
    "length_ratio": "the chosen answer is at most half as long as the rejected one",
    "similarity": "the answers are nearly the same",
    "too_short": "an answer has ten characters or fewer",
    "more_detailed": "the chosen answer does not have more sentences than the rejected one",
    "template_tokens": "an answer holds chat-template tokens",
    "self_naming": "an answer names the model that wrote it",
    "contradiction": "the same person voted the other way on the same pair before",
    "repeat": "the same person cast the same vote on the same pair before",
    "annotator_share": "this person already holds the largest share of valid pairs one person may",
}

# A terminator ends a sentence before white space or a closing mark, so "3.5" and "example.com" end
# none; Chinese and Japanese ones always do. One short class and one look-ahead: this runs on every
# text of every vote, and is several times faster than one pattern for all scripts.
_SENTENCE_END = re.compile(r"[.!?](?=[\s\"')\]*_])")
_WIDE_SENTENCE_END = re.compile(r"[。！？…]+")
_TRAILING = " \t\r\n\"')]*_.!?。！？…"
_TEMPLATE_TOKEN = re.compile(r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>")
# A model's name, then the look back for who says it: names are rare in texts, "I am" is not.
_MODEL_NAME = re.compile(
    r"ChatGPT|GPT|Gemini|Claude|Bard|Qwen|Llama|LLaMA|Vicuna|Open ?Assistant|chat-v\d|Chat-v\d|v\d+\.\d"
)
_INTRODUCTION = re.compile(r"\b(?:i am|i['’]m|my name is|this is)\s+(?:the\s+)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failed` is empty for a valid pair."""

    event_id: str
    failed: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.failed


@dataclass
class Memory:
    """What earlier votes a verdict may depend on; the caller loads it, `judge` keeps it up to date.

    `winners` maps (annotator, pair key) to the `text_key` of what this person chose first; `held` counts
    the valid pairs of each annotator.
    """

    winners: dict[tuple[str, int], int] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    total: int = 0


def sentences(text: str) -> int:
    """Number of sentences; the last one counts with or without its terminator."""
    body = text.rstrip(_TRAILING)
    if not body:
        return 0
    ends = len(_SENTENCE_END.findall(body))
    if not body.isascii():
        ends += len(_WIDE_SENTENCE_END.findall(body))
    return ends + 1


def similarity(chosen: str, rejected: str, cutoff: float = 0.0) -> float:
    """Normalised Indel similarity, 2 · LCS / (len + len), in [0, 1]; below `cutoff` it is given as 0.

    difflib's ratio is at most this: it matches blocks greedily where this finds the longest common subsequence.
    """
    return Indel.normalized_similarity(chosen, rejected, score_cutoff=cutoff)


def failed_criteria(chosen: str, rejected: str, criteria: QualityCriteria) -> list[str]:
    """The criteria that the two texts fail by themselves, whoever voted."""
    failed = []
    if not chosen.strip() or not rejected.strip():
        failed.append("empty")
    limit = criteria.differ_within_characters
    if chosen == rejected or (limit is not None and chosen[:limit] == rejected[:limit]):
        failed.append("identical")
    if criteria.min_length_ratio is not None and len(chosen) <= criteria.min_length_ratio * len(rejected):
        failed.append("length_ratio")
    if criteria.max_similarity is not None and (
        similarity(chosen, rejected, criteria.max_similarity) >= criteria.max_similarity
    ):
        failed.append("similarity")
    if criteria.min_characters is not None and min(len(chosen), len(rejected)) <= criteria.min_characters:
        failed.append("too_short")
    if criteria.more_detailed and sentences(chosen) <= sentences(rejected):
        failed.append("more_detailed")
    if criteria.no_template_tokens and (_has_template_token(chosen) or _has_template_token(rejected)):
        failed.append("template_tokens")
    if criteria.no_self_naming and (_names_itself(chosen) or _names_itself(rejected)):
        failed.append("self_naming")
    return failed


def judge(preference: Preference, criteria: QualityCriteria, memory: Memory, key: int | None = None) -> Verdict:
    """The verdict on one preference, in log order; `memory` learns from it.

    Args:
        key: `pair_key` of the preference, where the caller has it already.
    """
    if preference.chosen is None or preference.rejected is None:
        return Verdict(preference.event_id, ("no_winner",))
    failed = failed_criteria(preference.chosen, preference.rejected, criteria)
    failed += _failed_by_history(preference, criteria, memory, pair_key(preference) if key is None else key)
    if not failed:
        memory.held[preference.annotator] += 1
        memory.total += 1
    return Verdict(preference.event_id, tuple(failed))


def judge_all(preferences: Iterable[Preference], criteria: QualityCriteria, memory: Memory) -> list[Verdict]:
    return [judge(preference, criteria, memory) for preference in preferences]


def _failed_by_history(preference: Preference, criteria: QualityCriteria, memory: Memory, pair: int) -> list[str]:
    failed = []
    assert preference.chosen is not None
    chosen = text_key(preference.chosen)
    key = (preference.annotator, pair)
    earlier = memory.winners.get(key)
    if earlier is None:
        memory.winners[key] = chosen
    elif earlier != chosen and criteria.no_contradiction:
        failed.append("contradiction")
    elif earlier == chosen and criteria.no_repeat:
        failed.append("repeat")
    share = criteria.max_annotator_share
    if share is not None and preference.source != "import":
        held = memory.held[preference.annotator]
        if held >= max(criteria.annotator_floor, share * (memory.total + 1)):
            failed.append("annotator_share")
    return failed


def _has_template_token(text: str) -> bool:
    return ("<" in text or "[" in text) and _TEMPLATE_TOKEN.search(text) is not None


def _names_itself(text: str) -> bool:
    return any(
        _INTRODUCTION.search(text, max(0, name.start() - 20), name.start()) for name in _MODEL_NAME.finditer(text)
    )
