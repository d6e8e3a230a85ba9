"""Is this pair good enough to train on, and if not, why.

The four criteria of the user, those beyond them, and those that look at earlier votes. A result
lists every criterion that failed, in the order of `CRITERIA`; it is empty for a valid pair. It is
reached in two steps: `vote_features` looks at one vote alone, so that votes can be read side by side, and
`validate` at what was voted before, in log order. Where pairs are stored, and what is done with the
refused ones, belongs elsewhere.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import regex
from rapidfuzz.distance import Indel

from dpo_pipeline.core.admission import LONGEST_TEXT
from dpo_pipeline.core.template_tokens import has_template_token
from dpo_pipeline.core.votes import Preference, pair_key
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
    "anonymous_share": "people whom nobody vouches for already hold the largest share of valid pairs they may together",
}

# A terminator ends a sentence before white space or a closing mark, so "3.5" and "example.com" end
# none; those of other scripts always do. One pattern a terminator: these run on every text of every
# vote, and a pattern that begins with one certain character is looked for several times faster.
_FULL_STOP, _EXCLAMATION, _QUESTION = (re.compile(re.escape(mark) + r"(?=[\s\"')\]*_])") for mark in ".!?")
# Of all other scripts, Unicode's own property without Burmese's comma, and what it leaves out: marks of Tibetan,
# Hebrew, Sinhala and Greek, and the doubled colon of Ethiopic.
_OTHER_MARKS = r"[[\p{Sentence_Terminal}…།༎׃෴\u037e]--[.!?၊]]"
_OTHER_END = regex.compile(rf"(?:{_OTHER_MARKS}(?:\s*[།༎])*|፡፡)+", regex.V1)
_CLOSING = "”’»›“‘」』）】"
# Behind a Latin terminator, a closing mark of another kind; or the next sentence at once, as in Chinese and Japanese.
_CLOSED_END = regex.compile(rf"[.!?](?=[{_CLOSING}\p{{Han}}\p{{Hiragana}}\p{{Katakana}}])")
# Typed with the keys that are there: Greek's question mark and Armenian's full stop.
_GREEK_QUESTION, _ARMENIAN_STOP = (
    regex.compile(rf"(?<=\p{{{each}}}){mark}(?=\s)") for each, mark in (("Greek", ";"), ("Armenian", ":"))
)
_AFTER_LAST = regex.compile(rf"(?r)(?:[\s\"')\]*_…།༎׃෴፡;:{_CLOSING}]|\p{{Sentence_Terminal}})+\Z")
# Thai and Lao have no terminator and leave a space; one beside a sign of repetition means nothing.
_THAI = r"[\u0e00-\u0e45\u0e47-\u0ec5\u0ec7-\u0eff]"
_THAI_SPACE = re.compile(rf"(?<={_THAI})\s+(?={_THAI})")
_UNSPACED = re.compile(r"[\u0e00-\u0eff]")
_TRAILING = " \t\r\n\"')]*_.!?"
# A model's name, then the look back for who says it: names are rare in texts, "I am" is not. `_HINTS`
# are what every name holds, by first letter for the same reason as above.
_HINTS = {hint[0]: re.compile(hint) for hint in ("G(?:PT|emini)", "Claude", "Bard", "Qwen", "L(?:lama|LaMA)",
                                                 "Vicuna", "Open ?Assistant", r"v\d")}  # fmt: skip
_MODEL_NAME = re.compile(
    r"ChatGPT|GPT|Gemini|Claude|Bard|Qwen|Llama|LLaMA|Vicuna|Open ?Assistant|chat-v\d|Chat-v\d|v\d+\.\d"
)
_INTRODUCTION = re.compile(r"\b(?:i am|i['’]m|my name is|this is)\s+(?:the\s+)?\Z", re.IGNORECASE)


class VoteFeatures(msgspec.Struct, frozen=True, gc=False):
    """One vote, as far as a validation result needs it once its texts were looked at.

    `pair` is the `pair_key`, and `first_won` whether the answer that sorts first won: both null where
    nobody won. `failed` are the criteria that the vote fails by itself. `anonymous`: nobody vouches for the annotator.
    """

    annotator: str
    source: str
    pair: int | None
    first_won: bool | None
    failed: tuple[str, ...]
    anonymous: bool = False


@dataclass
class ValidationHistory:
    """What earlier votes a validation result may depend on; the caller loads it, `validate` keeps it up to date.

    `winners` maps (annotator, pair key) to `first_won` of this person's first vote on the pair; `held`
    counts the valid pairs of each annotator, `anonymous` those of all whom nobody vouches for.
    """

    winners: dict[tuple[str, int], bool] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    total: int = 0
    anonymous: int = 0


def sentences(text: str) -> int:
    """Number of sentences; the last one counts with or without its terminator."""
    body = text.rstrip(_TRAILING) if text.isascii() else _AFTER_LAST.sub("", text)
    if not body:
        return 0
    ends = len(_FULL_STOP.findall(body))
    if "!" in body:
        ends += len(_EXCLAMATION.findall(body))
    if "?" in body:
        ends += len(_QUESTION.findall(body))
    if not body.isascii():
        ends += len(_OTHER_END.findall(body)) + len(_CLOSED_END.findall(body)) + len(_THAI_SPACE.findall(body))
        if ";" in body or ":" in body:
            ends += len(_GREEK_QUESTION.findall(body)) + len(_ARMENIAN_STOP.findall(body))
    return ends + 1


def more_detailed(chosen: str, rejected: str) -> bool:
    """Whether the chosen answer has more sentences; of Thai and Lao written without any space, more characters."""
    of_chosen, of_rejected = sentences(chosen), sentences(rejected)
    if of_chosen == of_rejected == 1 and _UNSPACED.search(chosen) and _UNSPACED.search(rejected):
        return len(chosen) > len(rejected)
    return of_chosen > of_rejected


def similarity(chosen: str, rejected: str, cutoff: float = 0.0) -> float:
    """Normalised Indel similarity, 2 · LCS / (len + len), in [0, 1]; below `cutoff` it is given as 0.

    difflib's ratio is at most this: it matches blocks greedily where this finds the longest common subsequence.
    """
    shorter, both = min(len(chosen), len(rejected)), len(chosen) + len(rejected)
    if 2 * (shorter + 1) < cutoff * both:
        return 0.0  # However alike: LCS is at most the shorter length. One more keeps rounding out of it.
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
    # No door lets longer texts in, but a log may hold some of before: two of 1 MB take minutes.
    heads = chosen[:LONGEST_TEXT], rejected[:LONGEST_TEXT]
    if criteria.max_similarity is not None and similarity(*heads, criteria.max_similarity) >= criteria.max_similarity:
        failed.append("similarity")
    if criteria.min_characters is not None and min(len(chosen), len(rejected)) <= criteria.min_characters:
        failed.append("too_short")
    if criteria.more_detailed and not more_detailed(chosen, rejected):
        failed.append("more_detailed")
    if criteria.no_template_tokens and (has_template_token(chosen) or has_template_token(rejected)):
        failed.append("template_tokens")
    if criteria.no_self_naming and _names_itself(chosen, rejected):
        failed.append("self_naming")
    return failed


def vote_features(preference: Preference, criteria: QualityCriteria) -> VoteFeatures:
    """What one vote is worth by itself; needs no other vote."""
    p = preference
    if p.chosen is None or p.rejected is None:
        return VoteFeatures(p.annotator, p.source, None, None, ("no_winner",), p.is_anonymous)
    failed = failed_criteria(p.chosen, p.rejected, criteria)
    return VoteFeatures(p.annotator, p.source, pair_key(p), p.chosen <= p.rejected, tuple(failed), p.is_anonymous)


def validate(ballot: VoteFeatures, criteria: QualityCriteria, memory: ValidationHistory) -> tuple[str, ...]:
    """Every criterion that the vote fails, none for a valid pair. Call it in log order: `memory` learns from it."""
    if ballot.pair is None or ballot.first_won is None:
        return ballot.failed
    failed = ballot.failed
    key = (ballot.annotator, ballot.pair)
    earlier = memory.winners.get(key)
    if earlier is None:
        memory.winners[key] = ballot.first_won
    elif earlier != ballot.first_won and criteria.no_contradiction:
        failed += ("contradiction",)
    elif earlier == ballot.first_won and criteria.no_repeat:
        failed += ("repeat",)
    share = criteria.max_annotator_share
    if share is not None and ballot.source != "import":
        most = max(criteria.annotator_floor, share * (memory.total + 1))
        failed += ("annotator_share",) if memory.held[ballot.annotator] >= most else ()
    together = criteria.max_anonymous_share
    if together is not None and ballot.anonymous and memory.anonymous + 1 > together * (memory.total + 1):
        failed += ("anonymous_share",)
    if not failed:
        memory.held[ballot.annotator] += 1
        memory.total += 1
        memory.anonymous += ballot.anonymous
    return failed


def names_a_model(text: str) -> bool:
    """Whether whoever speaks says which model it is."""
    return _hints_at_a_model(text) and _introduces_a_model(text)


def _names_itself(chosen: str, rejected: str) -> bool:
    hinted = _hints_at_a_model(f"{chosen}\n{rejected}")
    return hinted and (_introduces_a_model(chosen) or _introduces_a_model(rejected))


def _hints_at_a_model(text: str) -> bool:
    return any(initial in text and hint.search(text) for initial, hint in _HINTS.items())


def _introduces_a_model(text: str) -> bool:
    return any(
        _INTRODUCTION.search(text, max(0, name.start() - 20), name.start()) for name in _MODEL_NAME.finditer(text)
    )
