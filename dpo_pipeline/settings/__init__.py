"""What a user may set: profile, paths, ports, model, recipes, quality, cadence, evaluation, rollout.

One frozen tree, filled from (strongest first) keyword arguments, environment variables `DPO_…`
(`DPO_RECIPE__BETA=0.2`), the profile file, and the defaults of each section. `dpo settings` prints it.
Nothing is read at import: call `load_settings()`.
"""

from dpo_pipeline.settings.cadence import Cadence, Phase
from dpo_pipeline.settings.collection import Collection
from dpo_pipeline.settings.evaluation import Augmentation, Evaluation, JudgeWeights
from dpo_pipeline.settings.layout import PROJECT_DIR, Layout
from dpo_pipeline.settings.load import load_settings, setting_names
from dpo_pipeline.settings.model import Generation, ModelSettings
from dpo_pipeline.settings.monitoring import Kpis, Notifications
from dpo_pipeline.settings.orchestration import Dagster
from dpo_pipeline.settings.quality import QualityCriteria
from dpo_pipeline.settings.recipes import DpoRecipe, LlamaFactory, SftRecipe
from dpo_pipeline.settings.rollout import RolloutPolicy, StagePolicy
from dpo_pipeline.settings.section import Section
from dpo_pipeline.settings.serving import Access, EngineSettings, Keys, Limits, Ports, Role
from dpo_pipeline.settings.sources import ENV_PREFIX, PROFILES_DIR, profile_path
from dpo_pipeline.settings.tree import Settings

__all__ = [
    "ENV_PREFIX",
    "PROFILES_DIR",
    "PROJECT_DIR",
    "Access",
    "Augmentation",
    "Cadence",
    "Collection",
    "Dagster",
    "DpoRecipe",
    "EngineSettings",
    "Evaluation",
    "Generation",
    "JudgeWeights",
    "Keys",
    "Kpis",
    "Layout",
    "Limits",
    "LlamaFactory",
    "ModelSettings",
    "Notifications",
    "Phase",
    "Ports",
    "QualityCriteria",
    "Role",
    "RolloutPolicy",
    "Section",
    "Settings",
    "SftRecipe",
    "StagePolicy",
    "load_settings",
    "profile_path",
    "setting_names",
]
