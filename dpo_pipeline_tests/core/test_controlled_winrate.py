"""Length and side taken out of the win rate: by hand, against statsmodels, and by simulation."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpo_pipeline.core.controlled_winrate import (
    ControlledWinRate,
    SidedComparison,
    controlled_win_rate,
    length_controlled_win_rate,
)
from dpo_pipeline.core.winrate import Outcome

ROW = np.arange(60)
OPPOSITE: dict[Outcome, Outcome] = {"win": "loss", "loss": "win", "tie": "tie"}
OUTCOMES = st.sampled_from(["win", "loss", "tie"])


def test_position_by_hand() -> None:
    """On the left 8 of 10, on the right 6 of 10: odds 4 and 3/2, so side = ln(6)/2 and constant = ln(8/3)/2."""
    result = controlled_win_rate(_votes("left", 8, 2) + _votes("right", 6, 4))
    assert result.rate == pytest.approx(6**0.5 / (1 + 6**0.5))
    assert result.left_rate == pytest.approx((8 / 3) ** 0.5 / (1 + (8 / 3) ** 0.5))
    assert (result.raw, result.count, result.people, result.warnings) == (0.7, 20, 20, ())


def test_the_same_figures_as_statsmodels() -> None:
    """GLM(Binomial) of statsmodels 0.15.0, cov_type="cluster", on these sixty rows."""
    result = controlled_win_rate(_sixty())
    assert result.rate == pytest.approx(0.49299586769214093, abs=1e-9)
    assert result.length_effect == pytest.approx(0.023622947363523578, abs=1e-8)
    assert result.left_rate == pytest.approx(1 / (1 + np.exp(-0.027725177024081046)), abs=1e-9)
    assert result.rate is not None and result.std_error is not None
    assert result.std_error / (result.rate * (1 - result.rate)) == pytest.approx(0.12162948145603043, abs=1e-8)


@given(st.lists(st.tuples(OUTCOMES, st.booleans(), st.integers(1, 90), st.integers(1, 90)), max_size=30))
def test_the_other_model_gets_the_rest(rows: list[tuple[Outcome, bool, int, int]]) -> None:
    ours = controlled_win_rate([SidedComparison(str(i % 7), *row) for i, row in enumerate(rows)])
    theirs = controlled_win_rate(
        [
            SidedComparison(str(i % 7), OPPOSITE[outcome], not left, other, own)
            for i, (outcome, left, own, other) in enumerate(rows)
        ]
    )
    if ours.rate is None or theirs.rate is None:
        assert ours.rate == theirs.rate
    else:
        assert 0 <= ours.low <= ours.rate <= ours.high <= 1
        assert (ours.rate, ours.low) == pytest.approx((1 - theirs.rate, 1 - theirs.high), abs=1e-6)
        assert len(ours.warnings) == len(theirs.warnings)


def test_a_judge_who_counts_words_is_seen_through() -> None:
    """Two equal models, one of them longer; people like length and the left side. Nominal coverage 95 %."""
    draw = np.random.default_rng(11)
    results = [_simulate(draw) for _ in range(150)]
    rates = [result.rate for result in results if result.rate is not None]
    covered = np.mean([result.low <= 0.5 <= result.high for result in results])
    raw = np.mean([result.raw for result in results if result.raw is not None])
    print(f"raw {raw:.3f}, controlled {np.mean(rates):.3f}, coverage {covered:.1%}")
    assert len(rates) == 150
    assert raw > 0.55
    assert np.mean(rates) == pytest.approx(0.5, abs=0.01)
    assert covered >= 0.90
    assert np.mean([result.left_rate for result in results if result.left_rate is not None]) > 0.55


def test_one_person_many_times_is_no_more_certain() -> None:
    """Each vote given five times over by the same person leaves the interval where it was."""
    once = [SidedComparison(str(i), each.outcome, each.on_left, 10, 10) for i, each in enumerate(_sixty())]
    often = [vote for vote in once for _ in range(5)]
    first, second = controlled_win_rate(once), controlled_win_rate(often)
    assert first.std_error is not None
    assert second.std_error == pytest.approx(first.std_error, rel=0.05)
    spread = controlled_win_rate(
        [SidedComparison(str(i), each.outcome, each.on_left, 10, 10) for i, each in enumerate(often)]
    )
    assert spread.std_error == pytest.approx(first.std_error / 5**0.5, rel=0.05)


def test_ten_points_apart_is_a_warning() -> None:
    """The longer answer wins four times of five, whoever wrote it; the model is mostly the longer one."""
    votes = [
        SidedComparison(f"{i}-{j}", "win" if longer == (j < 8) else "loss", i % 2 == 0, *lengths)
        for i in range(8)
        for j in range(10)
        for longer, lengths in [(True, (300, 100)) if i < 6 else (False, (100, 300))]
    ]
    result = controlled_win_rate(votes)
    assert result.raw == pytest.approx(0.65)
    assert result.rate == pytest.approx(0.5)
    assert result.warnings == ("raw 65.0% and controlled 50.0% differ by more than 10 points",)


def test_votes_that_cannot_tell_give_no_rate() -> None:
    assert controlled_win_rate([]).warnings == ("no comparisons",)
    always_left = controlled_win_rate(_votes("left", 8, 2))
    assert always_left.rate is None and always_left.raw == 0.8
    assert "both sides" in always_left.warnings[0]


def test_winning_everything_stays_finite_and_says_so() -> None:
    result = controlled_win_rate(_votes("left", 20, 0) + _votes("right", 20, 0))
    assert result.rate is not None and 0.9 < result.rate < 1
    assert result.std_error is None and (result.low, result.high) == (0, 1)
    assert "won every time" in result.warnings[0]


def test_one_voice_has_no_standard_error() -> None:
    votes = [SidedComparison("alone", each.outcome, each.on_left, 10, 10) for each in _sixty()]
    result = controlled_win_rate(votes)
    assert result.std_error is None and "one voice" in result.warnings[0]


@pytest.mark.parametrize(
    "wrong",
    [SidedComparison("a", "both_bad", True, 1, 1), SidedComparison("a", "win", True, -1, 1)],  # type: ignore[arg-type]
)
def test_nonsense_is_refused(wrong: SidedComparison) -> None:
    with pytest.raises(ValueError, match="win, loss or tie"):
        controlled_win_rate([wrong])


def test_alpaca_form_by_hand() -> None:
    """Preferred 0.8 where shorter and 0.4 where longer by as much: θ = (ln 4 + ln 2/3)/2."""
    result = length_controlled_win_rate([0.8, 0.8, 0.4, 0.4], [100, 100, 300, 300], [200, 200, 200, 200])
    assert result.raw == pytest.approx(0.6)
    assert result.rate == pytest.approx((8 / 3) ** 0.5 / (1 + (8 / 3) ** 0.5))
    assert result.length_effect > 0


def test_alpaca_form_gives_the_figures_of_statsmodels() -> None:
    preferences, own, other = (ROW * 29 % 61) / 60, 40 + 37 * ROW % 211, 40 + 53 * ROW % 197
    alone = length_controlled_win_rate(preferences, own, other)
    assert alone.rate == pytest.approx(0.5009357028167526, abs=1e-9)
    assert alone.length_effect == pytest.approx(0.3140654464696289, abs=1e-8)
    # Their HC0 error of the constant is 0.15228; ours divides by n − k and adds nothing here: no spread over questions.
    assert alone.std_error == pytest.approx(0.15228028 * alone.rate * (1 - alone.rate) * (60 / 58) ** 0.5, rel=1e-6)
    harder = length_controlled_win_rate(preferences, own, other, (ROW * 11 % 17) / 4)
    assert harder.rate == pytest.approx(0.5007787044981685, abs=1e-9)


def test_without_a_length_difference_it_is_the_mean_and_its_standard_error() -> None:
    preferences = np.array([1.0, 0.0, 0.5, 1.0, 0.9])
    for difficulty in (None, [0.1] * 5):
        result = length_controlled_win_rate(preferences, [7] * 5, [7] * 5, difficulty)
        assert result.rate == pytest.approx(preferences.mean())
        assert result.std_error == pytest.approx(preferences.std(ddof=1) / 5**0.5)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=40),
    st.floats(0.1, 10),
)
def test_alpaca_form_mirrors_and_knows_no_unit(rows: list[tuple[float, int, int]], unit: float) -> None:
    preferences, own, other = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    gaps = other - own
    # Where one side is always longer by far, tanh is flat and the length cannot be told: refused, see below.
    assume(not gaps.any() or gaps.min() <= 0 <= gaps.max())
    result = length_controlled_win_rate(preferences, own, other)
    assert 0 <= result.rate <= 1
    assert length_controlled_win_rate(1 - preferences, other, own).rate == pytest.approx(1 - result.rate, abs=1e-6)
    assert length_controlled_win_rate(preferences, own * unit, other * unit).rate == pytest.approx(
        result.rate, abs=1e-6
    )


@pytest.mark.slow
def test_alpaca_form_covers_the_truth() -> None:
    """Coverage of rate ± 1.96 standard errors, with difficulties that vary from question to question."""
    draw = np.random.default_rng(13)
    every = 0.3 + 0.8 * draw.normal(size=200_000)
    truth = float((1 / (1 + np.exp(-every))).mean())
    covered = 0
    for _ in range(400):
        difficulty, own, other = draw.normal(size=200), draw.integers(50, 900, 200), draw.integers(50, 600, 200)
        gap = (other - own) / 300
        chance = 1 / (1 + np.exp(-(0.3 + 0.8 * difficulty - 1.0 * np.tanh(gap))))
        result = length_controlled_win_rate(draw.random(200) < chance, own, other, difficulty)
        assert result.std_error is not None
        covered += abs(result.rate - truth) <= 1.96 * result.std_error
    print(f"length-controlled win rate: coverage {covered / 400:.1%}")
    assert 0.92 <= covered / 400 <= 0.98


def test_alpaca_form_warns_of_ten_points_and_of_separation() -> None:
    longer = np.array([300] * 45 + [100] * 15)
    preferences = np.where(longer > 200, 0.8, 0.2)
    result = length_controlled_win_rate(preferences, longer, [200] * 60)
    assert result.rate == pytest.approx(0.5, abs=0.06) and "10 points" in result.warnings[-1]
    perfect = length_controlled_win_rate([1.0] * 60, longer, [200] * 60)
    assert perfect.rate > 0.97 and perfect.std_error is None and "won every time" in perfect.warnings[0]


@pytest.mark.parametrize(
    ("preferences", "own", "other"),
    [
        ([], [], []),
        ([0.5], [1, 2], [3]),
        ([1.5], [1], [1]),
        ([0.5], [float("nan")], [1]),
        ([0.5], [3], [1]),
        ([0.5, 0.6], [900, 901], [1, 1]),
    ],
)
def test_alpaca_form_refuses_nonsense(preferences: list[float], own: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=r"length|Preferences|broadcast"):
        length_controlled_win_rate(preferences, own, other)


def _votes(side: str, wins: int, losses: int) -> list[SidedComparison]:
    outcomes: list[Outcome] = ["win" if i < wins else "loss" for i in range(wins + losses)]
    return [SidedComparison(f"{side}-{i}", outcome, side == "left", 80, 80) for i, outcome in enumerate(outcomes)]


def _sixty() -> list[SidedComparison]:
    kinds: list[Outcome] = ["win", "tie", "loss"]
    return [
        SidedComparison(str(i % 12), kinds[(i * i + i // 3) % 3], i * 7 % 5 < 2, 40 + 37 * i % 211, 40 + 53 * i % 197)
        for i in ROW.tolist()
    ]


def _simulate(draw: np.random.Generator) -> ControlledWinRate:
    """Sixty people of differing taste, four hundred votes."""
    people, left = draw.integers(0, 60, 400), draw.random(400) < 0.5
    taste = 0.4 * draw.normal(size=60)[people]
    own, other = draw.integers(150, 500, 400), draw.integers(50, 400, 400)
    side = np.where(left, 1, -1)
    logits = 0.3 + side * (taste + 1.5 * (own - other) / (own + other))
    won = (draw.random(400) < 1 / (1 + np.exp(-logits))) == left
    return controlled_win_rate(
        [
            SidedComparison(str(who), "win" if win else "loss", bool(at_left), int(a), int(b))
            for who, win, at_left, a, b in zip(people, won, left, own, other, strict=True)
        ]
    )
