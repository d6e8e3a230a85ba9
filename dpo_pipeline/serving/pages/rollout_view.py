"""The rollout page as HTML: the track of stages, each rule against its limit, the A/B test, forecast and history."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import as_read
from dpo_pipeline.core.rollout import STAGES, VersionMetrics, next_stage, state_of
from dpo_pipeline.in_words import hours
from dpo_pipeline.serving.pages.markup import Markup, chip, heading, page, paragraph, sentence, table, text
from dpo_pipeline.serving.pages.markup_plots import against_limit, bar, intervals
from dpo_pipeline.serving.pages.rollout_forecast import forecast_part
from dpo_pipeline.serving.pages.version_link import linked
from dpo_pipeline.serving.services.rollout_watch import RolloutSnapshot

NO_VOTES = "No votes yet: compare two answers on the A/B test page."
OF_STATE = {"OK": "ok", "watching": "watching", "triggered": "triggered", "no data yet": "none"}


def now_page(live: RolloutSnapshot) -> str:
    """The track, and what the version waits for."""
    if live.state.champion is None:
        return page(
            paragraph("No version is served yet: the first one is being built. This page updates itself.", "notice")
        )
    return page(_now(live))


def evidence_page(live: RolloutSnapshot, zone: ZoneInfo) -> str:
    """The rules, the A/B test, what was measured, who answers, and the forecast."""
    return page(_rules(live, zone), _ab_test(live), _metrics(live, zone), _servers(live), forecast_part(live))


def waits_for(live: RolloutSnapshot) -> str:
    """One sentence: where the version is and what it waits for."""
    state = live.state
    if not live.under_way:
        serves = f"{state.champion} answers everybody" if state.champion else "the first one is not ready yet"
        watched = f" {live.new} is watched all the time." if state.stage else ""
        return (
            f"No version is being rolled out: {serves}.{watched} A version that is trained "
            "and evaluated as better appears here automatically."
        )
    who = f"{state.challenger} has been in {state.stage} for {hours(live.hours_in_stage)}"
    if live.newest is None:
        return f"{who}; the first check comes within minutes."
    if state.paused:
        return f"{who} and is paused by a person. {live.newest.reasons[0]}."
    if live.newest.evidence.get("asked"):
        return (
            f"{who} and is waiting for you. Nothing counts against it, and what remains cannot be ruled out: "
            f"{'; '.join(live.newest.reasons[1:])}. Promote or abort it below."
        )
    return f"{who} and is waiting: {'; '.join(live.newest.reasons)}."


def _now(live: RolloutSnapshot) -> Markup:
    parts = [_track(live) if live.under_way else Markup("")]
    asked = live.newest is not None and live.newest.evidence.get("asked")
    parts.append(paragraph(linked(waits_for(live)), "notice asks" if asked else "notice"))
    if live.under_way:
        plan = live.plan
        kept = f"Assigned by {plan.unit}; these rules were fixed when the rollout began."
        if live.changed_settings:
            kept += f" Settings changed since ({', '.join(live.changed_settings)}): they apply to the next rollout."
        parts.append(paragraph(kept, "muted"))
    return Markup("".join(parts))


def _track(live: RolloutSnapshot) -> Markup:
    """The stages as a track: those that are over, the present one with how far it is, those to come."""
    present, steps = STAGES.index(str(live.state.stage)), ""
    for place, stage in enumerate(STAGES):
        kind = "done" if place < present else "now" if place == present else "to-come"
        least = live.hours_of(stage)
        traffic = getattr(live.plan.policy, stage).traffic
        share = f"{traffic:.0%} of {live.plan.unit}s" if traffic else "shadow copies and A/B test"
        reached = live.reached.get(stage)
        if place == present:
            took = f"{hours(live.hours_in_stage)} of at least {hours(least)}" if least else hours(live.hours_in_stage)
            took += ", paused" if live.state.paused else ""
            fill = bar(min(live.hours_in_stage / least, 1.0), f"{took}") if least else Markup("")
        else:
            ended = reached and reached.ended
            took = f"took {hours((ended - reached.began).total_seconds() / 3600)}" if reached and ended else ""
            took = took or (f"at least {hours(least)}" if least else "until decided" if place == 0 else "stays")
            fill = Markup("")
        current = ' aria-current="step"' if place == present else ""
        steps += (
            f'<li class="{kind}"{current}><b>{stage}</b><span>{text(share)}</span><span>{text(took)}</span>{fill}</li>'
        )
    return Markup(f'<ol class="stage-track" aria-label="Stages of {text(live.state.challenger)}">{steps}</ol>')


def _rules(live: RolloutSnapshot, zone: ZoneInfo) -> Markup:
    """Each rule for rolling the version back, judged twice."""
    if live.judged is None:
        return Markup("")
    evidence = live.judged.evidence
    cards = "".join(f"<li>{_rule(each)}</li>" for each in evidence["conditions"])
    full = next_stage(str(evidence["stage"])) is None
    since = "that day of full traffic began" if full else "the rollout began, shadow copies included"
    seen = paragraph(
        f"As the newest decision saw them, in {evidence['stage']}, {as_read(live.judged.decided_at, zone)}.", "muted"
    )
    explained = paragraph(
        "The dot is the measured value, the line its interval, the mark the limit. Triggered: there is evidence "
        "beyond the limit, and the version is rolled back. Watching: beyond it without evidence; the version is held. "
        f"Intervals are of all that the rollout gave to {live.new} since {since}; each {live.plan.unit} counts once. "
        "The control is as large a group, drawn from those who stayed with the baseline.",
        "muted",
    )
    return Markup(heading("What it is rolled back for") + seen + f'<ul class="rules">{cards}</ul>' + explained)


def _rule(each: Mapping[str, Any]) -> Markup:
    state = state_of(each["literal"], each["evidence"])
    found, needs, plot = each.get("interval"), each.get("needs"), Markup("")
    if found and found.get("axis"):
        share = found["unit"] == "share"
        plot = against_limit(found["axis"], found["low"], found["point"], found["high"], found["limit"], share)
    return Markup(
        f'<div class="rule"><b>{text(each["name"])}</b>{chip(state, OF_STATE[state])}</div>'
        f"<p>{text(each['message'])}</p>{paragraph(sentence(needs)) if needs else ''}{plot}"
        f"{paragraph(sentence(each['test_message']), 'muted')}"
    )


def _ab_test(live: RolloutSnapshot) -> Markup:
    """Both readings of the same votes; the one that decides is named."""
    if not (live.new and live.baseline):
        return Markup("")
    apart = f": {live.votes}" if live.votes.simulated else ""
    told = linked(f"{live.votes.total} votes between {live.new} and {live.baseline} in the log{apart}.")
    votes = paragraph(told, "muted")
    found = readings(live.ab)
    if not found:
        waits = "No decision has counted these votes yet; the next one in staging does."
        missing = paragraph(waits if live.votes.total else NO_VOTES, "notice")
        return Markup(heading("A/B test") + missing + votes + _uncounted(live))
    rows = [
        (name, rate["low"], rate["rate"], rate["high"], f"{rate['rate']:.1%} [{rate['low']:.0%}, {rate['high']:.0%}]")
        for name, rate in found
    ]
    plot = intervals(f"Win rate of {live.new} over {live.baseline}", rows, mark=0.5, bounds=(0.0, 1.0), share=True)
    why = f" Deciding: {live.ab['reading']}, because {live.ab['why']}." if live.ab and "reading" in live.ab else ""
    explained = paragraph(
        f"Win rate of {live.new} over {live.baseline}, as the newest decision in staging saw it. The thin line is "
        "50 %: the test is decided when the whole deciding interval lies on one side of it, even without the person "
        f"who favours the new version most.{why}",
        "muted",
    )
    return Markup(heading("A/B test") + plot + explained + votes + _uncounted(live))


def _uncounted(live: RolloutSnapshot) -> Markup:
    """Why some of the votes in the log are no evidence, as the newest decision saw it."""
    said = live.newest.evidence.get("uncounted") if live.newest else ""
    return paragraph(f"{said}.", "muted") if said else Markup("")


def readings(ab: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, win rate) of each reading that has votes; decisions from before both were kept hold one."""
    if not ab:
        return []
    if "reading" not in ab:
        return [("win rate", ab)] if ab.get("rate") is not None else []
    names = [
        ("panel: these people", ab["panel"]),
        ("population: people like them", ab["population"]),
        ("without the strongest voter", ab["without"]),
    ]
    return [(name, rate) for name, rate in names if rate.get("rate") is not None]


def _metrics(live: RolloutSnapshot, zone: ZoneInfo) -> Markup:
    if not (live.new and live.baseline):
        return Markup("")
    new, baseline = live.metrics[live.new], live.metrics[live.baseline]
    span = f"this {live.state.stage} stage" if live.under_way else "this day of full traffic"
    caption = f"Since {span} began, {as_read(str(live.since), zone)}"
    head = ["Figure", linked(f"{live.new}, new"), linked(f"{live.baseline}, baseline")]
    told = paragraph(
        "All that anybody asked in this time, without shadow copies. The rules above count otherwise: over the whole "
        "rollout, with shadow copies, and only what the rollout assigned.",
        "muted",
    )
    return Markup(heading("Measured") + table(caption, head, measured(new, baseline), numbers=(1, 2)) + told)


def measured(new: VersionMetrics, baseline: VersionMetrics) -> list[tuple[str, object, object]]:
    def both(name: str, shown: Any) -> tuple[str, object, object]:
        return name, shown(new), shown(baseline)

    return [
        both("Requests", lambda each: _apart(each.requests, each.simulated_requests)),
        both("Error rate", lambda each: "no data" if each.error_rate is None else f"{each.error_rate:.2%}"),
        both("Crash rate", lambda each: "no data" if each.crash_rate is None else f"{each.crash_rate:.2%}"),
        both("p99 latency", lambda each: "no data" if each.p99_ms is None else f"{each.p99_ms:.0f} ms"),
        both("Ratings", lambda each: _apart(each.ratings, each.simulated_ratings)),
        both("Satisfaction, of 5", lambda each: "no data" if each.satisfaction is None else f"{each.satisfaction:.2f}"),
    ]


def _apart(count: int, simulated: int) -> str:
    if not simulated:
        return f"{count:,}"
    return f"{count:,}, {'all' if simulated == count else f'{simulated:,} of them'} simulated"


def _servers(live: RolloutSnapshot) -> Markup:
    """What the servers hold that answers are forwarded to."""
    if not live.servers:
        return Markup("")
    rows = [
        (
            server.url,
            "it does not say" if server.holds is None else ", ".join(server.holds) or "nothing",
            chip("not reachable", "triggered") if not server.reachable else
            chip("trouble", "watching") if server.trouble else chip("OK", "ok"),
            f"{server.lost:,}",
        )
        for server in live.servers
    ]  # fmt: skip
    troubles = [
        paragraph(f"{server.url}: {server.trouble}", "notice trouble") for server in live.servers if server.trouble
    ]
    head = ["Server", "Holds", "State", "Asked again"]
    caption = "Asked again: requests for a version that the server had lost, answered once it was back"
    return Markup(heading("Model servers") + "".join(troubles) + table(caption, head, rows, numbers=(3,)))
