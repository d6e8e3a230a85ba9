"""How strong the versions are, by all votes: scores with intervals, head-to-head, votes per pair."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from dpo_pipeline.core.leaderboard import (
    MIN_STYLE_VOTES,
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
from dpo_pipeline.core.questions import CATEGORIES, category_label
from dpo_pipeline.core.source_names import source_name
from dpo_pipeline.core.votes import NOT_PEOPLES, Source
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.markup import Markup, heading, opening, page, paragraph, table
from dpo_pipeline.serving.pages.markup_plots import intervals
from dpo_pipeline.serving.pages.polling import following
from dpo_pipeline.serving.pages.select import select
from dpo_pipeline.serving.pages.version_link import link_to
from dpo_pipeline.serving.services.counts import BattleFilter
from dpo_pipeline.serving.services.tally import ALL

REFRESH_S = 15.0
EMPTY = "No votes yet: open the A/B test page, read two answers and choose one. The scores appear here by themselves."
ONLY_ITSELF = "No votes between two versions yet: the scores appear here once people compare two of them."
EXPLAINED = (
    "Bradley-Terry scores: 400 points mean odds of ten to one, the average is 1000. The line is the 95 % interval; "
    "where two lines overlap widely, the votes do not tell the two apart yet. A tie is half a win to each side."
)
AGAINST_ALL = (
    " Wins against all others: as if every pair had been shown equally often, with two standard errors and how many "
    "votes that is worth."
)
NONE_OF_THESE = "No votes between two versions match these filters. Widen them."
FILTERED = (
    "Votes that match the filters, of those that count: of one person, the first ones on the same two versions "
    "(rollout.votes_per_person)."
)
OF_ALL_VOTES = (
    "Scores at equal style and win rates against all others are counted over all votes only: clear the filters to see "
    "them."
)
FEW_FOR_STYLE = f"Scores at equal style need at least {MIN_STYLE_VOTES} votes."
CATEGORIES_OFFERED = [("All", ""), *((category_label(name), name) for name in (*CATEGORIES, "other"))]
WHOSE = [("Everybody", ""), ("People", "people"), ("Simulated people", "simulated")]
SOURCES = [("All", ""), *((source_name(each).one, each) for each in get_args(Source) if each not in NOT_PEOPLES)]
DAYS = [("The beginning", ""), ("30 days ago", "30"), ("7 days ago", "7"), ("Today", "1")]


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    with gr.Row():
        filters = [
            select(choices, label=label, elem_id=name)
            for name, label, choices in (
                ("of-category", "Category", CATEGORIES_OFFERED),
                ("of-whom", "Votes of", WHOSE),
                ("of-source", "Source", SOURCES),
                ("of-days", "Since", DAYS),
            )
        ]
    shown = gr.HTML(page(paragraph("Counting the votes…", "muted")), elem_id="leaderboard")

    def look(wish: Sequence[Any], request: object) -> str:
        tally = serving().tally.refresh()
        category, whose, source, days = wish
        wanted = BattleFilter(category or None, whose or None, source or None, int(days) if days.isdecimal() else None)
        found = standings(tally.battles(wanted))
        if wanted != ALL:
            return filtered_page(found, wanted, serving().settings.time_zone)
        return whole_page(found, at_equal_style(found, tally.styled()), tally.reweighted())

    following(shown, look, REFRESH_S, filters)


def whole_page(found: Standings, styled: StyleBoard | None, reweighted: Mapping[str, WeightedRate]) -> str:
    """Of all votes."""
    if not found.pairs:
        return page(paragraph(ONLY_ITSELF if found.against_itself else EMPTY, "notice"), _itself(found))
    return page(*_standings(found, styled, reweighted, "" if styled else FEW_FOR_STYLE))


def filtered_page(found: Standings, wanted: BattleFilter, zone: str) -> str:
    """Of some votes.

    Args:
        zone: in which days begin at midnight.
    """
    since = f" Days begin at midnight in {zone}." if wanted.days else ""
    if not found.pairs:
        return page(paragraph(f"{NONE_OF_THESE}{since}", "notice"), _itself(found))
    return page(paragraph(f"{FILTERED}{since}", "muted"), *_standings(found, None, {}, OF_ALL_VOTES))


def _standings(
    found: Standings, styled: StyleBoard | None, reweighted: Mapping[str, WeightedRate], missing: str
) -> list[Markup]:
    """
    Args:
        missing: why columns are missing.
    """
    if isinstance(found.board, Leaderboard):
        parts = [
            _scores(found, found.board, styled, reweighted),
            paragraph(missing, "muted") if missing else Markup(""),
        ]
    else:
        parts = [paragraph(found.trouble, "notice")]
    if found.matrix:
        parts.append(_matrix(found.matrix))
    return [*parts, _pairs(found.pairs), _itself(found)]


def _scores(
    found: Standings, board: Leaderboard, styled: StyleBoard | None, reweighted: Mapping[str, WeightedRate]
) -> Markup:
    """The plot, and one table of all that is known of each version."""
    told, rows = [], []
    shared = Counter(strength.rank for strength in board.strengths.values())
    for name, strength in board.strengths.items():
        score, low, high = strength.elo
        told.append((name, low, score, high, f"{score:.0f}"))
        rank = f"{strength.rank} (tied)" if shared[strength.rank] > 1 else f"{strength.rank}"
        row: list[object] = [link_to(name), rank, f"{score:.0f}", f"{low:.0f} to {high:.0f}"]
        if styled:
            score, low, high = styled.scores[name]
            row.append(f"{score:.0f}  ({low:.0f} to {high:.0f})")
        if reweighted:
            row.append(_against_all(reweighted[name]) if name in reweighted else "")
        doubt = f" (fewer than {MIN_VOTES})" if name in found.few else ""
        rows.append([*row, f"{strength.votes:,}{doubt}"])
    head = ["Version", "Rank", "Score", "95 % interval", *(["At equal style"] if styled else [])]
    head += [*(["Wins against all others"] if reweighted else []), "Votes"]
    caption = f"{board.votes:,} votes used, {board.left_out:,} left out (both bad)"
    explained = EXPLAINED + (_style(styled) if styled else "") + (AGAINST_ALL if reweighted else "")
    plot = intervals("Scores with their intervals", told, mark=1000.0)
    used = table(caption, head, rows, tuple(range(2, len(head))))
    return Markup(heading("Scores") + plot + used + paragraph(explained, "muted"))


def _against_all(rate: WeightedRate) -> str:
    if rate.rate is None:
        return ""
    error = "" if rate.std_error is None else f" ± {2 * rate.std_error:.0%}"
    return f"{rate.rate:.0%}{error} of {rate.effective:.0f}"


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
    return opening("Head-to-head", table(caption, ["Version", *matrix.names], rows, numbers))


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
    return opening("Votes per pair", table("Every vote between two versions", head, rows, (1, 2, 3, 4, 5)))


def _itself(found: Standings) -> Markup:
    count = found.against_itself
    said = f"{count:,} votes compared two answers of the same version; they are used for training, not ranking."
    return paragraph(said, "muted") if count else Markup("")
