"""Draws of the next token: from the nucleus, in its proportions, whatever the vocabulary's size and its neighbours."""

from collections import Counter

import pytest
import torch  # noqa: TID253  (tensors are what is sampled from)

from dpo_pipeline.ml.row import Row
from dpo_pipeline.ml.sampler import BLOCK, Sampler

DRAWS = 4_000


def row(temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> Row:
    return Row([], None, temperature, top_p, 10, seed)


def drawn(scores: torch.Tensor, one: Row) -> Counter[int]:
    sampler = Sampler([one], "cpu")
    return Counter(int(sampler(scores)) for _ in range(DRAWS))


def scores_of(shares: dict[int, float], size: int) -> torch.Tensor:
    """Everything else is impossible."""
    scores = torch.full((1, size), -torch.inf)
    for token, share in shares.items():
        scores[0, token] = torch.tensor(share).log()
    return scores


@pytest.mark.parametrize("size", [7, BLOCK, 3 * BLOCK, 3 * BLOCK + 5])
def test_tokens_come_as_often_as_they_are_likely_and_no_others(size: int) -> None:
    wanted = {1: 0.5, size // 2: 0.3, size - 2: 0.2}
    found = drawn(scores_of(wanted, size), row())
    assert found.keys() == wanted.keys()
    for token, share in wanted.items():
        assert found[token] / DRAWS == pytest.approx(share, abs=0.03), token


def test_the_nucleus_is_the_fewest_likeliest_that_hold_top_p() -> None:
    scores = scores_of({3: 0.4, 600: 0.3, 1200: 0.2, 1300: 0.1}, 1500)
    assert drawn(scores, row(top_p=0.75)).keys() == {3, 600, 1200}, "with two it would hold 0.7"
    half = drawn(scores, row(top_p=0.6))
    assert half.keys() == {3, 600} and half[3] / DRAWS == pytest.approx(4 / 7, abs=0.03)
    assert drawn(scores, row(top_p=0.01)).keys() == {3}


def test_temperature_sharpens_and_nought_takes_the_likeliest() -> None:
    scores = scores_of({5: 0.6, 900: 0.4}, 1000)
    assert drawn(scores, row(temperature=0.0)).keys() == {5}
    sharp = drawn(scores, row(temperature=0.5))
    assert sharp[5] / DRAWS == pytest.approx(0.36 / 0.52, abs=0.03)


def test_each_row_draws_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    scores = 3 * torch.randn(4, 2 * BLOCK + 1)
    settings = [(1.0, 1.0, 1), (0.7, 0.9, 2), (0.0, 1.0, 3), (1.3, 0.5, 4)]
    together = Sampler([row(*each) for each in settings], "cpu")
    alone = [Sampler([row(*each)], "cpu") for each in settings]
    for _ in range(50):
        assert together(scores).flatten().tolist() == [int(one(scores[i : i + 1])) for i, one in enumerate(alone)]


def test_of_very_many_tokens_a_seed_draws_the_same_again() -> None:
    torch.manual_seed(1)
    scores = torch.randn(1, 262_144)
    first, again = Sampler([row(0.7, 0.95, 8)], "cpu"), Sampler([row(0.7, 0.95, 8)], "cpu")
    tokens = [int(first(scores)) for _ in range(30)]
    assert tokens == [int(again(scores)) for _ in range(30)] and len(set(tokens)) > 10
