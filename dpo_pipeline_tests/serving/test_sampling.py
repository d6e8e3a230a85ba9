"""How answers are drawn where nobody says it."""

from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.services.sampling import Defaults
from dpo_pipeline.settings import Collection, Generation


def test_another_answer_to_the_same_is_drawn_warmer_unless_production_is_warmer_still() -> None:
    cool = Defaults(Generation(temperature=0.03, top_p=0.5), Collection(temperature=0.9, top_p=0.95), 64)
    once, again = cool.chat(Sampling(seed=1)), cool.chat(Sampling(seed=1), again=True)
    assert (once.temperature, once.top_p) == (0.03, 0.5)
    assert (again.temperature, again.top_p, again.max_tokens, again.seed) == (0.9, 0.95, 64, 1)
    assert cool.chat(Sampling(temperature=0.2), again=True).temperature == 0.2, "what was asked for"
    warm = Defaults(Generation(temperature=1.2), Collection(temperature=0.9), 64)
    assert warm.chat(Sampling(), again=True).temperature == 1.2
