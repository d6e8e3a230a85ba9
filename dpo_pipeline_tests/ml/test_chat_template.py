"""Conversations on templates of five kinds: what they cannot take is put where it fits or refused, never an error of
the model; and no text of people becomes a control token."""

from typing import Any

import pytest
from tokenizers import AddedToken, normalizers

from dpo_pipeline.core.conversation import TemplateRules
from dpo_pipeline.core.template_tokens import Defuser
from dpo_pipeline.errors import ModelUnavailable
from dpo_pipeline.ml.chat_template import ChatTemplate
from dpo_pipeline.ml.embedded import SHIPPED
from dpo_pipeline.request_errors import InvalidRequest

# Made for these tests, each with the habits of a family: who takes a system message, who turns in a row, and where.
TURNS = "{% for m in messages %}"
QWEN = (
    TURNS
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + ("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
)
LLAMA = (
    "<|begin|>"
    + TURNS
    + "<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    + ("{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}")
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}<s>{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {% if loop.first and first %}{{ first }}\n\n{% endif %}{{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
MISTRAL_LAST = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}<s>{% for m in rest %}"
    "{% if m.role == 'user' %}[INST] {% if loop.last and first %}{{ first }}\n\n{% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>" + TURNS + "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
DEEPSEEK = (
    "<｜begin｜>"
    + TURNS
    + (
        "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% else %}<｜Assistant｜>{{ m.content }}<｜end｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
    )
)
LAST_SYSTEM = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content %}{% endif %}{% endfor %}<｜begin｜>{{ ns.system }}"
    "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<｜end｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)
THINKING = DEEPSEEK.replace("<｜Assistant｜>{% endif %}", "<｜Assistant｜><think>\n{% endif %}")
MARKS = {
    QWEN: ("<|im_start|>", "<|im_end|>"),
    LLAMA: ("<|begin|>", "<|head|>", "<|/head|>", "<|eot|>"),
    MISTRAL: ("<s>", "</s>", "[INST]", "[/INST]"),
    MISTRAL_LAST: ("<s>", "</s>", "[INST]", "[/INST]"),
    LAST_SYSTEM: ("<｜begin｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end｜>"),
    GEMMA: ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    DEEPSEEK: ("<｜begin｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end｜>"),
    THINKING: ("<｜begin｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end｜>", "<think>"),
}
NAMES = {
    "qwen": QWEN, "llama": LLAMA, "mistral": MISTRAL, "mistral, system beside the last turn": MISTRAL_LAST,
    "gemma": GEMMA, "deepseek": DEEPSEEK, "deepseek, last system only": LAST_SYSTEM,
}  # fmt: skip


def tokenizer_with(template: str | None) -> Any:
    """The embedded base's tokenizer, with the template and the special tokens of another family."""
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(SHIPPED)
    made.add_special_tokens({"additional_special_tokens": list(MARKS.get(template or "", ()))})
    made.chat_template = template
    return made


def template(name: str) -> ChatTemplate:
    return ChatTemplate(tokenizer_with(NAMES[name]))


S, U, V, A = ("system", "be brief"), ("user", "hi"), ("user", "who are you?"), ("assistant", "hello")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("qwen", TemplateRules()),
        ("llama", TemplateRules()),
        ("mistral", TemplateRules(later_system=False, repeats=False, begins=False)),
        ("gemma", TemplateRules(system=False, later_system=False, repeats=False, begins=False)),
        ("deepseek", TemplateRules()),
        ("mistral, system beside the last turn", TemplateRules(system=False, later_system=False)),
        ("deepseek, last system only", TemplateRules(later_system=False)),
    ],
)
def test_what_a_template_takes_is_found_out(name: str, rules: TemplateRules) -> None:
    assert template(name).rules == rules


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "messages", [(U,), (S, U), (U, V), (S, U, V), (U, A, V), (S, U, A, V), (S, S, U), (U, A, S, V), (U, A, A, V)]
)
def test_what_has_a_plain_meaning_is_told_to_every_model(name: str, messages: tuple[tuple[str, str], ...]) -> None:
    text = template(name).prompt(messages)
    places = [text.index(content) for _, content in dict.fromkeys(messages)]
    assert places == sorted(places), "nothing is left out, and the order stays"


def test_a_system_message_without_a_role_for_it_goes_into_the_next_turn_of_the_user() -> None:
    gemma, mistral = template("gemma"), template("mistral")
    assert gemma.fitted((S, U)) == [{"role": "user", "content": "be brief\n\nhi"}]
    assert mistral.fitted((S, U, A, S, V)) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "be brief\n\nwho are you?"},
    ]


@pytest.mark.parametrize(
    ("name", "messages", "said"),
    [
        ("gemma", (S,), "behind the user's last turn"),
        ("gemma", (U, A, S), "behind the user's last turn"),
        ("gemma", (A, U), "begin with the user"),
        ("mistral", (A, U), "begin with the user"),
        ("qwen", (S,), "no turn of the user"),
        ("qwen", (), "no turn of the user"),
    ],
)
def test_what_cannot_be_told_is_the_clients_to_change(
    name: str, messages: tuple[tuple[str, str], ...], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        template(name).prompt(messages)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_people_becomes_a_control_token(name: str) -> None:
    tokenizer = tokenizer_with(NAMES[name])
    made = ChatTemplate(tokenizer)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in MARKS[NAMES[name]]}
    typed = " and ".join(MARKS[NAMES[name]])

    def count(text: str) -> dict[str, int]:
        read = tokenizer(text, add_special_tokens=False)["input_ids"]
        return {token: read.count(number) for token, number in ids.items()}

    plain, odd = made.trained((S, U, A, V), "fine"), made.trained((S, U, A, ("user", typed)), typed)
    for one, other in zip(plain, odd, strict=True):
        assert count(one) == count(other), "as many marks as turns, whatever is typed"
    assert tokenizer.decode(tokenizer(made.defuse(typed))["input_ids"]).count("\u2060") == len(ids)


@pytest.mark.parametrize("normalizer", [normalizers.NFKC(), normalizers.BertNormalizer(lowercase=False)])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("typed", ["say <|bos|>", "say ＜|bos|＞", "say <|bo\u200bs|>", "say <\u2060|bos|>"])
def test_whatever_a_tokenizer_makes_of_letters(normalizer: Any, normalized: bool, typed: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    tokenizer.backend_tokenizer.normalizer = normalizer
    tokenizer.add_tokens([AddedToken("<|bos|>", special=True, normalized=normalized)])
    read = tokenizer(Defuser(tokenizer)(typed), add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<|bos|>") not in read


@pytest.mark.parametrize("name", NAMES)
def test_the_trained_context_is_the_served_one(name: str) -> None:
    prompt, whole = template(name).trained((S, U, A, V), "I am a model.")
    assert prompt == template(name).prompt((S, U, A, V)) and whole.startswith(prompt)
    assert "I am a model." in whole[len(prompt) :]
    with pytest.raises(InvalidRequest, match="ends with the assistant"):
        template(name).trained((U, A), "and more")


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_trained_behind_the_tokens_that_serving_reads(name: str) -> None:
    """Gemma's tokenizer, for one, has line ends as tokens: those of an answer would join the end of the prompt."""
    told = template(name)
    told._tokenizer.add_tokens(["\n\n", "\n\n\n", "\nYes"])
    encode = told._tokenizer.backend_tokenizer.encode
    prompt, whole = told.trained((U,), " \n\nHello.\n")
    read, then = (encode(text, add_special_tokens=False).ids for text in (prompt, whole))
    assert then[: len(read)] == read == told.prompt_ids((U,)) and "Hello." in whole[len(prompt) :]
    if prompt.endswith("\n") and not prompt.endswith("\n\n"):
        with pytest.raises(InvalidRequest, match="cannot be told from the end"):
            told.trained((U,), "Yes")


def test_a_template_that_thinks_before_it_answers_is_refused() -> None:
    thinking = ChatTemplate(tokenizer_with(THINKING))
    with pytest.raises(ModelUnavailable, match="thinking block"):
        thinking.trained((U,), "fine")


def test_a_base_without_a_template_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="has no chat template"):
        ChatTemplate(tokenizer_with(None))


def test_tags_of_html_and_what_a_model_thinks_aloud_are_text() -> None:
    """Some models have tags as added tokens, and think between marks that are no special tokens."""
    tokenizer = tokenizer_with(QWEN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}"))
    tokenizer.add_tokens(["<table>", "</table>", "<think>", "</think>"])
    made = ChatTemplate(tokenizer)
    assert made.defuse("<table>x</table>") == "<table>x</table>"
    thought = "<think>easy</think>4"
    assert made.defuse(thought, "assistant") == thought
    assert made.fitted((U, ("assistant", thought), V))[1]["content"] == thought
    assert "</think>" not in made.prompt((U, ("user", "say </think>"))), "a person cannot pose as its thoughts"
