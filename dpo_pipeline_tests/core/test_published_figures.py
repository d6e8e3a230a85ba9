"""The same figures as others published from real votes. The data are not part of the project: without them, skip."""

import json
import time
from collections import defaultdict
from typing import Any

import pytest

from dpo_pipeline.core.agreement import agreement, flip_rate, krippendorff_alpha, position_bias
from dpo_pipeline.core.controlled_winrate import length_controlled_win_rate
from dpo_pipeline.core.leaderboard import PairCount, bradley_terry, percentile_interval, win_matrix
from dpo_pipeline.core.winrate import Outcome, win_rate
from dpo_pipeline_tests.examples import SHARED_DATA

OUTCOME_OF_B: dict[str, Outcome] = {"model_a": "loss", "model_b": "win", "tie": "tie"}
PUBLISHED_VICUNA = {  # rival: (its total, Vicuna-13B's total)
    "alpaca-13b": (583, 704),
    "bard": (664, 655.5),
    "gpt35": (693, 638),
    "llama-13b": (513, 694),
}


def test_arena_strengths_of_a_million_and_a_half_votes() -> None:
    counts = [
        PairCount(row["model_a"], row["model_b"], row["wins_a"], row["wins_b"], row["ties"], row["ties_bothbad"])
        for row in _rows("battle_counts_chatbot_arena_20240814")
    ]
    started = time.process_time()
    board = bradley_terry(counts)
    took_s = time.process_time() - started
    print(f"{board.votes} votes, {len(board.strengths)} models: {board.mean_nll:.4f} nats a vote, {took_s:.3f} s")
    assert board.votes + board.left_out == 1_670_250 and len(board.strengths) == 129
    assert board.mean_nll == pytest.approx(0.6554, abs=5e-5)
    assert took_s < 1
    matrix = win_matrix(counts, names=list(board.strengths))
    assert sum(map(sum, matrix.votes)) == 2 * board.votes


def test_arena_percentile_intervals() -> None:
    rows = _rows("arena_bootstrap_20k_votes")
    assert len(rows) == 20
    for row in rows:
        assert percentile_interval(row["results"], alpha=0.05) == pytest.approx((row["lower"], row["upper"]), abs=1e-6)


def test_pandalm_annotators() -> None:
    votes = [row["votes"] for row in _rows("battles_pandalm_human")]
    first, second, third = (list(column) for column in zip(*votes, strict=True))
    kappas = [agreement(*pair).kappa for pair in ((first, second), (first, third), (second, third))]
    assert kappas == pytest.approx([0.852, 0.879, 0.862], abs=5e-4)
    alpha = krippendorff_alpha(votes)
    assert alpha.alpha == pytest.approx(sum(kappa or 0 for kappa in kappas) / 3, abs=0.002)
    assert alpha.low is not None and alpha.low > 0.8


def test_vicuna_totals_and_order() -> None:
    rows = [row for row in _rows("battles_vicuna80_gpt4") if row["model_b"] == "vicuna-13b"]
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        totals[row["model_a"]][0] += row["score_a"]
        totals[row["model_a"]][1] += row["score_b"]
    assert {name: tuple(found) for name, found in totals.items()} == PUBLISHED_VICUNA
    board = bradley_terry([(row["model_a"], row["model_b"], row["winner"]) for row in rows])
    order = [name for name in board.strengths if name != "bard"]
    assert order == ["gpt35", "vicuna-13b", "alpaca-13b", "llama-13b"]
    # Bard has the higher total and yet loses more questions than it wins: 30 to 40.
    bard = win_rate([OUTCOME_OF_B[row["winner"]] for row in rows if row["model_a"] == "bard"])
    assert (bard.wins, bard.losses, bard.ties) == (40, 30, 10)


def test_length_does_not_explain_vicuna_away() -> None:
    """Its answers are mostly longer than either rival's: that flatters it, and decides neither contest."""
    rows = [row for row in _rows("battles_vicuna80_gpt4") if row["model_b"] == "vicuna-13b"]
    for rival, better in (("gpt35", False), ("llama-13b", True)):
        battles = [row for row in rows if row["model_a"] == rival]
        preferences = [{"model_a": 0.0, "tie": 0.5, "model_b": 1.0}[row["winner"]] for row in battles]
        result = length_controlled_win_rate(
            preferences, [row["len_b"] for row in battles], [row["len_a"] for row in battles]
        )
        print(f"vicuna-13b against {rival}: raw {result.raw:.3f}, length-controlled {result.rate:.3f}")
        assert (result.rate > 0.5) == (result.raw > 0.5) == better
        assert result.rate < result.raw and result.length_effect < 0


def test_phi3_against_its_own_dpo_version() -> None:
    rows = [row for row in _rows("battles_phi3_dpo_mtbench_gpt4") if row["winner"] in OUTCOME_OF_B]
    result = win_rate([OUTCOME_OF_B[row["winner"]] for row in rows])
    assert (result.wins, result.losses, result.ties) == (20, 18, 35)
    assert result.rate == pytest.approx(0.514, abs=5e-4)
    assert result.low < 0.5 < result.high


def test_phi3_judge_prefers_whichever_came_first() -> None:
    """Both orders were judged: of the pairs decided twice, 18 changed with the order, 16 of them to the first."""
    rows = [row for row in _rows("battles_phi3_dpo_mtbench_gpt4") if row["winner"] in OUTCOME_OF_B]
    flips = flip_rate([(_ANSWER[row["g1_winner"]], _ANSWER[row["g2_winner"]]) for row in rows])
    assert flips.decided_twice == 56 and flips.agreement == pytest.approx(38 / 56)
    bias = position_bias([_FIRST[row["g1_winner"]] for row in rows] + [_SECOND[row["g2_winner"]] for row in rows])
    assert bias.left_share is not None and bias.left_share > 0.6


_ANSWER: dict[str, Any] = {"model_1": "a", "model_2": "b", "tie": "tie"}
_FIRST: dict[str, Any] = {"model_1": "left", "model_2": "right", "tie": "tie"}
_SECOND: dict[str, Any] = {"model_1": "right", "model_2": "left", "tie": "tie"}


def _rows(name: str) -> list[dict[str, Any]]:
    path = SHARED_DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not here; these checks need the published votes")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
