"""A version in the forms that others load: an MLflow model that answers by itself."""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpo_pipeline.core import conversation, template_tokens
from dpo_pipeline.ml.base_model import BaseModel, load_tokenizer
from dpo_pipeline.ml.chat_template import ChatTemplate
from dpo_pipeline.settings import ModelSettings

STANDING_ALONE = tuple(Path(str(module.__file__)) for module in (conversation, template_tokens))
"""Files that the model takes along: what a conversation becomes is decided once, here and there."""
NEEDS = ("mlflow", "transformers", "peft", "torch")


def write_mlflow_model(directory: Path, adapter_dir: Path, base: BaseModel, model: ModelSettings) -> None:
    """Write an MLflow pyfunc model of the adapter; the embedded base, a few MB, goes with it, others are named.

    Its input is a conversation: messages with `role` and `content`, oldest first.

    Args:
        directory: must not exist.
    """
    import mlflow

    with warnings.catch_warnings():
        # MLflow warns of a type of its own while this is imported.
        warnings.filterwarnings("ignore", ".*inferred as AnyType", UserWarning)
        import mlflow.pyfunc

    embedded = model.base == "embedded"
    fetched = "snapshots" in base.directory.parts
    config: dict[str, Any] = {
        # One that was not fetched is known by its folder alone.
        "base": None if embedded else model.base if fetched else str(base.directory.absolute()),
        "turn_end": ChatTemplate(load_tokenizer(base.directory)).turn_end,
        "dtype": model.dtype,
        "max_new_tokens": model.max_new_tokens,
    }
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=str(Path(__file__).with_name("chat_model.py")),
        artifacts={
            "adapter": str(adapter_dir),
            **{path.stem: str(path) for path in STANDING_ALONE},
            **({"base": str(base.directory)} if embedded else {}),
        },
        model_config=config,
        # Given, because MLflow would run the model to find out.
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in NEEDS],
    )
