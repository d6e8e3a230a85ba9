"""Where trainings run."""

from typing import Any, Literal

from pydantic import Field

from dpo_pipeline.settings.section import Section


class Training(Section):
    backend: Literal["local", "ray"] = Field(
        "local", description="where trainings run: in the run that asks for one, or as a job of a Ray cluster"
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="processes that train one adapter together, each on a GPU of its own; default: one for each GPU",
    )
    ray_address: str = Field("http://127.0.0.1:8265", description="dashboard of the Ray cluster, which takes jobs")
    ray_cpus: float = Field(1, ge=0, description="cores that a training asks the cluster for")
    ray_gpus: float = Field(0, ge=0, description="GPUs that a training asks the cluster for")
    ray_python: str = Field("python", description="the Python of the cluster in which this program is installed")
    ray_runtime_env: dict[str, Any] = Field(
        {}, description="Ray's runtime environment of the job, as JSON: env_vars for the store's credentials, an image"
    )
