"""What a person said: one line of the preference log, as a typed value.

Decoding is strict: a line is either a whole `Preference` or an `InvalidRecord` with the reason.
Reading and writing files belongs to `stores.log`; judging pairs to `core.quality`.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from dpo_pipeline.core.identity import Identity, is_proven
from dpo_pipeline.core.template_tokens import defuse
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import InvalidRecord

Category = Literal["factual_qa", "comparison", "creative", "problem_solving", "explanation", "other"]
Vote = Literal["a", "b", "tie", "both_bad"]
Letter = Literal["a", "b"]
Choice = Literal["left", "right", "tie", "both_bad"]
"""A vote as it is given: of sides, before it is known which version stood where."""
Source = Literal["ui", "api", "import", "simulated", "synthetic"]
Strength = Literal["slightly", "much"]
ReasonTag = Literal["accurate", "complete", "clear", "style", "safe"]
STRENGTH_LABELS: dict[Strength, str] = {"slightly": "slightly better", "much": "much better"}
TAG_LABELS: dict[ReasonTag, str] = {
    "accurate": "more accurate",
    "complete": "more complete",
    "clear": "clearer",
    "style": "better written",
    "safe": "safer",
}
Text = Annotated[str, msgspec.Meta(min_length=1)]
# Years that every calendar and time zone can reckon with.
_MOMENT = re.compile(r"(?:19|20|21)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)\Z")
NOT_PEOPLES = ("import", "synthetic")
"""Sources of pairs on which nobody voted here."""


# `gc=False`: these values cannot form cycles, and a million of them need not be looked through for any.
class Message(msgspec.Struct, frozen=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(msgspec.Struct, frozen=True, omit_defaults=False, gc=False):
    """How both answers were drawn; all null for imported pairs."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


class VoteReason(msgspec.Struct, frozen=True, gc=False):
    """Why somebody voted so, where they said it.

    `strength` is how much better the chosen answer is, `tags` what it has over the other, `words` the person's own.
    """

    strength: Strength | None = None
    tags: tuple[ReasonTag, ...] = ()
    words: str = ""

    def __str__(self) -> str:
        strength = [STRENGTH_LABELS[self.strength]] if self.strength else []
        words = [f"“{self.words}”"] if self.words else []
        return ", ".join([*strength, *(TAG_LABELS[tag] for tag in self.tags), *words])


NO_REASON = VoteReason()


class Preference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of `prefs.jsonl`. The field table is in the guide, "The preference log"."""

    event_id: Text
    schema: Literal[1] = 1
    recorded_at: Text
    comparison_id: Text
    session_id: str
    prompt: str | list[Message]
    category: Category
    model_a: Text
    model_b: Text
    response_a: str
    response_b: str
    vote: Vote
    chosen: str | None = None
    rejected: str | None = None
    chosen_model: str | None = None
    rejected_model: str | None = None
    left: Letter
    annotator: Text
    source: Source
    sampling: Sampling = Sampling()
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    prompt_ratio: Annotated[float, msgspec.Meta(gt=0)] | msgspec.UnsetType = msgspec.UNSET
    """How many times as likely as by an even draw this question was to be drawn; absent: as likely, or not drawn."""
    scores: tuple[float, float] | msgspec.UnsetType = msgspec.UNSET
    """Of the answers a and b, as the source of an imported pair had them, in its own unit."""
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    """Who vouches for the annotator; absent in votes from before that was recorded."""
    steered: bool = False
    """No evidence on the versions: the annotator named them, a seed or how answers are drawn, and so may know whose
    answer is whose; or equal answers were drawn again, warmer than production draws."""
    asked_by: str | msgspec.UnsetType = msgspec.UNSET
    """The pseudonym of whoever wrote the question; absent where it is nobody's, as those of the bank."""
    strength: Strength | msgspec.UnsetType = msgspec.UNSET
    reason_tags: tuple[ReasonTag, ...] | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def why(self) -> VoteReason:
        return VoteReason(self.strength or None, self.reason_tags or (), self.reason or "")

    @property
    def likelihood(self) -> float:
        """How likely it was that this was asked for, up to a factor that is the same for all questions."""
        return self.propensity * (self.prompt_ratio or 1.0)

    @property
    def from_people(self) -> bool:
        """Somebody voted here: not brought in from elsewhere, not made by the loop itself."""
        return self.source not in NOT_PEOPLES

    @property
    def is_proven(self) -> bool:
        """It counts as evidence, as far as that hangs on whose it is; so does one from before that was recorded."""
        return is_proven(self.identity)

    @property
    def is_anonymous(self) -> bool:
        return self.identity == "anonymous"


_decoder = msgspec.json.Decoder(Preference)
_encoder = msgspec.json.Encoder()


def decode_preference(line: bytes) -> Preference:
    """Parse one log line (UTF-8 JSON, without its newline).

    Raises:
        InvalidRecord: not UTF-8, not JSON, a field is missing or of the wrong kind, or the
            chosen and rejected texts are not those that the vote names.
    """
    try:
        preference = _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise InvalidRecord(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.MsgspecError as error:
        raise InvalidRecord(str(error)) from error
    if not is_moment(preference.recorded_at):
        raise InvalidRecord("recorded_at is no moment in RFC 3339, UTC, such as 2026-01-01T12:00:00Z")
    p = preference
    expected = outcome(p.vote, p.response_a, p.response_b, p.model_a, p.model_b)
    if (p.chosen, p.rejected, p.chosen_model, p.rejected_model) != expected:
        raise InvalidRecord(
            f"vote {p.vote!r} does not agree with chosen and rejected: they must be the response and model "
            "that the vote names, and null for a tie or both_bad"
        )
    return preference


def is_moment(text: str) -> bool:
    """Whether it is a moment as every record has it, RFC 3339 in UTC: such texts compare like their moments."""
    if not _MOMENT.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def encode_preference(preference: Preference) -> bytes:
    """One line without its newline; JSON escapes newlines inside texts, so the line is one line."""
    return _encoder.encode(preference)


def outcome_for(vote: Vote, is_a: bool) -> Outcome:
    """A vote as the outcome of one of its two versions; both_bad is none, and is left out before."""
    return "tie" if vote == "tie" else "win" if (vote == "a") == is_a else "loss"


def outcome(
    vote: Vote, response_a: str, response_b: str, model_a: str, model_b: str
) -> tuple[str | None, str | None, str | None, str | None]:
    """(chosen, rejected, chosen_model, rejected_model); four nulls where nobody won."""
    if vote == "a":
        return response_a, response_b, model_a, model_b
    if vote == "b":
        return response_b, response_a, model_b, model_a
    return None, None, None, None


def prompt_messages(prompt: str | Sequence[Message]) -> list[dict[str, str]]:
    """The prompt as chat messages, the form that chat templates take, with no turn's mark inside a text."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": defuse(prompt)}]
    return [{"role": message.role, "content": defuse(message.content)} for message in prompt]


def prompt_text(prompt: str | Sequence[Message]) -> str:
    """The prompt as one text: what is hashed, compared and shown."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def prompt_key(prompt: str | Sequence[Message]) -> str:
    """Identity of a question for splits: 16 hex digits, blind to case and white space.

    Of a conversation it is that of what the person asked last: a question that is held out stays so whatever was said
    before it.
    """
    if not isinstance(prompt, str):
        prompt = next((each.content for each in reversed(prompt) if each.role == "user"), prompt_text(prompt))
    text = " ".join(prompt.casefold().split())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def pair_key(preference: Preference) -> int:
    """Identity of (prompt, the two answers whichever way round): a signed 64-bit integer.

    SHA-256, because processors have instructions for it and these are the longest texts we hash.
    """
    first, second = preference.response_a, preference.response_b
    if second < first:
        first, second = second, first
    prompt = prompt_text(preference.prompt)
    data = f"{len(prompt)}:{len(first)}:{prompt}{first}{second}".encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def text_key(text: str) -> int:
    """A signed 64-bit digest of an event id or an answer, cheap to look up in a million rows."""
    return line_key(text.encode())


def line_key(line: bytes) -> int:
    """The same of a whole line of the log, without its newline: it tells whether the line was changed since."""
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little", signed=True)
