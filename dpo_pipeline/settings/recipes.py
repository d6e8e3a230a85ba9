"""How versions are trained: the hyperparameters of SFT and of DPO."""

from typing import Literal

from pydantic import Field, model_validator

from dpo_pipeline.settings.layout import PROJECT_DIR
from dpo_pipeline.settings.section import HomePath, Section

Objective = Literal["dpo", "kto"]
LLAMAFACTORY_LOSSES = ("sigmoid", "hinge", "ipo")
"""By the names that TRL gives them too; `sft` beside one of them is what it calls `pref_ftx`."""


class SftRecipe(Section):
    demonstrations: tuple[HomePath, ...] = Field(
        (), description="files of demonstrations, in the forms of the README, that v1.0 is tuned on; none: the bank's"
    )
    epochs: float = Field(3, gt=0, description="passes over the demonstrations that v1.0 is tuned on")
    learning_rate: float = Field(2e-4, gt=0)
    batch_size: int = Field(16, ge=1)
    seed: int = 0


class LlamaFactory(Section):
    command: HomePath = Field(
        PROJECT_DIR / ".venv-llamafactory" / "bin" / "llamafactory-cli",
        description="recipe.trainer llamafactory: its program; the default is where `make llamafactory` puts it",
    )


class DpoRecipe(Section):
    trainer: Literal["trl", "llamafactory"] = Field(
        "trl", description="who trains: TRL in our process, or LLaMA-Factory in an environment of its own"
    )
    objective: Objective = Field(
        "dpo",
        description="dpo: from pairs alone; kto: from each answer by itself, those of pairs and those that people "
        "called good or bad; it has its own loss; loss_type, loss_weights and label_smoothing are ignored",
    )
    start_from: Literal["sft", "parent"] = Field(
        "sft", description="sft: from v1.0 with v1.0 as frozen reference; parent: from the champion, likewise"
    )
    pairs: Literal["all", "new"] = Field("all", description="all valid pairs so far, or those no accepted version used")
    sft_rounds: int = Field(
        0, ge=0, le=1, description="1: the start adapter is first tuned on people's corrections and chosen answers"
    )
    loss_type: tuple[str, ...] = Field(("sigmoid",), description="TRL loss names; several are summed by loss_weights")
    loss_weights: tuple[float, ...] | None = Field(None, description="one weight for each loss; null: all 1")
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference model")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed flip rate of labels; acts with `robust`")
    learning_rate: float = Field(1e-5, gt=0, description="highest learning rate, at the end of the warm-up")
    epochs: float = Field(1, gt=0, description="passes over the training pairs; part of one is possible")
    min_steps: int = Field(0, ge=0, description="few pairs are gone through so often that there are so many steps")
    batch_size: int = Field(8, ge=1, description="pairs a batch")
    gradient_accumulation: int = Field(1, ge=1, description="batches that are summed up to one step")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    checkpoint_steps: int = Field(25, ge=1, description="steps between two resumable checkpoints")
    seed: int = Field(0, description="of the order of pairs and of whatever else is drawn")

    @model_validator(mode="after")
    def _one_weight_for_each_loss(self) -> "DpoRecipe":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} values for the {len(self.loss_type)} losses of loss_type; "
                "give one for each, or null"
            )
        return self

    @model_validator(mode="after")
    def _what_the_trainer_has(self) -> "DpoRecipe":
        if self.trainer == "llamafactory" and self.objective == "kto":
            raise ValueError("trainer llamafactory is started for objective dpo only; train kto with trl")
        if self.trainer == "llamafactory" and not self.is_known_to_llamafactory:
            raise ValueError(
                f"trainer llamafactory has no loss_type {list(self.loss_type)} with loss_weights {self.loss_weights}; "
                f"it has one of {', '.join(LLAMAFACTORY_LOSSES)} with weight 1, and sft beside it with any weight. "
                "Change the loss, or train with trl"
            )
        return self

    @property
    def is_known_to_llamafactory(self) -> bool:
        """Whether LLaMA-Factory has this loss: one of its own, with or without an SFT term of any weight to it."""
        if self.objective == "kto":
            return True
        first, *others = self.loss_type
        known = first in LLAMAFACTORY_LOSSES and others in ([], ["sft"])
        return known and (self.loss_weights or (1.0,))[0] == 1.0

    def epochs_on(self, pairs: float) -> float:
        """Passes over so many pairs: `epochs`, or more where those are fewer steps than `min_steps`."""
        return max(self.epochs, self.min_steps * self.batch_size * self.gradient_accumulation / pairs)
