"""The whole tree: every section, and where its values come from, strongest first."""

from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dpo_pipeline.settings.cadence import Cadence
from dpo_pipeline.settings.collection import Collection
from dpo_pipeline.settings.evaluation import Augmentation, Evaluation
from dpo_pipeline.settings.layout import PROJECT_DIR, Layout
from dpo_pipeline.settings.model import Generation, ModelSettings
from dpo_pipeline.settings.monitoring import Kpis, Notifications
from dpo_pipeline.settings.orchestration import Dagster
from dpo_pipeline.settings.quality import QualityCriteria
from dpo_pipeline.settings.recipes import DpoRecipe, LlamaFactory, SftRecipe
from dpo_pipeline.settings.rollout import RolloutPolicy
from dpo_pipeline.settings.section import HomePath
from dpo_pipeline.settings.serving import Access, EngineSettings, Keys, Limits, Ports
from dpo_pipeline.settings.sources import ENV_PREFIX, ProfileSource, VariableSource
from dpo_pipeline.settings.training import Training

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  (not listened on here)


class Settings(Layout, BaseSettings):
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

    profile: str = Field("tiny", description="name of a profile (tiny, qwen2, gemma) or path of a profile file")
    data_dir: HomePath = Field(PROJECT_DIR / "data", description="where everything made at run time lives")
    bank_dir: HomePath = Field(PROJECT_DIR / "data" / "bank", description="the question bank")
    database_url: str | None = Field(
        None,
        description="Postgres that several machines share, as postgresql+psycopg://user@host/name: ledger, votes, "
        "feedback, keys and what serving remembers; null: files in data_dir",
    )
    artifacts_url: str | None = Field(
        None,
        description="store of base, adapters, datasets and reports that several machines share, as fsspec names it: "
        "s3://bucket/path; null: data_dir alone",
    )
    ledger_url: str | None = Field(
        None, description="SQLAlchemy URL of the ledger alone; null: database_url, or SQLite in data_dir"
    )
    mlflow_url: str | None = Field(None, description="MLflow tracking server; null: the one that `dpo up` starts")
    mlflow_database_url: str | None = Field(
        None,
        description="SQLAlchemy URL for the MLflow that `dpo up` starts; null: database_url, in a schema of its own, "
        "or SQLite",
    )
    registered_model: str = Field("chat", description="name of the model in the MLflow registry")
    time_zone: str = Field("UTC", description="where the team's days and weeks begin: a name such as Europe/Berlin")
    model: ModelSettings = ModelSettings()
    generation: Generation = Generation()
    sft: SftRecipe = SftRecipe()
    recipe: DpoRecipe = DpoRecipe()
    training: Training = Training()
    llamafactory: LlamaFactory = LlamaFactory()
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

    @field_validator("registered_model")
    @classmethod
    def _a_name_that_mlflow_takes(cls, name: str) -> str:
        if not name.strip() or set(name) & set("/:'\"\\"):
            raise ValueError("MLflow's registry takes no name that is empty or holds a slash, colon or quotation mark")
        return name

    @field_validator("database_url")
    @classmethod
    def _a_postgres_by_the_driver_that_is_here(cls, url: str | None) -> str | None:
        if url and url.startswith(("postgresql://", "postgres://")):
            url = f"postgresql+psycopg://{url.partition('://')[2]}"
        if url and not url.startswith("postgresql+psycopg://"):
            raise ValueError("only a Postgres can be shared: postgresql+psycopg://user@host/name")
        return url

    @field_validator("time_zone")
    @classmethod
    def _a_zone_that_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                "no time zone of this name is known; one such as UTC or Europe/Berlin is needed"
            ) from error
        return name

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
        return (
            init_settings,
            VariableSource(settings_cls),
            ProfileSource(settings_cls, init_settings()),
            file_secret_settings,
        )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def ledger_address(self) -> str:
        return self.ledger_url or self.database_url or f"sqlite:///{self.data_dir / 'ledger.db'}"

    @property
    def mlflow_address(self) -> str:
        return self.mlflow_url or f"http://{self.ports.host}:{self.ports.mlflow}"

    @property
    def serving_address(self) -> str:
        return f"http://{self.ports.host}:{self.ports.serving}"

    def page_address(self, page: str) -> str | None:
        """A page of serving by its whole address, for links from programs that `dpo up` starts; null where it serves
        none, or where its address is not known.

        By a proxy, and where programs listen on every address, people know them under names that nobody here knows.
        """
        elsewhere = self.ports.host in EVERY_ADDRESS or self.access.origins or self.access.hosts
        return self.serving_address + page if self.access.pages and not elsewhere else None

    @property
    def dagster_address(self) -> str:
        return f"http://{self.ports.host}:{self.ports.dagster}"
