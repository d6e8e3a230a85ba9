"""A version as an MLflow model: the code that MLflow keeps beside the adapter and runs where somebody loads it.

It stands alone: transformers, PEFT and torch are all it imports, so that a registered version answers in a process that
knows nothing of this project. It answers as serving does at temperature 0.
"""

import re

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
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        loaded = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
        self.model = PeftModel.from_pretrained(loaded, context.artifacts["adapter"]).to(device).eval()
        self.marks, self.joiner = re.compile(config["turn_marks"]), config["joiner"]
        self.longest = int(config["max_new_tokens"])

    # MLflow reads the hint of the messages as the model's signature.
    def predict(self, context: PythonModelContext, model_input: list[dict[str, str]]) -> list[str]:
        messages = [{"role": row["role"], "content": self._defused(row["content"])} for row in model_input]
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        answer = self.model.generate(**asked, max_new_tokens=self.longest, do_sample=False)
        text = self.tokenizer.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip()]

    def _defused(self, content: str) -> str:
        """What a person writes cannot pose as another turn."""
        text: str = self.marks.sub(lambda found: found.group()[0] + self.joiner + found.group()[1:], content)
        return text


mlflow.models.set_model(ChatModel())
