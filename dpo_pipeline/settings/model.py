"""The model under all versions, and how answers are drawn from it."""

from typing import Literal

from pydantic import Field

from dpo_pipeline.settings.section import HomeText, Section


class ModelSettings(Section):
    base: HomeText = Field(
        "embedded", description="'embedded' (built here), a Hugging Face id, a local model folder, or a GGUF file"
    )
    chat_template: HomeText | None = Field(
        None,
        description="chatml, gemma, or a Jinja file, for a base model without a template or in place of its own; null: "
        "its own",
    )
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
