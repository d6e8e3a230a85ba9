"""Pairs → mix, prompt-disjoint split, content hash. Writing files belongs to `stores.artifacts` and `ml`."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.errors import DatasetTooSmall

LARGEST_WEIGHT = 4.0


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One valid preference, reduced to what training needs and lineage asks for."""

    event_id: str
    prompt: str | list[Message]
    chosen: str
    rejected: str
    category: str
    source: str


class LabelledAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that people called good or bad."""

    event_id: str
    prompt: str | list[Message]
    answer: str
    good: bool
    source: str


@dataclass(frozen=True)
class Split:
    """`train` and `eval` share no prompt, nor does `labelled` with `eval`; `left_out` counts others by reason."""

    train: tuple[Pair, ...]
    eval: tuple[Pair, ...]
    left_out: dict[str, int]
    content_hash: str
    labelled: tuple[LabelledAnswer, ...] = ()

    @property
    def sources(self) -> dict[str, int]:
        """What is trained on, by where it comes from."""
        return count_sources(self.train, self.labelled)


def split_pairs(pairs: Iterable[Pair], held_out_prompts: frozenset[str], eval_share: float, at_least: int) -> Split:
    """Drop what must not be trained on, and split by prompt.

    A prompt's side hangs on its hash, so a prompt that once was in `eval` never enters a later
    `train`. Where all prompts fall on one side, the prompt with the lowest hash forms `eval`.

    Args:
        held_out_prompts: `prompt_key`s of the questions that versions are judged on.
        at_least: pairs that `train` must hold; 0: none need be there, nor any to evaluate on.

    Raises:
        DatasetTooSmall: fewer training pairs than `at_least`, or no second prompt to evaluate on.
    """
    left_out: Counter[str] = Counter()
    kept: dict[tuple[str, str, str], Pair] = {}
    for pair in sorted(pairs, key=lambda pair: pair.event_id):
        key = prompt_key(pair.prompt)
        if key in held_out_prompts:
            left_out["held_out_question"] += 1
        elif (key, pair.chosen, pair.rejected) in kept:
            left_out["duplicate"] += 1
        else:
            kept[key, pair.chosen, pair.rejected] = pair
    by_prompt: dict[str, list[Pair]] = {}
    for (key, _, _), pair in kept.items():
        by_prompt.setdefault(key, []).append(pair)
    eval_keys = {key for key in by_prompt if _is_evaluated(key, eval_share)} or set(sorted(by_prompt)[:1])
    train = tuple(pair for key, group in by_prompt.items() if key not in eval_keys for pair in group)
    held = tuple(pair for key, group in by_prompt.items() if key in eval_keys for pair in group)
    if at_least and (len(train) < at_least or not held):
        raise DatasetTooSmall(
            f"The dataset holds {len(train)} training pairs on {len(by_prompt)} prompts ({dict(left_out)} left out); "
            f"at least {at_least} pairs (one batch) on two prompts were required. "
            "Collect more preferences, relax a quality criterion, or lower recipe.batch_size."
        )
    return Split(train, held, dict(left_out), content_hash(train, held))


def _is_evaluated(key: str, eval_share: float) -> bool:
    """The side of a prompt hangs on its `prompt_key` alone."""
    return int(key, 16) / 2**64 < eval_share


def count_sources(pairs: Iterable[Pair], labelled: Iterable[LabelledAnswer]) -> dict[str, int]:
    return dict(Counter([pair.source for pair in pairs]) + Counter([answer.source for answer in labelled]))


def check_answers(answers: int, pairs_a_step: int) -> None:
    """
    Raises:
        DatasetTooSmall: fewer answers, each by itself, than one step of KTO takes.
    """
    if answers < 2 * pairs_a_step:
        raise DatasetTooSmall(
            f"{answers} answers can be trained on, those of pairs and those that people labelled; one step takes "
            f"{2 * pairs_a_step}. Collect more votes, thumbs or ratings, or lower recipe.batch_size."
        )


def answer_weights(good: int, bad: int) -> tuple[float, float]:
    """How much a good and a bad answer weigh in KTO: both kinds the same in total, but the rarer at most four times.

    Beyond that a few answers, and whoever gave them, would hold half of what is learned.
    """
    return min(max(bad / max(good, 1), 1.0), LARGEST_WEIGHT), min(max(good / max(bad, 1), 1.0), LARGEST_WEIGHT)


def with_labelled(split: Split, labelled: Iterable[LabelledAnswer], eval_share: float) -> Split:
    """The split with labelled answers beside its pairs, each once; none to a prompt on the side it is judged on.

    A prompt's side is that of `split_pairs`, also while there is no pair on it.
    """
    judged, left_out = {prompt_key(pair.prompt) for pair in split.eval}, Counter(split.left_out)
    kept: dict[tuple[str, str, bool], LabelledAnswer] = {}
    for each in labelled:
        key = prompt_key(each.prompt)
        if key in judged or _is_evaluated(key, eval_share):
            left_out["label_on_evaluated_prompt"] += 1
        elif (key, each.answer, each.good) in kept:
            left_out["duplicate_label"] += 1
        else:
            kept[key, each.answer, each.good] = each
    rows = tuple(kept.values())
    return replace(
        split,
        labelled=rows,
        left_out=dict(left_out),
        content_hash=content_hash(split.train, split.eval, rows),
    )


def content_hash(train: Iterable[Pair], held: Iterable[Pair], labelled: Sequence[LabelledAnswer] = ()) -> str:
    """sha256 over all parts, in order of event id: the identity of a dataset."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder()
    parts: list[tuple[str, Iterable[Pair | LabelledAnswer]]] = [("train", train), ("eval", held)]
    for name, rows in parts + ([("labelled", labelled)] if labelled else []):
        digest.update(name.encode())
        for row in sorted(rows, key=lambda row: row.event_id):
            digest.update(encoder.encode(row))
            digest.update(b"\n")
    return digest.hexdigest()
