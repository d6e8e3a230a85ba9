"""Answers of several versions in one batch over one base model.

Sampling is per row (temperature, top_p, seed), so requests of different people share a batch. What
to ask and whom belongs to serving and evaluation.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import AdapterRefused, InvalidRequest
from dpo_pipeline.ml.adapters import check_adapter
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.settings import ModelSettings

BASE_ROW = "__base__"


@dataclass(frozen=True)
class GenerationRequest:
    """`adapter` is an adapter's sha256, or null for the bare base model. Temperature 0 is greedy."""

    messages: tuple[tuple[str, str], ...]
    adapter: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Answer:
    text: str
    prompt_tokens: int
    tokens: int
    finished: bool


class Generator:
    """One base model and the adapters loaded on it. Not thread-safe: one thread generates."""

    def __init__(self, base: BaseModel, model: ModelSettings):
        self.base = base
        self.settings = model
        self._model, self.tokenizer = load_base(base.directory, model)
        self._stop_ids = _stop_ids(self._model, self.tokenizer)
        self.loaded: set[str] = set()

    def load(self, sha: str, directory: Path) -> None:
        """Verify and load an adapter under its hash; does nothing where it is loaded.

        Raises:
            ArtifactCorrupt, AdapterRefused: it must not be served.
        """
        if sha in self.loaded:
            return
        manifest = check_adapter(directory, self.base.sha, self.settings)
        if manifest["sha256"] != sha:
            raise AdapterRefused(
                f"{directory} holds adapter {manifest['sha256'][:12]}; the ledger names {sha[:12]}. "
                "Restore the folder or materialize `trained_adapter` for that version again."
            )
        if not self.loaded:
            from peft import PeftModel

            self._model = PeftModel.from_pretrained(self._model, directory, adapter_name=_peft_name(sha))
            self._model.eval()
        else:
            self._model.load_adapter(directory, adapter_name=_peft_name(sha), low_cpu_mem_usage=True)
        self.loaded.add(sha)

    def drop(self, sha: str) -> None:
        """Forget an adapter. The last one stays, because PEFT needs one."""
        if sha in self.loaded and len(self.loaded) > 1:
            self._model.delete_adapter(_peft_name(sha))
            self.loaded.remove(sha)

    def prompt_length(self, messages: Sequence[tuple[str, str]]) -> int:
        return len(self._prompt_ids(messages))

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Answer]:
        """One answer per request, in order; all rows decode together.

        Raises:
            InvalidRequest: a prompt leaves no room for an answer, or names an adapter that is not loaded.
        """
        import torch
        from transformers import LogitsProcessorList

        if not requests:
            return []
        prompts = [self._prompt_ids(request.messages) for request in requests]
        self._check(requests, prompts)
        longest = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id
        device = self._model.device
        input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        adapters = [_peft_name(request.adapter) if request.adapter else BASE_ROW for request in requests]
        extra = {"adapter_names": adapters} if self.loaded else {}
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                max_new_tokens=max(request.max_tokens for request in requests),
                do_sample=False,
                logits_processor=LogitsProcessorList([_RowSampler(requests, self._stop_ids, longest)]),
                pad_token_id=pad,
                eos_token_id=self._stop_ids,
                **extra,
            )
        rows = output[:, longest:].tolist()
        return [self._answer(row, len(ids)) for row, ids in zip(rows, prompts, strict=True)]

    def _prompt_ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _check(self, requests: Sequence[GenerationRequest], prompts: Sequence[list[int]]) -> None:
        for request, ids in zip(requests, prompts, strict=True):
            if request.adapter and request.adapter not in self.loaded:
                raise InvalidRequest(f"Adapter {request.adapter[:12]} is not loaded.")
            if len(ids) + 1 > self.settings.max_length:
                raise InvalidRequest(
                    f"The prompt has {len(ids)} tokens; at most {self.settings.max_length - 1} fit (model.max_length). "
                    "Shorten it."
                )

    def _answer(self, row: list[int], prompt_tokens: int) -> Answer:
        ends = [i for i, token in enumerate(row) if token in self._stop_ids]
        kept = row[: ends[0]] if ends else row
        text = self.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Answer(text, prompt_tokens, len(kept), bool(ends))


class _RowSampler:
    """Nucleus sampling with its own settings and random numbers for every row.

    One uniform number a row and step picks from the cumulative distribution, so a row's draws do
    not depend on its neighbours. The token drawn is the only one left possible: `generate` then
    takes it greedily.
    """

    def __init__(self, requests: Sequence[GenerationRequest], stop_ids: list[int], prompt_length: int):
        self.rows = [random.Random(request.seed) for request in requests]
        self.temperatures = [request.temperature for request in requests]
        self.top_ps = [request.top_p for request in requests]
        self.limits = [request.max_tokens for request in requests]
        self.shortest = min(self.limits)
        self.stop = stop_ids[0]
        self.prompt_length = prompt_length
        self._constants: tuple[Any, Any, Any] | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        if self._constants is None:  # the device is known only now
            temperature = torch.tensor(self.temperatures, device=scores.device).unsqueeze(1)
            top_p = torch.tensor(self.top_ps, device=scores.device).unsqueeze(1)
            self._constants = temperature.clamp_min(1e-6), top_p, temperature == 0
        temperature, top_p, greedy = self._constants
        draws = torch.tensor([row.random() for row in self.rows], device=scores.device).unsqueeze(1)
        ordered, order = (scores.float() / temperature).sort(dim=1, descending=True)
        mass = ordered.softmax(dim=1).cumsum(dim=1)
        place = torch.searchsorted(mass, draws * torch.minimum(mass[:, -1:], top_p))
        place = place.clamp_max_(scores.shape[1] - 1).masked_fill_(greedy, 0)
        chosen = order.gather(1, place)
        done = len(input_ids[0]) - self.prompt_length
        if done >= self.shortest:
            over = torch.tensor([done >= limit for limit in self.limits], device=scores.device).unsqueeze(1)
            chosen = chosen.masked_fill(over, self.stop)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen, 0.0)


def _peft_name(sha: str) -> str:
    """PEFT names adapters like modules: no dots, and immutable because the hash is in the name."""
    return f"adapter_{sha[:16]}"


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured] if configured is not None else []
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids = [tokenizer.eos_token_id, *ids]
    return list(ids)
