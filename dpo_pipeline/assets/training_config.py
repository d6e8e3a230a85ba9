"""What Dagster's launchpad can set of a training: the fields of `DpoRecipe`, each of which may stay as it is due."""

from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from dpo_pipeline.settings import DpoRecipe

DUE = "due"
"""Of choices the one to leave them: Dagster has no choice that may be null."""


def _launchpad_field(field: FieldInfo) -> tuple[Any, Any]:
    """The same field as Dagster's launchpad can have it: null is as it is due, and an empty list is null."""
    kinds = [each for each in get_args(field.annotation) if each is not type(None)]
    is_nullable = len(kinds) < len(get_args(field.annotation))
    kind: Any = kinds[0] if is_nullable else field.annotation
    description = f"{field.description} ([] here)" if is_nullable else field.description
    if get_origin(kind) is Literal:
        return Literal[(DUE, *get_args(kind))], Field(DUE, description=description)
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    return kind | None, Field(None, description=description)


_FIELDS: dict[str, Any] = {name: _launchpad_field(field) for name, field in DpoRecipe.model_fields.items()}
RecipeChanges: Any = create_model("RecipeChanges", __base__=dg.Config, **_FIELDS)


class TrainingConfig(dg.Config):
    """With nothing set the training is the one that is due, as sensors ask for it."""

    attempt: int | None = Field(None, description="which training of this version it is, counted from 1; null: the due")
    recipe: RecipeChanges = Field(
        RecipeChanges(), description="hyperparameters that differ from the recipe that is due; the others are as it has"
    )

    def changed(self) -> dict[str, Any]:
        """The hyperparameters that differ, as `DpoRecipe` takes them."""
        told = self.recipe.model_dump().items()
        return {name: None if value == [] else value for name, value in told if value not in (None, DUE)}
