"""The embedded base model: a byte-level BPE tokenizer and a Qwen2 of about a million parameters.

It lies beside this file, ready, so that no machine without a network is stuck and nobody waits; this
module is how it was built, and builds another one for another question bank. It knows what the bank
says, in short and in detail, and it declines the harmful requests beside the bank; what it prefers to
say is up to the adapters.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.core.questions import Question

SHIPPED = Path(__file__).parent / "embedded_base"
"""The model built from `data/bank` with the default number of steps."""
REVISION = 1
"""Part of a base model's identity. Raise it when a change of the code below changes what is learned."""
FIRST_STEPS = 40
VOCABULARY = 2048
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ARCHITECTURE = {
    "hidden_size": 192,
    "intermediate_size": 1024,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
# One wide layer holds the bank better than several narrow ones of the same size. Which optimizer and why:
# docs/decisions/0012.
MATRIX_RATE, MATRIX_DECAY, VECTOR_RATE, VECTOR_BETAS, BATCH, SEED = 0.01, 0.01, 4e-3, (0.9, 0.95), 64, 20
# Words that the tokenizer shall know whole.
ROLES = ["user", "assistant"] * 200
REFUSALS = (
    "I cannot help with that, because somebody could be hurt.",
    "I will not help with this. Please ask me something else.",
)

Progress = Callable[[int, int, dict[str, float]], None]
LearnedRow = tuple[list[int], int]


@dataclass(frozen=True)
class Curriculum:
    """What the model is built from: texts for the tokenizer, and (question, answer) pairs to learn."""

    texts: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, bank: Sequence[Question], harmful: Sequence[str]) -> "Curriculum":
        spoken = [text for q in bank for text in (q.question, *q.terse, *q.detailed, *q.wrong, q.reference)]
        learned = [(question.question, answer) for question in bank for answer in learned_answers(question)]
        declined = [(request, refusal) for request in harmful for refusal in REFUSALS]
        return cls((*spoken, *harmful, *REFUSALS, *ROLES), (*learned, *declined))

    def identity(self, steps: int) -> str:
        """sha256 over all that goes into a model: this, the constants above, and the number of steps."""
        rates = [MATRIX_RATE, MATRIX_DECAY, VECTOR_RATE, VECTOR_BETAS]
        recipe = [REVISION, VOCABULARY, CHAT_TEMPLATE, ARCHITECTURE, rates, BATCH, SEED, steps]
        return hashlib.sha256(json.dumps([recipe, self.texts, self.answers]).encode()).hexdigest()


def build_tokenizer(texts: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer with a ChatML template: any text can be written, none is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END_OF_TEXT, START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=ARCHITECTURE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )


def build_base(curriculum: Curriculum, steps: int, directory: Path, progress: Progress) -> dict[str, Any]:
    """Train tokenizer and model and save both to `directory`, the weights in half precision.

    Returns:
        Facts for the manifest: identity, parameters, steps, final loss in nats a token.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    generator = random.Random(SEED)
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer(curriculum.texts)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **ARCHITECTURE,
    )
    model = Qwen2ForCausalLM(config)
    rows = _encode(tokenizer, curriculum.answers)
    optimizers = _optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda done: _rate(done / steps)) for o in optimizers]
    model.train()
    losses: list[float] = []
    stream = _batches(rows, generator)
    for step in range(1, steps + 1):
        input_ids, attention_mask, labels = _pad(next(stream), tokenizer.pad_token_id)
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for moving in (*optimizers, *schedules):
            moving.step()
        losses.append(float(loss.detach()))
        progress(step, steps, {"loss": losses[-1]})
    _save(model.eval(), directory)
    tokenizer.save_pretrained(directory)
    last = losses[-math.ceil(len(rows) / BATCH) :]
    return {
        "kind": "base_model",
        "source": "embedded",
        "identity": curriculum.identity(steps),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": steps,
        "final_loss": round(sum(last) / len(last), 4),
        # By these a rebuild is recognised long before it is done.
        "first_losses": [round(loss, 4) for loss in losses[:FIRST_STEPS]],
    }


def _optimizers(model: Any) -> list[Any]:
    """Muon for the matrices inside the layer, AdamW for embeddings and norms."""
    import torch

    from dpo_pipeline.ml.muon import Muon

    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if parameter.ndim == 2 and "embed" not in name]
    others = [parameter for name, parameter in named if parameter.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=MATRIX_RATE, weight_decay=MATRIX_DECAY),
        torch.optim.AdamW(others, lr=VECTOR_RATE, betas=VECTOR_BETAS, weight_decay=0.0),
    ]


def _save(model: Any, directory: Path) -> None:
    """In half the room; loaded as float32 all the same, because few processors compute in less."""
    import torch

    model.half().save_pretrained(directory)
    model.config.dtype = torch.float32
    model.config.save_pretrained(directory)


def _rate(done: float) -> float:
    """Learning rate as a share of its peak: a short rise, a plateau, a straight fall to 2 %."""
    return min(1.0, done / 0.04 + 0.02, max(0.02, (1 - done) / 0.5))


def first_sentence(answer: str) -> str:
    return re.split(r"(?<=[.!?]) ", answer, maxsplit=1)[0]


def learned_answers(question: Question) -> list[str]:
    """What the base model learns to say to a question: few answers, which a million parameters hold well.

    The short ones are the detailed ones cut after their first sentence: then "stop here or go on" is
    one decision that is the same for every question, and an adapter has something to turn that holds
    for new ones. No wrong answer: which one is wrong is nothing of that kind, what people say of one
    question tells nothing of the next. It is mistaken all the same where it garbles.
    """
    detailed = question.detailed[:2]
    return [*map(first_sentence, detailed), *detailed]


def _encode(tokenizer: Any, learned: Sequence[tuple[str, str]]) -> list[LearnedRow]:
    """(token ids, length of the prompt) of every (question, answer)."""
    rows = []
    for question, answer in learned:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        prompt_ids, answer_ids = tokenizer([prompt, answer], add_special_tokens=False)["input_ids"]
        rows.append(([*prompt_ids, *answer_ids, tokenizer.eos_token_id], len(prompt_ids)))
    return rows


def _batches(rows: list[LearnedRow], generator: random.Random) -> Iterator[list[LearnedRow]]:
    """Endless batches of rows of like length (less padding), in random order."""
    while True:
        order = sorted(rows, key=lambda row: len(row[0]) + generator.random() * 8)
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        generator.shuffle(groups)
        yield from groups


def _pad(batch: list[LearnedRow], pad_id: int) -> Any:
    """(input ids, attention mask, labels), each [batch, longest]; the loss is on answers only."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    input_ids = torch.full((len(batch), longest), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, -100)
    for row, (ids, prompt_length) in enumerate(batch):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
        labels[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    return input_ids, attention_mask, labels
