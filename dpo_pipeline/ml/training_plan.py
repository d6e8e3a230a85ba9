"""What goes into a training, gathered from settings and ledger: the dataset on disk and the job of the process."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.dataset import LabelledAnswer, Split, answer_weights
from dpo_pipeline.core.demonstration_formats import read_demonstration
from dpo_pipeline.core.questions import is_held_out, split_bank
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.votes import prompt_key, prompt_messages
from dpo_pipeline.errors import DatasetTooSmall, InvalidRecord
from dpo_pipeline.ml import llamafactory
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.sft import demonstrations
from dpo_pipeline.ml.train_process import ProcessJob
from dpo_pipeline.ml.training_job import LABELLED
from dpo_pipeline.settings import DpoRecipe, ModelSettings, Settings, SftRecipe
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import held_out_prompts, read_bank, read_edge_cases
from dpo_pipeline.stores.import_files import read_rows
from dpo_pipeline.stores.ledger import VersionRecord
from dpo_pipeline.stores.shared_artifacts import share

log = logging.getLogger(__name__)


def dataset_dir(artifacts_dir: Path, content_hash: str) -> Path:
    return artifacts_dir / "datasets" / content_hash[:16]


def write_dataset(settings: Settings, split: Split) -> Path:
    """Publish the split: TRL-ready Parquet, a LLaMA-Factory dataset, and a manifest that lists every event id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A table of no rows has no columns of itself.
    said = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    none = pa.schema([("event_id", pa.string()), ("prompt", said), ("chosen", said), ("rejected", said)])

    def fill(directory: Path) -> dict[str, Any]:
        for name, pairs in (("train", split.train), ("eval", split.eval)):
            table = pa.Table.from_pylist(training_rows(pairs), None if pairs else none)
            pq.write_table(table, directory / f"{name}.parquet")
        if split.labelled:
            pq.write_table(pa.Table.from_pylist(labelled_rows(split.labelled)), directory / LABELLED)
        llamafactory.write_dataset(directory / "llamafactory", split.train, split.labelled)
        return {
            "kind": "dataset",
            "content_hash": split.content_hash,
            "pairs": {"train": len(split.train), "eval": len(split.eval)},
            "labelled": len(split.labelled),
            "labelled_good": sum(answer.good for answer in split.labelled),
            "sources": split.sources,
            "left_out": split.left_out,
            "train_events": [pair.event_id for pair in split.train],
            "eval_events": [pair.event_id for pair in split.eval],
            "labelled_events": sorted({answer.event_id for answer in split.labelled}),
        }

    directory = dataset_dir(settings.artifacts_dir, split.content_hash)
    artifacts.publish(directory, fill)
    share(settings, directory)
    return directory


def start_version(versions: Sequence[VersionRecord], recipe: DpoRecipe, champion: str) -> VersionRecord:
    """The version whose adapter is start and reference: v1.0, or the champion, by `recipe.start_from`."""
    name = BASELINE if recipe.start_from == "sft" else champion
    return next(record for record in versions if record.name == name)


def sft_job(settings: Settings, base: BaseModel, recipe: dict[str, Any] | None = None) -> ProcessJob:
    """The first version's training, by the recipe of the settings or the one given."""
    if settings.sft.demonstrations:
        digest, path = _write_rows(settings.artifacts_dir, people_demonstrations(settings))
        facts = {"version": BASELINE, "parent": None, "dataset_hash": digest, "demonstrations_of": "files"}
        return _job(settings, "sft", base, recipe or _sft_recipe(settings.sft), facts, rows_file=str(path))
    asked, _ = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    rows = json.dumps(demonstrations(asked), sort_keys=True)
    return _job(
        settings,
        "sft",
        base,
        recipe or _sft_recipe(settings.sft),
        {"version": BASELINE, "parent": None, "dataset_hash": hashlib.sha256(rows.encode()).hexdigest()},
        bank_dir=str(settings.bank_dir),
        holdout_share=settings.collection.holdout_share,
    )


def sft_round_job(settings: Settings, base: BaseModel, start_dir: Path, rows: Sequence[dict[str, Any]]) -> ProcessJob:
    """Another SFT round on people's demonstrations, from an adapter; its result is where DPO starts then."""
    digest, path = _write_rows(settings.artifacts_dir, rows)
    recipe = _sft_recipe(settings.sft)
    facts = {"dataset_hash": digest, "demonstrations_of": "people"}
    return _job(settings, "sft", base, recipe, facts, start_dir=str(start_dir), rows_file=str(path))


def people_demonstrations(settings: Settings) -> list[dict[str, Any]]:
    """Rows for SFT of the files that the settings name; none asks what versions are judged on.

    Raises:
        UnreadableImport: a file cannot be read.
        DatasetTooSmall: less than a batch can be used; says why the others cannot.
    """
    share, refused = settings.collection.holdout_share, Counter[str]()
    cases = (each.question for each in read_edge_cases(settings.bank_dir) if is_held_out(each.question, share))
    held_out = held_out_prompts(settings) | frozenset(map(prompt_key, cases))
    rows: list[dict[str, Any]] = []
    for file in settings.sft.demonstrations:
        for _, row in read_rows(file.expanduser()):
            try:
                if isinstance(row, InvalidRecord):
                    raise row
                asked, answer = read_demonstration(row)
                if prompt_key(asked) in held_out:
                    raise InvalidRecord("versions are judged on this question")
            except InvalidRecord as error:
                refused[str(error)] += 1
                continue
            prompt = as_rows([(each.role, each.content) for each in asked])
            rows.append({"prompt": prompt, "completion": as_rows([("assistant", answer)])})
    if refused:
        log.warning("%d demonstrations were left out: %s", refused.total(), dict(refused))
    if len(rows) < settings.sft.batch_size:
        raise DatasetTooSmall(
            f"{len(rows)} demonstrations of {', '.join(map(str, settings.sft.demonstrations))} can be used "
            f"({dict(refused)} left out); a batch of {settings.sft.batch_size} is required."
        )
    return rows


def _sft_recipe(sft: SftRecipe) -> dict[str, Any]:
    """What decides how demonstrations train; which they are stands beside it."""
    return sft.model_dump(mode="json", exclude={"demonstrations"})


def _write_rows(artifacts_dir: Path, rows: Sequence[dict[str, Any]]) -> tuple[str, Path]:
    lines = "\n".join(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    path = artifacts_dir / "demonstrations" / f"{digest[:16]}.jsonl"
    artifacts.write_text(path, lines + "\n")
    return digest, path


def dpo_job(
    settings: Settings, base: BaseModel, recipe: DpoRecipe, start_dir: Path, data: Path, facts: dict[str, Any]
) -> ProcessJob:
    return _job(
        settings,
        "dpo",
        base,
        recipe.model_dump(),
        facts,
        start_dir=str(start_dir),
        dataset_dir=str(data),
        reference_cache=str(settings.artifacts_dir / "reference_logps"),
        llamafactory_command=str(settings.llamafactory.command) if recipe.trainer == "llamafactory" else "",
    )


def write_llamafactory_config(model: ModelSettings, job: ProcessJob) -> Path | None:
    """The training YAML that does the same with LLaMA-Factory, beside the training; null where it has no such loss."""
    recipe = DpoRecipe(**job.recipe)
    if not recipe.is_known_to_llamafactory:
        return None
    dataset = Path(job.dataset_dir) / "llamafactory"
    if recipe.objective == "kto" and not (dataset / "answers.jsonl").exists():
        return None  # a dataset of an earlier version of this program
    directory = Path(job.work_dir) / "llamafactory"
    manifest = artifacts.read_manifest(Path(job.dataset_dir))
    pairs, labelled, good = manifest["pairs"]["train"], manifest.get("labelled", 0), manifest.get("labelled_good", 0)
    llamafactory.write_config(
        directory,
        recipe,
        model,
        base=job.base_dir,
        start=job.start_dir,
        dataset=str(dataset),
        pairs=pairs + labelled / 2,
        output=str(directory / "output"),
        weights=answer_weights(pairs + good, pairs + labelled - good),
    )
    return directory / f"{recipe.objective}.yaml"


def _job(
    settings: Settings,
    kind: str,
    base: BaseModel,
    recipe: dict[str, Any],
    facts: dict[str, Any],
    llamafactory_command: str = "",
    **inputs: Any,
) -> ProcessJob:
    """The work directory is named by the hash of all inputs: the same job again finds what it left there."""
    model = settings.model.model_dump(mode="json")
    if model["chat_template"] is None:
        del model["chat_template"]  # as before there was such a setting: a finished training is found again
    former = {"trainer": "trl", "objective": "dpo"}  # likewise
    named = {name: value for name, value in recipe.items() if former.get(name) != value}
    key = hashlib.sha256(
        json.dumps([kind, base.sha, named, model, facts, inputs], sort_keys=True, default=str).encode()
    ).hexdigest()
    return ProcessJob(
        kind=kind,
        base_dir=str(base.directory),
        base_sha=base.sha,
        recipe=recipe,
        model=model,
        work_dir=str(settings.training_dir / f"{kind}-{key[:16]}"),
        adapters_dir=str(settings.artifacts_dir / "adapters"),
        progress_dir=str(settings.data_dir / "progress"),
        facts=facts,
        llamafactory_command=llamafactory_command,
        processes=settings.training.processes,
        **inputs,
    )


def labelled_rows(answers: Sequence[LabelledAnswer]) -> list[dict[str, Any]]:
    """Labelled answers in TRL's conversational form for KTO: prompt, completion and label."""
    return [
        {
            "event_id": each.event_id,
            "prompt": prompt_messages(each.prompt),
            "completion": as_rows([("assistant", each.answer)]),
            "label": each.good,
        }
        for each in answers
    ]


def training_rows(pairs: Any) -> list[dict[str, Any]]:
    """Pairs in TRL's conversational form: prompt, chosen and rejected as lists of messages."""
    return [
        {
            "event_id": pair.event_id,
            "prompt": prompt_messages(pair.prompt),
            "chosen": as_rows([("assistant", pair.chosen)]),
            "rejected": as_rows([("assistant", pair.rejected)]),
        }
        for pair in pairs
    ]
