"""Where everything made at run time lies in the data directory. `DPO_DATA_DIR` moves all of it."""

from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]


class Layout:
    """Paths below `data_dir`; none of them needs to be there."""

    data_dir: Path

    @property
    def prefs_log(self) -> Path:
        return self.data_dir / "llmops" / "dpo" / "prefs.jsonl"

    @property
    def quarantine_log(self) -> Path:
        return self.data_dir / "llmops" / "dpo" / "quarantine.jsonl"

    @property
    def reviews_log(self) -> Path:
        """Exclusions and restorations of preferences, as events."""
        return self.data_dir / "llmops" / "dpo" / "reviews.jsonl"

    @property
    def keys_log(self) -> Path:
        """Whose keys are valid, as events; hashes only."""
        return self.data_dir / "access" / "keys.jsonl"

    @property
    def audit_log(self) -> Path:
        """Who did what that needs a key."""
        return self.data_dir / "access" / "audit.jsonl"

    @property
    def synthetic_pairs(self) -> Path:
        """Pairs that no person voted on."""
        return self.data_dir / "llmops" / "dpo" / "synthetic.jsonl"

    @property
    def serving_log_dir(self) -> Path:
        return self.data_dir / "llmops" / "serving"

    @property
    def served_texts_dir(self) -> Path:
        """What was asked and answered, a file a day, for `collection.retain_texts_days`."""
        return self.serving_log_dir / "texts"

    @property
    def serving_state(self) -> Path:
        """What serving remembers over a restart."""
        return self.serving_log_dir / "state.db"

    @property
    def warehouse_path(self) -> Path:
        return self.data_dir / "warehouse" / "loop.duckdb"

    @property
    def curation_summary(self) -> Path:
        """Counts published by rename after every curation run: what sensors and pages read."""
        return self.data_dir / "warehouse" / "curation.json"

    @property
    def label_summary(self) -> Path:
        """Counts of feedback that can be trained on, published likewise."""
        return self.data_dir / "warehouse" / "labels.json"

    @property
    def review_table(self) -> Path:
        """The newest validated pairs, published by rename after every curation run: what the review page reads."""
        return self.data_dir / "warehouse" / "review.jsonl"

    @property
    def correction_table(self) -> Path:
        """The newest corrections as such pairs, published whenever feedback was counted."""
        return self.data_dir / "warehouse" / "corrections.jsonl"

    @property
    def feedback_table(self) -> Path:
        """People's feedback as a table for people and notebooks; nothing reads it."""
        return self.reports_dir / "feedback.parquet"

    @property
    def models_dir(self) -> Path:
        """Base models that a person put here; `model.base` may name them without their folder."""
        return self.data_dir / "models"

    @property
    def reports_dir(self) -> Path:
        """Pages for people: evaluations, the weekly report, load tests."""
        return self.data_dir / "reports"

    def report_page(self, name: str) -> Path:
        """A report that is a page of serving, by its name there."""
        return self.reports_dir / f"{name}.html"

    @property
    def artifacts_dir(self) -> Path:
        return self.data_dir / "artifacts"

    @property
    def checkpoints_dir(self) -> Path:
        return self.data_dir / "checkpoints"

    @property
    def training_dir(self) -> Path:
        """Unfinished trainings, by the hash of all that goes into them, so that they can resume."""
        return self.data_dir / "training"

    @property
    def dagster_home(self) -> Path:
        return self.data_dir / "dagster"

    @property
    def mlflow_dir(self) -> Path:
        return self.data_dir / "mlflow"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"
