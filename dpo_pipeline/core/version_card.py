"""What registry and adapter folder say of a version: description, tags, a model card in the form of Hugging Face.

From these a person can decide, load the version, and train it again.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dpo_pipeline.core.headline import Headline, verdict_headline
from dpo_pipeline.core.source_names import source_name
from dpo_pipeline.core.versions import BASELINE

RECIPE_SHOWN = (
    "objective",
    "start_from",
    "pairs",
    "loss_type",
    "loss_weights",
    "beta",
    "learning_rate",
    "epochs",
    "min_steps",
    "batch_size",
    "seed",
)


@dataclass(frozen=True)
class CardFacts:
    """All that is known of a version; null: not yet.

    `base_folder` is what `from_pretrained` takes for the base model: a folder on this machine, or a name in a hub.
    """

    name: str
    parent: str | None
    base_model: str
    base_sha: str | None
    adapter_sha: str | None
    dataset_hash: str | None
    pairs: int | None
    recipe: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    trained_at: str
    attempt: int = 1
    words: float | None = None
    demonstrations: float | None = None
    demonstrations_of: str = "bank"
    labelled: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    satisfaction: float | None = None
    deployed_at: str | None = None
    history: Sequence[str] = ()
    data_dir: str = "data"
    profile: str = "tiny"
    base_folder: str = ""
    adapter_folder: str = ""


@dataclass(frozen=True)
class CardLinks:
    """Where somebody who decides on a promotion looks further; null: there is none, or nobody knows its address."""

    evaluation: str | None = None
    curves: str | None = None
    all_runs: str | None = None
    version_page: str | None = None


def description(facts: CardFacts, links: CardLinks) -> str:
    """Markdown for the registry: what it is worth, where to look, and all that `summary` says."""
    named = (
        ("evaluation: plots, and the clearest answers it won and lost", links.evaluation),
        ("training: curves", links.curves),
        (f"{facts.name} in the loop: verdict, feedback, rollout, how to load it", links.version_page),
        ("all trainings", links.all_runs),
    )
    shown = [f"- [{name}]({address})" for name, address in named if address]
    return "\n".join([f"**{facts.name}.** {headline(facts)}", "", *shown, "", summary(facts)])


def summary(facts: CardFacts) -> str:
    """Markdown: what it is, what it learned from, how it did, what became of it."""
    task = f"has to beat **{facts.parent}**" if facts.parent else "is the SFT baseline; later versions start from it"
    lines = [f"**{facts.name}** {task}.", "", f"- {trained_on(facts)}"]
    if facts.evaluation:
        lines.append(f"- evaluation: {facts.evaluation['verdict'].replace('_', ' ')}")
        lines += [f"  - {reason}" for reason in facts.evaluation["reasons"]]
    if facts.recipe:
        lines.append(f"- recipe: {_recipe(facts.recipe)}")
    lines.append(f"- again: `{reproduce(facts)}`")
    return "\n".join(lines) + "\n\n" + _history(facts)


def tags(facts: CardFacts) -> dict[str, str]:
    """Lineage, and the user's own fields. Tags are texts; what is not known is left out."""
    known = {
        "version": facts.name,
        "attempt": facts.attempt,
        "parent": facts.parent,
        "adapter_sha": facts.adapter_sha,
        "base_sha": facts.base_sha,
        "dataset_hash": facts.dataset_hash,
        "pairs": facts.pairs,
        "type": _kind(facts),
        "base_model": facts.base_model,
        "training_date": facts.trained_at[:10],
        "training_data": trained_on(facts),
        "avg_response_length": None if facts.words is None else f"{facts.words:.1f} words",
        "improvement": _improvement(facts),
        "user_satisfaction": None if facts.satisfaction is None else f"{facts.satisfaction:.2f}",
        "deployment_date": facts.deployed_at[:10] if facts.deployed_at else None,
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def model_card(facts: CardFacts) -> str:
    """A README.md in Hugging Face's form, for the adapter's folder."""
    head = [
        "---",
        f"base_model: {facts.base_model}",
        "library_name: peft",
        "pipeline_tag: text-generation",
        f"tags: [lora, {_kind(facts)}, trl, peft]",
        "---",
        "",
        f"# {facts.name}",
        "",
    ]
    body = [summary(facts), "## What improved", "", _improved(facts), "", "## Load it", "", "```python"]
    body += [
        *_load(facts, "this folder"),
        "```",
        "",
        "## Where it came from",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in tags(facts).items()),
        "",
    ]
    return "\n".join(head + body)


def headline(facts: CardFacts) -> str:
    """What a version is worth, in one sentence, with the warning that belongs to it."""
    return _headline(facts).sentence


def warning(facts: CardFacts) -> str:
    """What whoever reads the headline alone would miss, in one sentence; empty where that is nothing."""
    return _headline(facts).warning


def _headline(facts: CardFacts) -> Headline:
    found = facts.evaluation
    if facts.name == BASELINE:
        return Headline("The first version: later ones start from it and are measured against it.")
    if facts.adapter_sha is None:
        return Headline("Not trained yet.")
    if not found:
        return Headline(f"Not evaluated against {facts.parent} yet.")
    rate, controlled = (found.get("overall") or {}).get("rate"), found.get("controlled")
    return verdict_headline(str(found["verdict"]), facts.parent, rate, controlled, found.get("controlled_error"))


def load_snippet(facts: CardFacts) -> str:
    """Python that loads a trained version from the data folder, with nothing of ours installed."""
    return "\n".join(_load(facts, facts.adapter_folder))


def reproduce(facts: CardFacts) -> str:
    """The command, from the repository's root, that trains this version again from its pinned inputs."""
    job = "build_baseline" if facts.name == BASELINE else "train_version"
    partition = f'{{"dagster/partition": "{facts.name}"}}'
    places = {"DPO_DATA_DIR": facts.data_dir, "DAGSTER_HOME": f"{facts.data_dir}/dagster", "DPO_PROFILE": facts.profile}
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in places.items())
    return f"{given} dagster job execute -m dpo_pipeline.definitions -j {job} --tags '{partition}'"


def _load(facts: CardFacts, folder: str) -> list[str]:
    """JSON writes a text as Python reads it."""
    base = json.dumps(facts.base_folder, ensure_ascii=False)
    sha_told = facts.base_sha and facts.base_folder != facts.base_model
    return [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        *([f"# The base model, sha256 {facts.base_sha}"] if sha_told else []),
        f"model = AutoModelForCausalLM.from_pretrained({base})",
        f"model = PeftModel.from_pretrained(model, {json.dumps(folder, ensure_ascii=False)})",
    ]


def trained_on(facts: CardFacts) -> str:
    """What it learned from, as the rest of a sentence."""
    if facts.name == BASELINE:
        count = "" if facts.demonstrations is None else f"{facts.demonstrations:.0f} "
        source = "from files" if facts.demonstrations_of == "files" else "of the question bank"
        return f"tuned on {count}demonstrations {source}"
    labelled = f" and {facts.labelled} labelled answers" if facts.labelled else ""
    pairs = "unknown" if facts.pairs is None else facts.pairs
    return f"trained on {pairs} preference pairs{labelled}, dataset `{str(facts.dataset_hash)[:12]}`{_sources(facts)}"


def _sources(facts: CardFacts) -> str:
    """Where it comes from."""
    names = {source: source_name(source).many for source in facts.sources}
    told = ", ".join(f"{name[0].lower()}{name[1:]}: {facts.sources[source]}" for source, name in names.items())
    return f" ({told})" if told else ""


def _kind(facts: CardFacts) -> str:
    return "sft" if facts.name == BASELINE else str((facts.recipe or {}).get("objective", "dpo"))


def _recipe(recipe: dict[str, Any]) -> str:
    # KTO has a loss of its own.
    ignored = ("loss_type", "loss_weights") if recipe.get("objective") == "kto" else ()
    shown = [key for key in RECIPE_SHOWN if recipe.get(key) is not None and key not in ignored]
    return ", ".join(f"{key} {recipe[key]}" for key in shown)


def _improvement(facts: CardFacts) -> str | None:
    rate = ((facts.evaluation or {}).get("overall") or {}).get("rate")
    return None if rate is None else f"win rate {rate:.1%} over {facts.parent}"


def _improved(facts: CardFacts) -> str:
    if facts.parent is None:
        return "It is the first version; later ones are measured against it."
    if not facts.evaluation:
        return "It was not evaluated yet."
    rows = ["| questions | win rate over the parent |", "|---|---|"]
    rows += [f"| {name} | {rate['rate']:.1%} |" for name, rate in facts.evaluation.get("by_category", {}).items()]
    words = (facts.evaluation.get("words", 0.0), facts.evaluation.get("parent_words", 0.0))
    return "\n".join(rows) + f"\n\nAnswers have {words[0]:.1f} words, the parent's {words[1]:.1f}."


def _history(facts: CardFacts) -> str:
    return "\n".join(["Rollout:", "", *(f"- {line}" for line in facts.history)]) if facts.history else ""
