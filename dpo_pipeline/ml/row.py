"""One answer under way in the running batch."""

import random
from dataclasses import dataclass, field


@dataclass(eq=False)
class Row:
    """One answer under way. Temperature 0 is greedy; every row has random numbers of its own."""

    prompt: list[int]
    adapter: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def done(self) -> bool:
        return self.stopped or len(self.tokens) >= self.max_tokens
