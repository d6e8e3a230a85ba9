"""What two or more versions shall answer, and where it comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dpo_pipeline.core.admission import cannot_be_asked, check_messages
from dpo_pipeline.core.answers import Messages
from dpo_pipeline.core.questions import AskedQuestion, Origin
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.serving.services.comparison_views import Prompt
from dpo_pipeline.serving.services.paired_answers import Again
from dpo_pipeline.stores.serving_state import StoredComparison


@dataclass(frozen=True)
class ComparisonPrompt:
    """What two or more versions shall answer. `origin` is where it was drawn from; null: somebody asks it now.

    `asked_by` is the person who, in production, asked it or the question that it follows; `ratio` is how many times as
    likely as by an even draw it was drawn. `answered` is a pair that is there already; then nothing is generated.
    `otherwise` draws another one, where two answers to this one stay equal; null: it is this one that somebody wants
    answered, be the answers equal or not.
    """

    prompt: Prompt
    category: str
    models: tuple[str, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    origin: Origin | None = None
    asked_by: str = ""
    ratio: float = 1.0
    answered: StoredComparison | None = None
    otherwise: "Callable[[], ComparisonPrompt] | None" = field(default=None, compare=False)

    @classmethod
    def drawn(cls, question: AskedQuestion, models: tuple[str, ...] | None = None) -> "ComparisonPrompt":
        origin, asked_by, ratio = question.origin, question.asked_by, question.ratio
        return cls(question.question, question.category, models, origin=origin, asked_by=asked_by, ratio=ratio)

    @property
    def is_steered(self) -> bool:
        """Whoever asks named the versions or how answers are drawn: they may know whose answer is whose."""
        return self.models is not None or self.sampling != Sampling()

    @property
    def drawn_again(self) -> Again:
        """How two equal answers to it are drawn again."""
        if self.sampling.seed is not None:
            return "never"
        return "warmer" if self.sampling.temperature is None else "alike"

    @property
    def messages(self) -> Messages:
        if isinstance(self.prompt, str):
            return (("user", self.prompt),)
        return tuple((message["role"], message["content"]) for message in self.prompt)


def check_question(question: ComparisonPrompt) -> None:
    check_messages(question.messages)
    if refused := cannot_be_asked(question.messages):
        raise InvalidRequest(f"{refused.capitalize()}; ask something that two versions can answer.")
