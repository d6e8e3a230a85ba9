"""The loop at a glance: five steps from votes to rollout, what happens at this moment, and what comes next.

Pages, `dpo status` and the terminal of `dpo up` show this value; nothing else puts the state of the loop into words.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from dpo_pipeline.core.headline import verdict_headline
from dpo_pipeline.core.lifecycle import RETRIED, Status
from dpo_pipeline.core.loop_facts import LoopFacts
from dpo_pipeline.core.progress import STILL_S, first_version
from dpo_pipeline.core.versions import BASELINE, VersionRecord, next_version
from dpo_pipeline.in_words import duration, rough_hours, spoken

StepName = Literal["Votes", "Valid pairs", "Training", "Evaluation", "Rollout"]
StepState = Literal["open", "working", "waiting", "ready", "done", "stuck"]
UNREAD_S = 600.0
"""Votes are read within a minute or two; so long none was, whatever reads them does not run."""
LONG_S = 6 * 3600
"""So long the reference of a large model may take before the first step; what reports nothing for longer is lost."""
WORK = {"base_model": "base model", "sft": "tuning on demonstrations", "dpo": "training on preferences"}
"""What a task does; the last one by whichever objective the recipe has."""


@dataclass(frozen=True)
class Step:
    """One part of the strip: a figure, a sentence, how far it is (of 1; null: nothing to fill), the live loss, the
    version that it is about, and where MLflow has it: its run, and the number of its registered version.
    """

    name: StepName
    state: StepState
    figure: str
    said: str
    share: float | None = None
    losses: tuple[float, ...] = ()
    version: str | None = None
    mlflow_run: str | None = None
    mlflow_version: str | None = None


@dataclass(frozen=True)
class Overview:
    """`happening` and `next` are sentences: what is going on, and what comes then and why it waits."""

    steps: tuple[Step, ...]
    happening: str
    next: str


def overview(facts: LoopFacts) -> Overview:
    steps = (_votes(facts), _valid_pairs(facts), _training(facts), _evaluation(facts), _rollout(facts))
    return Overview(steps, happening(facts), what_next(facts))


def happening(facts: LoopFacts) -> str:
    """What goes on at this moment."""
    served = facts.served
    if served.champion is None:
        return first_version(facts.tasks, None, facts.now)
    if served.challenger and served.stage:
        share = f"{served.traffic:.0%} of the traffic" if served.traffic else "A/B test, and copies that nobody sees"
        serving = f"{served.challenger} is in {served.stage} ({share})" + (", paused" if served.paused else "")
    else:
        serving = f"{served.champion} answers everybody"
    record, training, judging = facts.in_training, facts.training, facts.judging
    work = f"; {record.name} is being trained" if record else ""
    work += f", {training}" if training else ""
    work += f"; {facts.versions[-1].name} is being evaluated, {judging}" if judging else ""
    return f"{serving}{work}."


def what_next(facts: LoopFacts) -> str:
    """What comes after what is happening, and what it waits for."""
    served, cadence = facts.served, facts.cadence
    if served.champion is None:
        return "Then people can chat, compare two answers and vote."
    newest = facts.versions[-1]
    upcoming = next_version([record.name for record in facts.versions])
    if (said := _unfinished(newest, facts)) is not None:
        return said
    missing = cadence.threshold - cadence.unused
    needs = f"{upcoming} needs {missing:,} more valid pairs ({cadence.unused:,} of {cadence.threshold:,})"
    if served.challenger:
        left = f", {rough_hours(served.left_h)} at the earliest" if served.left_h else ""
        waits = f"waits for the rollout of {served.challenger}{left}"
        if missing <= 0:
            return f"{upcoming}: {cadence.unused:,} valid pairs are ready; it {waits}."
        return f"{needs} and {waits}."
    if cadence.due:
        return f"{upcoming} is due: {cadence.unused:,} valid pairs are ready, and its training starts soon."
    if missing > 0:
        return f"{needs}."
    return f"{upcoming} waits: {cadence.reason}."


def _unfinished(newest: VersionRecord, facts: LoopFacts) -> str | None:
    """What follows for a version between its training and its rollout; null where that is over."""
    name, attempts = newest.name, f"attempt {newest.attempt} of {facts.max_attempts}"
    if newest.status == Status.TRAINING:
        return f"{name} ({attempts}) is then evaluated" + (f" against {newest.parent}." if newest.parent else ".")
    if newest.status == Status.TRAINED and newest.parent:
        return f"{name} is trained and is evaluated against {newest.parent} next."
    if newest.status == Status.IMPROVED:
        return f"{name} is better than {newest.parent} and is registered next; then its rollout begins."
    if newest.status == Status.REGISTERED:
        return f"{name} is registered; its rollout begins next."
    if newest.status in RETRIED:
        found = spoken(newest.status)
        if newest.attempt >= facts.max_attempts:
            return f"{name} came out {found}, and that was its last attempt; what to collect is worked out next."
        return f"{name} came out {found} ({attempts}); it is trained again with one thing changed."
    return None


def _votes(facts: LoopFacts) -> Step:
    summary = facts.summary
    lost = f" {summary.quarantined:,} lines could not be read." if summary.quarantined else ""
    brought = f", {summary.brought_in:,} imported" if summary.brought_in else ""
    apart = f"{summary.voted}{brought}. " if summary.simulated or brought else ""
    # The A/B test page counts each vote at once.
    newer = " Newer ones are counted once they are read." if facts.unread_s else ""
    said = f"{apart}From the A/B test page, your product and imports.{newer}{lost}"
    return Step("Votes", "open" if facts.served.champion else "waiting", f"{summary.recorded:,}", said)


def _valid_pairs(facts: LoopFacts) -> Step:
    summary, cadence = facts.summary, facts.cadence
    feedback = f", {cadence.from_feedback:,} of them from feedback" if cadence.from_feedback else ""
    said = f"{cadence.unused:,} are not used yet{feedback}; {cadence.threshold:,} start a training."
    if summary.rejected:
        said += f" {summary.rejected:,} did not pass a check."
    share = min(cadence.unused / cadence.threshold, 1.0)
    state: StepState = "ready" if share == 1.0 else "waiting"
    if facts.unread_s > UNREAD_S:
        state = "stuck"
        said = f"Votes have waited for {duration(facts.unread_s)} to be read: is Dagster running? `dpo up` starts it."
    return Step("Valid pairs", state, f"{summary.valid:,}", said, share)


def _training(facts: LoopFacts) -> Step:
    task, record = facts.training, facts.in_training
    if task is None and record:
        quiet_s = facts.now - datetime.fromisoformat(record.updated_at).timestamp()
        if quiet_s > LONG_S:
            said = f"It was begun {duration(quiet_s)} ago and reports no step. Look at the runs in Dagster."
            return Step("Training", "stuck", record.name, said, version=record.name)
        said = "It is being prepared or checked: no step is under way."
        return Step("Training", "working", record.name, said, version=record.name)
    if task is None:
        trained = [each for each in facts.versions if each.adapter_sha]
        if not trained:
            return Step("Training", "waiting", "none yet", "The first version is tuned on demonstrations.")
        last = trained[-1]
        pairs = f" on {last.pairs:,} pairs" if last.pairs else " on demonstrations" if last.name == BASELINE else ""
        return _about(last, Step("Training", "done", last.name, f"Last trained{pairs}; nothing is being trained now."))
    version = record.name if record else None
    still = facts.now - task.updated
    name = record.name if record else BASELINE if task.task == "sft" else WORK[task.task]
    if still > STILL_S:
        said = f"{task}, but nothing has moved for {duration(still)}. Look at the runs in Dagster."
        return Step("Training", "stuck", name, said, task.step / task.total, task.losses, version, task.mlflow_run)
    loss = f" Loss {task.metrics['loss']:.3g}." if "loss" in task.metrics else ""
    said = f"{WORK[task.task].capitalize()}, {task}.{loss}"
    return Step("Training", "working", name, said, task.step / task.total, task.losses, version, task.mlflow_run)


def _about(version: VersionRecord, step: Step) -> Step:
    return replace(step, version=version.name, mlflow_run=version.mlflow_run, mlflow_version=version.mlflow_version)


def _evaluation(facts: LoopFacts) -> Step:
    newest = facts.versions[-1] if facts.versions else None
    if newest and (task := facts.judging):
        said = f"Against {newest.parent} on held-out questions, {task}."
        return _about(newest, Step("Evaluation", "working", newest.name, said, task.step / task.total))
    judged = [record for record in facts.versions if record.evaluation]
    if not judged:
        said = "A new version must beat the one that serves on questions that neither was trained on."
        return Step("Evaluation", "waiting", "none yet", said)
    last = judged[-1]
    told = last.evaluation or {}
    by_length = told.get("controlled"), told.get("controlled_error")
    found = verdict_headline(str(told.get("verdict", last.status)), last.parent, last.win_rate, *by_length)
    return _about(last, Step("Evaluation", "done", last.name, found.sentence))


def _rollout(facts: LoopFacts) -> Step:
    served = facts.served
    if served.champion is None:
        return Step("Rollout", "waiting", "none yet", "No version serves yet.")
    if not (served.challenger and served.stage):
        return Step("Rollout", "done", served.champion, "It answers everybody.", 1.0, version=served.champion)
    left = f" Full traffic in {rough_hours(served.left_h)} at the earliest." if served.left_h else ""
    paused = " A person paused it." if served.paused else ""
    said = f"In {served.stage}: {served.traffic:.0%} of the traffic; {served.champion} has the rest.{left}{paused}"
    state: StepState = "waiting" if served.paused else "working"
    return Step("Rollout", state, served.challenger, said, served.traffic, version=served.challenger)
