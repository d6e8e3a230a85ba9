"""MLflow's server behind the gate, as an app that `mlflow server --app-name dpo` finds (entry point `mlflow.app`).

By itself it takes calls from pages of every port of this machine.
"""

from mlflow.server.fastapi_app import app as plain  # noqa: TID253  (this is MLflow's own process)

from dpo_pipeline.gate import WebGate
from dpo_pipeline.settings import load_settings

app = WebGate(plain, load_settings())
