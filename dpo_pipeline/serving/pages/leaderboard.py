"""How strong the versions are, by all votes: scores with intervals, head-to-head, votes per pair."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpo_pipeline.core.leaderboard import (
    MIN_VOTES,
    Leaderboard,
    PairCount,
    Standings,
    StyleBoard,
    WinMatrix,
    at_equal_style,
    standings,
)
from dpo_pipeline.core.matchmaking import WeightedRate
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.markup import Markup, heading, intervals, page, paragraph, table
from dpo_pipeline.serving.pages.polling import following
from dpo_pipeline.serving.pages.versions import link_to
from dpo_pipeline.serving.services.tally import ALL, BattleFilter

REFRESH_S = 15.0
EMPTY = "No votes yet: open the A/B test page, read two answers and choose one. The scores appear here by themselves."
EXPLAINED = (
    "Bradley-Terry scores: 400 points mean odds of ten to one, the average is 1000. The line is the 95 % interval; "
    "where two lines overlap widely, the votes do not tell the two apart yet. A tie is half a win to each side."
)


NONE_OF_THESE = "No votes between two versions match these filters. Widen them."
FILTERED = (
    "Votes that match the filters, of those that count: of one person, the first ones on the same two versions "
    "(rollout.votes_per_person)."
)
CATEGORIES_OFFERED = [("All", ""), *((name.replace("_", " ").capitalize(), name) for name in (*CATEGORIES, "other"))]
WHOSE = [("Everybody", ""), ("People", "people"), ("Simulated people", "simulated")]
DAYS = [("The beginning", 0), ("30 days ago", 30), ("7 days ago", 7), ("Today", 1)]


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    with gr.Row():
        filters = [
            gr.Dropdown(choices, value=choices[0][1], label=label, filterable=False, min_width=130, elem_id=name)
            for name, label, choices in (
                ("of-category", "Category", CATEGORIES_OFFERED),
                ("of-whom", "Votes of", WHOSE),
                ("of-days", "Since", DAYS),
            )
        ]
    shown = gr.HTML(page(paragraph("Counting the votes…", "muted")), elem_id="leaderboard")

    def look(wish: Sequence[Any], request: object) -> str:
        tally = serving().tally.refresh()
        category, whose, days = wish
        wanted = BattleFilter(category or None, whose or None, days or None)
        found = standings(tally.battles(wanted))
        styled = at_equal_style(found, tally.styled()) if wanted == ALL else None  # it is of all votes
        return _page(found, styled, tally.reweighted(), wanted)

    following(shown, look, REFRESH_S, filters)


def _page(
    found: Standings, styled: StyleBoard | None, reweighted: Mapping[str, WeightedRate], wanted: BattleFilter
) -> str:
    if wanted != ALL:
        reweighted = {}  # it is of all votes
    if not found.pairs:
        return page(paragraph(EMPTY if wanted == ALL else NONE_OF_THESE, "notice"), _itself(found))
    parts = [] if wanted == ALL else [paragraph(FILTERED, "muted")]
    parts.append(paragraph(found.trouble, "notice") if found.trouble else _scores(found, styled))
    if found.matrix:
        parts.append(_matrix(found.matrix))
    if reweighted:
        parts.append(_against_all(reweighted))
    return page(*parts, _pairs(found.pairs), _itself(found))


def _scores(found: Standings, styled: StyleBoard | None) -> Markup:
    board = found.board
    assert isinstance(board, Leaderboard)
    told, rows = [], []
    for place, (name, strength) in enumerate(board.strengths.items(), start=1):
        score, low, high = strength.elo
        doubt = f" (fewer than {MIN_VOTES} votes)" if name in found.few else ""
        told.append((name, low, score, high, f"{score:.0f}  ({low:.0f} to {high:.0f})"))
        rank = f"{strength.rank}" if strength.rank == place else f"{strength.rank} (tied)"
        row = [link_to(name), f"{score:.0f}", f"{low:.0f} to {high:.0f}", rank, f"{strength.votes}{doubt}"]
        if styled:
            score, low, high = styled.scores[name]
            row[3:3] = [f"{score:.0f}  ({low:.0f} to {high:.0f})"]
        rows.append(row)
    head = ["Version", "Score", "95 % interval", *(["At equal style"] if styled else []), "Rank", "Votes"]
    numbers = (1, 2, 3, 5) if styled else (1, 2, 4)
    used = table("The same in numbers", head, rows, numbers)
    explained = EXPLAINED + (_style(styled) if styled else "")
    plot = intervals("Scores with their intervals", told, mark=1000.0)
    count = f"{board.votes} votes used, {board.left_out} left out (both bad)."
    return Markup(heading("Scores") + plot + paragraph(explained, "muted") + used + paragraph(count, "muted"))


def _style(styled: StyleBoard) -> str:
    """What style was worth to people, in the votes so far."""
    odds, low, high = styled.odds_of_twice_the_length
    told = f"wins at odds of {odds:.2g} to 1 (95 % interval {low:.2g} to {high:.2g})"
    return (
        " At equal style: the scores that are left when the length and the formatting of answers may not speak. An "
        f"answer twice as long as an equally good one {told}."
    )


def _matrix(matrix: WinMatrix) -> Markup:
    def cell(row: int, column: int) -> str:
        if row == column:
            return ""
        rate = matrix.rates[row][column]
        return "not compared" if rate is None else f"{rate:.0%} of {matrix.votes[row][column]}"

    rows = [
        (f"{name} wins over", *(cell(row, column) for column in range(len(matrix.names))))
        for row, name in enumerate(matrix.names)
    ]
    numbers = tuple(range(1, len(matrix.names) + 1))
    caption = "Win rate of the row over the column, and the number of votes behind it"
    return Markup(heading("Head-to-head") + table(caption, ["Version", *matrix.names], rows, numbers))


def _against_all(reweighted: Mapping[str, WeightedRate]) -> Markup:
    rows = [
        (
            name,
            "" if rate.rate is None else f"{rate.rate:.0%}",
            "" if rate.std_error is None else f"± {2 * rate.std_error:.0%}",
            f"{rate.effective:.0f}",
        )
        for name, rate in sorted(reweighted.items(), key=lambda item: -(item[1].rate or 0.0))
    ]
    caption = "Win rate against all others, as if every pair had been shown equally often"
    head = ["Version", "Wins", "Two standard errors", "Effective votes"]
    return Markup(heading("Against all others") + table(caption, head, rows, (1, 2, 3)))


def _pairs(pairs: tuple[PairCount, ...]) -> Markup:
    rows = [
        (
            f"{each.model_a} and {each.model_b}",
            each.wins_a,
            each.wins_b,
            each.ties,
            each.both_bad,
            each.wins_a + each.wins_b + each.ties + each.both_bad,
        )
        for each in pairs
    ]
    head = ["Versions", "First wins", "Second wins", "Ties", "Both bad", "Votes"]
    return Markup(heading("Votes per pair") + table("Every vote between two versions", head, rows, (1, 2, 3, 4, 5)))


def _itself(found: Standings) -> Markup:
    count = found.against_itself
    said = f"{count} votes compared two answers of the same version; they are used for training, not ranking."
    return paragraph(said, "muted") if count else Markup("")
