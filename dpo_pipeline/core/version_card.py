"""The description and tags from which a person can decide about a version in the registry."""

from typing import Any


def description(
    name: str,
    parent: str | None,
    pairs: int | None,
    dataset_hash: str | None,
    evaluation: dict[str, Any] | None,
    recipe: dict[str, Any] | None,
) -> str:
    """Markdown: what it is, what it learned from, how it did."""
    if not parent:
        return f"**{name}**: the SFT baseline. Every later version starts from it or has to beat its successors."
    lines = [f"**{name}** has to beat **{parent}**.", ""]
    lines.append(f"- trained on {pairs} preference pairs, dataset `{str(dataset_hash)[:12]}`")
    if evaluation:
        lines.append(f"- evaluation: {evaluation['verdict'].replace('_', ' ')}")
        lines += [f"  - {reason}" for reason in evaluation["reasons"]]
    if recipe:
        said = ", ".join(
            f"{key} {recipe[key]}" for key in ("start_from", "loss_type", "beta", "learning_rate", "epochs")
        )
        lines.append(f"- recipe: {said}")
    return "\n".join(lines)


def tags(fields: dict[str, Any]) -> dict[str, str]:
    """Tags are texts; what is not known is left out."""
    return {name: str(value) for name, value in fields.items() if value is not None}
