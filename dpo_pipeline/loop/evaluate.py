"""Is a trained version better than its parent: judge both, record the verdict, say what to change where it is not."""

from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from dpo_pipeline.core.diagnosis import Diagnosis
from dpo_pipeline.core.judged_examples import clearest
from dpo_pipeline.core.lifecycle import RECORDED, Status
from dpo_pipeline.core.verdict import EvaluationVerdict, evaluate
from dpo_pipeline.core.versions import BASELINE, check_is_later
from dpo_pipeline.loop.attempts import conclude, diagnosis_of
from dpo_pipeline.loop.calls import Call, here
from dpo_pipeline.loop.describe import card_facts, describe
from dpo_pipeline.loop.recorded_adapter import adapter_folder
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.eval_set import build_eval_set
from dpo_pipeline.ml.evaluation import AdapterRef, judge_versions
from dpo_pipeline.ml.training_plan import dataset_dir
from dpo_pipeline.reports.evaluation_page import evaluation_page
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.ledger import Ledger, VersionRecord, utc_now
from dpo_pipeline.stores.progress import ProgressFile
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.shared_artifacts import fetch


@dataclass(frozen=True)
class Evaluated:
    """An evaluation. `recorded` is false for a version that was accepted on an earlier one, which stays."""

    candidate: VersionRecord
    parent: VersionRecord
    verdict: EvaluationVerdict
    diagnosis: Diagnosis | None
    page: Path
    recorded: bool


def evaluate_version(settings: Settings, ledger: Ledger, registry: Registry, name: str, call: Call = here) -> Evaluated:
    """Both versions answer the same held-out questions; the judge compares, `core.verdict` decides.

    Raises:
        ArtifactMissing: v1.0 has no earlier version to be compared with.
        EvaluationLeaked: the version was trained on a question that gates.
        ForbiddenTransition: the version was given up.
        RegistryError: MLflow does not answer or refuses; the verdict is recorded.
    """
    check_is_later(name)
    report, begun_at = ProgressFile(settings.data_dir / "progress", "eval"), utc_now()
    candidate = ledger.version(name)
    parent = ledger.version(candidate.parent or BASELINE)
    pairs = candidate.dataset_hash
    data = fetch(settings, dataset_dir(settings.artifacts_dir, pairs)) if pairs else None
    asked, base = build_eval_set(settings, data), locate_base(settings)
    both = _adapter_ref(settings, candidate), _adapter_ref(settings, parent)
    first = None if parent.name == BASELINE else _adapter_ref(settings, ledger.version(BASELINE))
    answers, measured = call(judge_versions, settings, base, *both, asked, report, None, first)
    verdict = evaluate(answers, settings.evaluation, measured, settings.cadence.max_attempts)
    again = candidate.status in RECORDED
    if again:
        diagnosis = None if verdict.improved else diagnosis_of(settings, candidate)
    else:
        evaluation = asdict(verdict) | {"begun_at": begun_at}
        candidate = ledger.record_evaluation(name, Status(verdict.verdict), verdict.overall.rate, evaluation)
        # At once: whatever fails below, the last attempt was the last.
        diagnosis = conclude(settings, ledger, candidate)
    page = settings.reports_dir / "evaluation" / f"{name}-attempt{candidate.attempt}{'-again' if again else ''}.html"
    embedded = settings.model.base == "embedded"
    write_text(page, evaluation_page(name, parent.name, verdict, answers, diagnosis, embedded))
    write_text(page.with_suffix(".json"), msgspec.json.encode(clearest(answers)).decode())
    if candidate.mlflow_run and not again:
        registry.log_evaluation(candidate.mlflow_run, page, asdict(verdict), figures(verdict))
        # How long its answers are was measured too.
        describe(settings, registry, parent, card_facts(settings, ledger, parent.name))
    return Evaluated(ledger.version(name), parent, verdict, diagnosis, page, not again)


def figures(verdict: EvaluationVerdict) -> dict[str, float]:
    """The numbers of a verdict, flat: what Dagster and MLflow draw over versions."""
    drift, safety, trust = verdict.measured.drift, verdict.measured.safety, verdict.measured.trust
    found: dict[str, float | None] = {
        "win_rate": verdict.overall.rate,
        "win_rate_low": verdict.overall.low,
        "win_rate_high": verdict.overall.high,
        "win_rate_at_equal_lengths": verdict.controlled,
        "length_ratio": verdict.length_ratio,
        "kl_per_token": drift.kl_per_token if drift else None,
        "chosen_shift": drift.chosen_shift if drift else None,
        "declined": safety.declined if safety else None,
        "judge_agrees_with_people": trust.share if trust else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _adapter_ref(settings: Settings, record: VersionRecord) -> AdapterRef:
    return AdapterRef(str(record.adapter_sha), adapter_folder(settings, record))
