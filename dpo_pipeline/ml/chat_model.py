"""A version as an MLflow model: the code that MLflow keeps beside the adapter and runs where somebody loads it.

It stands alone: beside transformers, PEFT and torch it imports the two files of `core` that go with it, so that a
registered version answers in a process that knows nothing of this project. It answers as serving does at temperature 0.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any
from uuid import uuid4

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ChatModel(PythonModel):
    """Answers the last message of a conversation: rows with `role` and `content`, oldest first; one text comes back."""

    def load_context(self, context: PythonModelContext) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        config = context.model_config
        base = context.artifacts.get("base") or config["base"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        usual = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
        dtype = usual if config["dtype"] == "auto" else config["dtype"]
        self.tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), trust_remote_code=False)
        self.model = PeftModel.from_pretrained(loaded, context.artifacts["adapter"]).to(device).eval()
        self.told, marks = (_module(context.artifacts[name]) for name in ("conversation", "template_tokens"))
        self.defuse = marks.Defuser(self.tokenizer)
        self.rules = self.told.rules_of(self.tokenizer)
        self.longest = int(config["max_new_tokens"])
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.stops = [each for each in {*ends, self.tokenizer.eos_token_id, config["turn_end"]} if each is not None]

    # MLflow reads the hint of the messages as the model's signature.
    def predict(self, context: PythonModelContext, model_input: list[dict[str, str]]) -> list[str]:
        fitted = self.told.fitted(tuple((row["role"], row["content"]) for row in model_input), self.rules)
        rows = self.told.as_rows([(role, self.defuse(content, role)) for role, content in fitted])
        asked = self.tokenizer.apply_chat_template(
            rows, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        answer = self.model.generate(**asked, max_new_tokens=self.longest, do_sample=False, eos_token_id=self.stops)
        text = self.tokenizer.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip()]


def _module(path: str) -> Any:
    """A file of this model, by a name of its own: whoever loads the model may have a module of the file's name."""
    name = f"chat_model_{uuid4().hex}"
    spec = spec_from_file_location(name, path)
    assert spec and spec.loader
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mlflow.models.set_model(ChatModel())
