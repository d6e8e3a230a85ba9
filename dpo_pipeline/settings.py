"""What a user may set: profile, paths, ports, model, recipes, quality, cadence, evaluation, rollout.

One frozen tree, filled from (strongest first) keyword arguments, environment variables `DPO_…`
(`DPO_RECIPE__BETA=0.2`), the profile file, and the defaults below. `dpo settings` prints it.
Nothing is read at import: call `load_settings()`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dpo_pipeline.errors import SettingsError

PROJECT_DIR = Path(__file__).resolve().parents[1]
PROFILES_DIR = Path(__file__).resolve().parent / "profiles"
ENV_PREFIX = "DPO_"

Category = Literal["factual_qa", "comparison", "creative", "problem_solving", "explanation"]


class Section(BaseModel):
    """A frozen part of the settings; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Section):
    base: str = Field("embedded", description="'embedded' (built here), a Hugging Face id, or a local model folder")
    max_length: int = Field(1024, ge=16, description="tokens of prompt and answer together, in training and serving")
    max_new_tokens: int = Field(256, ge=1, description="longest answer, in tokens")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="numbers to compute in; bfloat16 only where the device has a unit for it, else float32"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    lora_rank: int = Field(16, ge=1, le=256, description="rank r of every LoRA adapter")
    lora_alpha: int = Field(32, ge=1, description="LoRA scale numerator: updates are scaled by alpha / r")
    lora_targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="linear layers that get an adapter; an adapter with others is refused",
    )
    pretrain_steps: int = Field(800, ge=1, description="embedded base only: optimizer steps on the question bank")


class Generation(Section):
    """How answers are drawn in production and evaluation; a request may name its own."""

    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)


class SftRecipe(Section):
    epochs: float = Field(3, gt=0, description="passes over the demonstrations that v1.0 is tuned on")
    learning_rate: float = Field(2e-4, gt=0)
    batch_size: int = Field(16, ge=1)
    seed: int = 0


class DpoRecipe(Section):
    start_from: Literal["sft", "parent"] = Field(
        "sft", description="sft: from v1.0 with v1.0 as frozen reference; parent: from the champion, likewise"
    )
    pairs: Literal["all", "new"] = Field("all", description="all valid pairs so far, or those no accepted version used")
    sft_rounds: int = Field(
        0, ge=0, le=1, description="1: the start adapter is first tuned on people's corrections and chosen answers"
    )
    loss_type: tuple[str, ...] = Field(("sigmoid",), description="TRL loss names; several are summed by loss_weights")
    loss_weights: tuple[float, ...] | None = Field(None, description="one weight for each loss; null: all 1")
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference model")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed flip rate of labels; acts with `robust`")
    learning_rate: float = Field(1e-5, gt=0)
    epochs: float = Field(1, gt=0)
    min_steps: int = Field(0, ge=0, description="few pairs are gone through so often that there are so many steps")
    batch_size: int = Field(8, ge=1, description="pairs a step")
    gradient_accumulation: int = Field(1, ge=1)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    checkpoint_steps: int = Field(25, ge=1, description="steps between two resumable checkpoints")
    seed: int = 0

    @model_validator(mode="after")
    def _one_weight_for_each_loss(self) -> "DpoRecipe":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} values for the {len(self.loss_type)} losses of loss_type; "
                "give one for each, or null"
            )
        return self

    def epochs_on(self, pairs: int) -> float:
        """Passes over so many pairs: `epochs`, or more where those are fewer steps than `min_steps`."""
        return max(self.epochs, self.min_steps * self.batch_size * self.gradient_accumulation / pairs)


class QualityCriteria(Section):
    """When a pair is good enough to train on. `null` switches a numeric criterion off."""

    min_length_ratio: float | None = Field(0.5, description="len(chosen) > ratio · len(rejected), in characters")
    max_similarity: float | None = Field(0.8, gt=0, le=1, description="similarity(chosen, rejected) < this")
    min_characters: int | None = Field(10, description="both answers longer than this many characters")
    more_detailed: bool = Field(True, description="sentences(chosen) > sentences(rejected); rewards length")
    differ_within_characters: int | None = Field(
        4096, ge=1, description="the answers must differ within this many characters (about 4 · model.max_length)"
    )
    no_template_tokens: bool = Field(True, description="refuse answers that hold chat-template tokens")
    no_self_naming: bool = Field(True, description="refuse answers in which a model names itself")
    no_contradiction: bool = Field(True, description="refuse a vote against the same person's earlier vote on a pair")
    no_repeat: bool = Field(True, description="refuse a person's second, equal vote on the same pair")
    max_annotator_share: float | None = Field(
        0.3, gt=0, le=1, description="largest share of the valid pairs that one person may hold"
    )
    annotator_floor: int = Field(25, ge=0, description="pairs a person may always contribute, whatever the share")


class Phase(Section):
    frequency: Literal["weekly", "bi-weekly", "monthly"]
    min_samples: int = Field(ge=1, description="valid pairs not yet used by an accepted version that make training due")


class Cadence(Section):
    startup: Phase = Phase(frequency="weekly", min_samples=100)
    growth: Phase = Phase(frequency="bi-weekly", min_samples=200)
    mature: Phase = Phase(frequency="monthly", min_samples=300)
    weekly_minimum: int = Field(100, ge=1, description="votes a week below which reminders go out")
    weekly_target: int = Field(300, ge=1, description="votes a week to aim at")
    weekly_optimal: int = Field(500, ge=1, description="votes a week beyond which more adds little")
    phase: Literal["auto", "startup", "growth", "mature"] = Field(
        "auto", description="auto: by the number of accepted DPO versions"
    )
    growth_after: int = Field(3, ge=1, description="accepted DPO versions after which the growth phase begins")
    mature_after: int = Field(8, ge=1, description="accepted DPO versions after which the mature phase begins")
    cooldown_h: float = Field(0, ge=0, description="hours between two trainings at the least")
    max_attempts: int = Field(3, ge=1, description="trainings of one version before it is given up")


class Collection(Section):
    temperature: float = Field(
        0.9,
        ge=0,
        le=2,
        description="how two answers of one version are drawn for a comparison: warm, so that they differ",
    )
    top_p: float = Field(0.95, gt=0, le=1, description="likewise; two versions are compared as production answers")
    samples: int = Field(
        4,
        ge=2,
        le=16,
        description="answers of one version drawn for a comparison; shown are the first and the one beside it whose "
        "vote can most likely be trained on",
    )
    token_valid_h: float = Field(24, gt=0, description="how long a comparison may be voted on")
    holdout_share: float = Field(0.25, gt=0, lt=1, description="share of the bank kept for evaluation, never asked")
    production_share: float = Field(
        0.2, ge=0, le=1, description="share of drawn questions that come from chat requests; none yet: from the bank"
    )
    edge_case_share: float = Field(
        0.1, ge=0, le=1, description="share of drawn questions that are edge cases; none there: from the bank"
    )
    repeat_share: float = Field(
        0.03, ge=0, lt=1, description="share of drawn comparisons that were decided before: how often votes flip"
    )
    repeat_after_s: float = Field(60, ge=0, description="seconds after which a decided pair may be shown again")
    measure_share: float = Field(
        0.1, ge=0, lt=1, description="share of comparisons for pairs of versions other than the one that is due"
    )
    daily_target: int = Field(100, ge=1, description="votes a day that the pages show progress towards")
    max_line_bytes: int = Field(1_048_576, ge=1024, description="longest line of the log; longer ones are quarantined")

    @model_validator(mode="after")
    def _leave_room(self) -> "Collection":
        if self.production_share + self.edge_case_share > 1:
            raise ValueError("production_share and edge_case_share are more than 1 together; lower one of them")
        return self


class JudgeWeights(Section):
    """Weights of the automatic evaluation; they are divided by their sum."""

    length: float = Field(0.2, ge=0)
    coherence: float = Field(0.2, ge=0)
    factuality: float = Field(0.5, ge=0)
    sentiment: float = Field(0.1, ge=0)


class Evaluation(Section):
    eval_share: float = Field(0.1, gt=0, lt=1, description="share of the pairs' prompts held out of training")
    questions: int = Field(100, ge=4, description="held-out questions that both models answer, at most")
    samples: int = Field(2, ge=1, description="answers per question and model; a question counts once")
    judge: Literal["automatic", "reward_model", "llm"] = Field("automatic", description="who compares the answers")
    reward_model: str = Field("", description="judge reward_model: folder of a sequence classifier with one output")
    judge_url: str = Field("", description="judge llm: base address of an OpenAI-compatible server, ending in /v1")
    judge_model: str = Field("", description="judge llm: the model's name there")
    judge_timeout_s: float = Field(120, gt=0, description="judge llm: how long one verdict may take")
    production_questions: int = Field(
        16, ge=0, description="held-out questions of people that are answered too; they inform and do not gate"
    )
    edge_cases: int = Field(16, ge=0, description="held-out edge cases that are answered too; they do not gate either")
    human_votes: int = Field(64, ge=0, description="held-out votes of people on which the judge is compared with them")
    weights: JudgeWeights = JudgeWeights()
    tie_margin: float = Field(0.02, ge=0, description="score difference below which two answers tie")
    min_win_rate: float = Field(0.55, gt=0.5, lt=1, description="win rate over the parent that counts as improved")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the intervals")


class Augmentation(Section):
    """Synthetic pairs: paraphrased questions, answered by two versions, kept where one answer is clearly better."""

    enabled: bool = Field(False, description="make synthetic pairs and add them to what is trained on")
    questions: int = Field(60, ge=1, description="questions that are paraphrased in a run")
    margin: float = Field(0.2, gt=0, description="difference of the judge's scores that makes a winner clear")
    max_share: float = Field(0.2, gt=0, lt=1, description="largest share of a dataset's training pairs")
    seed: int = 0


class StagePolicy(Section):
    """One stage of the rollout: how much traffic, how long, and what rolls the version back."""

    traffic: float = Field(ge=0, le=1)
    hours: float = Field(ge=0, description="for at least this long")
    max_error_rate: float | None = Field(None, description="rolled back above this error rate")


class RolloutPolicy(Section):
    """How versions are rolled out. A rollout keeps the policy it began with: a change acts on the next one."""

    staging: StagePolicy = StagePolicy(traffic=0.0, hours=0)
    canary: StagePolicy = StagePolicy(traffic=0.05, hours=24, max_error_rate=0.05)
    small: StagePolicy = StagePolicy(traffic=0.20, hours=48, max_error_rate=0.03)
    half: StagePolicy = StagePolicy(traffic=0.50, hours=72, max_error_rate=0.02)
    full: StagePolicy = StagePolicy(traffic=1.00, hours=0, max_error_rate=0.02)
    duration_scale: float = Field(1.0, gt=0, description="multiplies every duration; `make demo` compresses with it")
    max_error_ratio: float = Field(1.5, description="rolled back above this multiple of the baseline's error rate")
    max_p99_ms: float = Field(2000, description="rolled back above this p99 latency")
    min_satisfaction_ratio: float = Field(
        0.9, description="rolled back below this share of the baseline's satisfaction"
    )
    max_crash_rate: float = Field(0.01, description="rolled back above this crash rate")
    check_every_s: float = Field(
        60, gt=0, description="seconds between two checks of a version that is being rolled out"
    )
    watch_every_s: float = Field(900, gt=0, description="seconds between two checks of a champion at full traffic")
    min_requests: int = Field(30, ge=1, description="requests of the new version in a stage before it can be promoted")
    min_ratings: int = Field(10, ge=0, description="ratings of the new version in a stage before they count")
    min_ab_votes: int = Field(50, ge=1, description="decided A/B votes before staging can end")
    ab_alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the A/B test, however often it is looked at")
    votes_per_person: int = Field(20, ge=1, description="A/B votes of one person that count, as one mean")
    harm_alpha: float = Field(0.05, gt=0, lt=0.5, description="chance that a harmless version is ever rolled back")
    no_harm_alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the bounds that promotion needs")
    no_harm_factor: float = Field(
        2.0, ge=1, description="promotion rules out an error rate of this multiple of the stage's limit"
    )
    satisfaction_margin: float = Field(
        0.1, gt=0, lt=1, description="beyond 20 % of traffic, promotion rules out a satisfaction this much lower"
    )
    srm_alpha: float = Field(
        0.001, gt=0, lt=0.5, description="error rate of the check that both groups are drawn alike"
    )
    unit: Literal["auto", "person", "conversation", "request"] = Field(
        "auto", description="what is assigned to a version; auto: the largest that fits the audience"
    )
    min_stage_units: int = Field(
        20,
        ge=1,
        description="people (or conversations) a week that the canary's share must hold to be assigned by them",
    )
    reading: Literal["auto", "panel", "population"] = Field(
        "auto",
        description="what the A/B test tells: what these voters prefer, or people like them; auto: by their number",
    )
    undecided: Literal["promote", "ask", "rollback"] = Field(
        "promote",
        description="when a stage is over, nothing speaks against a version and the audience cannot rule out more",
    )
    patience: float = Field(
        1.5, ge=1, description="multiple of a stage's hours for which margins that can be reached are waited for"
    )
    shadow_copies_a_day: int = Field(
        1000, ge=0, description="in staging, chat requests a day that the new version answers too, unseen; 0: none"
    )
    stage_limit: float = Field(
        10, gt=1, description="multiple of a stage's hours after which a held version is rolled back"
    )
    staging_limit_h: float = Field(336, gt=0, description="hours after which an undecided A/B test is given up")


class Kpis(Section):
    """Targets of the weekly report."""

    satisfaction: float = Field(4.0, ge=1, le=5, description="mean rating, 1 to 5, to stay above")
    win_rate: float = Field(0.55, gt=0, lt=1, description="win rate over v1.0 by votes to stay above")
    error_rate: float = Field(0.01, gt=0, lt=1, description="share of failed requests to stay below")
    error_alert: float = Field(0.02, gt=0, lt=1, description="share of failed requests that is reported at once")
    clear_winners: float = Field(0.6, gt=0, le=1, description="share of votes that name a winner")
    quality_score: float = Field(0.5, gt=0, le=1, description="mean share of criteria that decided votes pass")


class Dagster(Section):
    sensor_interval_s: int = Field(
        30, ge=1, description="seconds between two looks of each sensor; a look costs some 0.1 s of a core"
    )
    keep_runs_days: int = Field(
        7, ge=1, description="days for which runs that only looked, ingested or told people something stay in Dagster"
    )


class Notifications(Section):
    """Where reminders and alerts go: apprise addresses, such as mailto://… or json://127.0.0.1:9000/hook."""

    urls: tuple[SecretStr, ...] = Field((), description="apprise addresses; none: reminders stand in Dagster only")


class Ports(Section):
    host: str = Field("127.0.0.1", description="address every program listens on; loopback unless a proxy guards it")
    serving: int = Field(8000, ge=1, le=65535)
    dagster: int = Field(3000, ge=1, le=65535)
    mlflow: int = Field(5000, ge=1, le=65535)


class Limits(Section):
    queue: int = Field(256, ge=1, description="generation requests that may wait; one more is answered 429")
    batch: int = Field(64, ge=1, description="answers generated at once")
    ahead: int = Field(64, ge=0, description="comparisons generated while people still read; 0: none is")
    deadline_s: float = Field(60, gt=0, description="how long a request may take before it counts as failed")
    body_bytes: int = Field(1_048_576, ge=1024, description="largest request body; a larger one is answered 413")
    answers_per_minute: int = Field(240, ge=1, description="generation requests a minute of one person")
    votes_per_minute: int = Field(120, ge=1, description="votes and ratings a minute of one person")
    address_per_minute: int = Field(
        1200, ge=1, description="calls a minute of one address; loopback, where proxies and tests sit, is exempt"
    )


class EngineSettings(Section):
    """Where answers come from. `forward` needs a server that knows every version under a name of its own."""

    kind: Literal["local", "forward"] = Field("local", description="generate here, or forward to another server")
    url: str = Field("", description="forward: base address of an OpenAI-compatible server, ending in /v1")
    names: dict[str, str] = Field({}, description="forward: model name there of each version; default: the same name")


class Keys(Section):
    """Secrets, best from the environment; unset: the API is open (on loopback) and admin routes are shut."""

    api: SecretStr | None = Field(None, description="required as `Authorization: Bearer …` on every /v1 route")
    admin: SecretStr | None = Field(
        None, description="required to pause, resume or abort a rollout, and where set to exclude pairs"
    )
    engine: SecretStr | None = Field(None, description="sent to the server that engine.url names")
    judge: SecretStr | None = Field(None, description="sent to the server that evaluation.judge_url names")


class Access(Section):
    origins: tuple[str, ...] = Field(
        (),
        description="origins whose pages may call from a browser, such as https://app.example: other sites, and the "
        "name under which a proxy shows this one",
    )
    consent: str = Field(
        "Your questions, votes and corrections are kept to improve the model, and other people may be asked to compare "
        "answers to your questions. E-mail addresses, card numbers and keys are removed before anything is stored, and "
        "names are replaced by pseudonyms.",
        description="the line under every page",
    )


class Settings(BaseSettings):
    """Everything a user may set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        env_ignore_empty=True,
        # One value of a stage or phase may be set: the others keep their defaults.
        nested_model_default_partial_update=True,
        frozen=True,
        extra="forbid",
    )

    profile: str = Field("tiny", description="name of a profile (tiny, qwen2) or path of a profile file")
    data_dir: Path = Field(PROJECT_DIR / "data", description="where everything made at run time lives")
    bank_dir: Path = Field(PROJECT_DIR / "data" / "bank", description="the question bank")
    ledger_url: str | None = Field(None, description="SQLAlchemy URL of the ledger; null: SQLite in data_dir")
    mlflow_url: str | None = Field(None, description="MLflow tracking server; null: the one that `dpo up` starts")
    registered_model: str = Field("chat", description="name of the model in the MLflow registry")
    model: ModelSettings = ModelSettings()
    generation: Generation = Generation()
    sft: SftRecipe = SftRecipe()
    recipe: DpoRecipe = DpoRecipe()
    quality: QualityCriteria = QualityCriteria()
    cadence: Cadence = Cadence()
    collection: Collection = Collection()
    evaluation: Evaluation = Evaluation()
    augmentation: Augmentation = Augmentation()
    rollout: RolloutPolicy = RolloutPolicy()
    kpis: Kpis = Kpis()
    dagster: Dagster = Dagster()
    notifications: Notifications = Notifications()
    ports: Ports = Ports()
    limits: Limits = Limits()
    engine: EngineSettings = EngineSettings()
    keys: Keys = Keys()
    access: Access = Access()

    @field_validator("data_dir", "bank_dir", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, ProfileSource(settings_cls, init_settings()), file_secret_settings

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
    def synthetic_pairs(self) -> Path:
        """Pairs that no person voted on."""
        return self.data_dir / "llmops" / "dpo" / "synthetic.jsonl"

    @property
    def serving_log_dir(self) -> Path:
        return self.data_dir / "llmops" / "serving"

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
    def review_table(self) -> Path:
        """The newest judged pairs, published by rename after every curation run: what the review page reads."""
        return self.data_dir / "warehouse" / "review.jsonl"

    @property
    def reports_dir(self) -> Path:
        """Pages for people: evaluations, the weekly report, load tests."""
        return self.data_dir / "reports"

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

    @property
    def ledger_address(self) -> str:
        return self.ledger_url or f"sqlite:///{self.data_dir / 'ledger.db'}"

    @property
    def mlflow_address(self) -> str:
        return self.mlflow_url or f"http://{self.ports.host}:{self.ports.mlflow}"

    @property
    def serving_address(self) -> str:
        return f"http://{self.ports.host}:{self.ports.serving}"

    @property
    def dagster_address(self) -> str:
        return f"http://{self.ports.host}:{self.ports.dagster}"


class ProfileSource(PydanticBaseSettingsSource):
    """The profile file, chosen by the `profile` setting itself."""

    def __init__(self, settings_cls: type[BaseSettings], init: dict[str, Any]):
        super().__init__(settings_cls)
        self.profile = str(init.get("profile") or os.environ.get(f"{ENV_PREFIX}PROFILE") or "tiny")

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return _read_profile(profile_path(self.profile))


def profile_path(profile: str) -> Path:
    """The file of a named profile, or the path given.

    Raises:
        SettingsError: there is no such profile or file.
    """
    named = PROFILES_DIR / f"{profile}.yaml"
    if named.is_file():
        return named
    given = Path(profile).expanduser()
    if given.is_file():
        return given.absolute()
    known = ", ".join(sorted(path.stem for path in PROFILES_DIR.glob("*.yaml")))
    raise SettingsError(
        f"Profile {profile!r} was not found. Set DPO_PROFILE to one of {known}, or to the path of a YAML file."
    )


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"Profile {path} cannot be read: {error}. Mend the file or choose another.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"Profile {path} holds {type(content).__name__}; a mapping of settings was required.")
    return content


def load_settings(**overrides: Any) -> Settings:
    """The settings as of now.

    Raises:
        SettingsError: naming every wrong setting, what was found, and what was required.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']} (found {item.get('input')!r})"
            for item in error.errors()
        ]
        raise SettingsError("These settings are wrong; mend them and start again:\n" + "\n".join(lines)) from error


def _refuse_unknown_variables() -> None:
    """A misspelt variable would be ignored in silence otherwise."""
    known = {name.upper() for name in setting_names()}
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable.removeprefix(ENV_PREFIX).upper() not in known:
            raise SettingsError(f"{variable} names no setting. `dpo settings` lists all of them with their variables.")


@cache
def setting_names() -> tuple[str, ...]:
    """Every setting in the form of its variable without the prefix: `profile`, `recipe__beta` …"""
    return tuple(_names(Settings, ""))


def _names(model: type[BaseModel], prefix: str) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names.extend(_names(annotation, f"{prefix}{name}__"))
    return names
