"""The variables that the programs of the loop start with."""

import json
import os
import sys
from pathlib import Path

from dpo_pipeline.dagster_instance import DATABASE, dagster_database
from dpo_pipeline.machine import cores
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.database import with_schema

# Told at every start or run, and nothing that whoever reads it could do about: Dagster's own code calls a function
# of Dagster that is in preview, MLflow's own a module that Starlette will drop, TRL's own an argument that transformers
# will (all are pinned).
IGNORED_WARNINGS = (
    "ignore:Function `PipesMessageReader.expected_writer_count` is currently in preview",
    "ignore:starlette.middleware.wsgi is deprecated",
    "ignore:`gradient_checkpointing` is deprecated",
    "ignore:`is_gradient_checkpointing` is deprecated",
)


def environment(settings: Settings) -> dict[str, str]:
    """Variables that the Procfile and the programs need, over those there are."""
    bin_dir = Path(sys.executable).parent
    return {
        **os.environ,
        **_absolute_paths(settings),
        "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}",
        "DPO_DATA_DIR": str(settings.data_dir),
        "DPO_PROFILE": settings.profile,
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # A sensor that a busy machine makes wait is no failed tick.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
        "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS": "300",
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Our gate stands before it, and knows the names and origins that it would refuse.
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), *IGNORED_WARNINGS))),
        # Programs share the cores: a thread that spins while it waits makes all the others several times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        **_thread_limit(),
        "DPO_RUN_SERVING_THREADS": str(max(cores() // 2, 1)),
        "DPO_RUN_HOST": settings.ports.host,
        "MLFLOW_BACKEND_STORE_URI": _mlflow_database(settings),
        DATABASE: dagster_database(settings) or "",
        **_mlflow_artifacts(settings),
        "DPO_RUN_MLFLOW_PORT": str(settings.ports.mlflow),
        "DPO_RUN_DAGSTER_PORT": str(settings.ports.dagster),
        "DPO_RUN_WORKSPACE": os.environ.get("DPO_RUN_WORKSPACE", str(PROJECT_DIR / "workspace.yaml")),
    }


def _thread_limit() -> dict[str, str]:
    """Torch takes a thread for each core that it may run on, also where a container's quota pays for fewer."""
    few = cores() < (os.cpu_count() or 1) and "OMP_NUM_THREADS" not in os.environ
    return {"OMP_NUM_THREADS": str(cores())} if few else {}


def _mlflow_database(settings: Settings) -> str:
    if settings.mlflow_database_url:
        return settings.mlflow_database_url
    if settings.database_url:
        return with_schema(settings.database_url, "mlflow", "psycopg2")
    return f"sqlite:///{settings.mlflow_dir / 'mlflow.db'}"


def _mlflow_artifacts(settings: Settings) -> dict[str, str]:
    """In the store that machines share, where that is an S3, which MLflow reads by itself."""
    if not (settings.artifacts_url or "").startswith("s3://"):
        return {"DPO_RUN_MLFLOW_ARTIFACTS": str(settings.mlflow_dir / "artifacts")}
    told = {"DPO_RUN_MLFLOW_ARTIFACTS": f"{str(settings.artifacts_url).rstrip('/')}/mlflow"}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        told["MLFLOW_S3_ENDPOINT_URL"] = endpoint
    return told


def _absolute_paths(settings: Settings) -> dict[str, str]:
    """What was set relative to the folder that `dpo` was called in; the programs are started in another."""
    base, template = settings.model.base, settings.model.chat_template
    found = {
        "DPO_MODEL__BASE": base,
        "DPO_MODEL__CHAT_TEMPLATE": template or "",
        "DPO_BANK_DIR": str(settings.bank_dir),
        "DPO_LLAMAFACTORY__COMMAND": str(settings.llamafactory.command),
    }
    paths = {name: str(Path(path).absolute()) for name, path in found.items() if path and Path(path).exists()}
    for name, files in (
        ("DPO_SFT__DEMONSTRATIONS", settings.sft.demonstrations),
        ("DPO_EVALUATION__QUESTION_FILES", settings.evaluation.question_files),
    ):
        paths[name] = json.dumps([str(path.expanduser().absolute()) for path in files])
    return {name: value for name, value in paths.items() if name in os.environ}
