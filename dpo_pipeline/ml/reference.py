"""The reference of a training, the frozen adapter that it starts from: that it is there, and what it says, kept."""

from pathlib import Path
from typing import Any

from dpo_pipeline.errors import AdapterRefused
from dpo_pipeline.ml.processes import is_first
from dpo_pipeline.quick_imports import quick_imports
from dpo_pipeline.stores import artifacts


def check_reference(policy: Any) -> None:
    """TRL made a frozen copy of the adapter, equal to it before the first step."""
    import torch

    if "ref" not in policy.peft_config:
        raise AdapterRefused(
            "TRL made no frozen copy of the start adapter, so the bare base model would be the reference. "
            "Nothing was trained; use the pinned versions of trl and peft (constraints.txt)."
        )
    parameters = dict(policy.named_parameters())
    for name, parameter in parameters.items():
        if ".default." in name and not torch.equal(parameter, parameters[name.replace(".default.", ".ref.")]):
            raise AdapterRefused(f"The reference differs from the start adapter in {name}. Nothing was trained.")


def cached_reference_trainer(cache: Path) -> Any:
    """TRL's trainer, with the reference log-probabilities kept in `cache`, which names dataset and reference.

    TRL has a cache of its own, keyed by a fingerprint of the tokenizing function that differs from
    process to process: it is never hit again.
    """
    with quick_imports():
        import pyarrow as pa
        import pyarrow.parquet as pq
        from datasets import Dataset, concatenate_datasets
        from trl import DPOTrainer

    from dpo_pipeline.ml.shared_prompts import share_prompts
    from dpo_pipeline.ml.trl_private import keeps_references

    columns = ("ref_chosen_logps", "ref_rejected_logps")

    class Trainer(DPOTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """None: checkpoints are for this trainer alone, and an accepted version gets a card that is filled in."""

    if not keeps_references():
        return Trainer

    class CachedReferenceTrainer(Trainer):
        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            # The first call after TRL has put its head on the model.
            share_prompts(self.model.get_base_model())
            path = cache / f"{name}-{len(dataset)}.parquet"
            if path.exists():
                known = Dataset.from_dict(pq.read_table(path).to_pydict())
                return concatenate_datasets([dataset, known], axis=1)
            computed = super()._precompute_ref_logps(dataset, name, batch_size)
            if is_first():
                with artifacts.replacing(path) as file:
                    pq.write_table(pa.table({column: list(computed[column]) for column in columns}), file)
            return computed

    return CachedReferenceTrainer
