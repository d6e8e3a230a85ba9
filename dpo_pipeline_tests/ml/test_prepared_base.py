"""Bases as people have them: a GGUF file, a model without a chat template."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from dpo_pipeline.errors import ArtifactMissing, ModelUnavailable
from dpo_pipeline.ml.base_model import ensure_base, load_tokenizer, locate_base
from dpo_pipeline.ml.chat_template import ChatTemplate
from dpo_pipeline.ml.embedded import SHIPPED
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.examples import settings_in

pytestmark = pytest.mark.slow
NAMES = {
    "model.embed_tokens.": "token_embd.", "model.norm.": "output_norm.", "model.layers.0.": "blk.0.",
    "self_attn.q_proj.": "attn_q.", "self_attn.k_proj.": "attn_k.", "self_attn.v_proj.": "attn_v.",
    "self_attn.o_proj.": "attn_output.", "mlp.gate_proj.": "ffn_gate.", "mlp.up_proj.": "ffn_up.",
    "mlp.down_proj.": "ffn_down.", "input_layernorm.": "attn_norm.", "post_attention_layernorm.": "ffn_norm.",
}  # fmt: skip
QUESTION = "Why is the sky blue?"


def nothing(step: int, total: int, metrics: dict[str, float]) -> None:
    pass


def write_gguf(path: Path) -> None:
    """The embedded base as a GGUF file of 32-bit numbers, without its chat template."""
    from gguf import GGUFWriter
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(SHIPPED), AutoTokenizer.from_pretrained(SHIPPED)
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = {str(each) for each in tokenizer.added_tokens_decoder.values()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in special else 1 for token, _ in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(each) if isinstance(each, list) else each for each in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for name, tensor in load_file(SHIPPED / "model.safetensors").items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, np.ascontiguousarray(tensor.float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answer(settings: Settings) -> str:
    request = GenerationRequest((("user", QUESTION),), None, 0.0, 1.0, 20, 1)
    return Generator(ensure_base(settings, nothing), settings.model).generate([request])[0].text


def test_a_gguf_file_answers_as_the_model_it_was_made_of(tmp_path: Path) -> None:
    file = tmp_path / "data" / "models" / "own.gguf"
    file.parent.mkdir(parents=True)
    write_gguf(file)
    model = {"base": "own.gguf", "chat_template": str(SHIPPED / "chat_template.jinja"), "max_length": 160}
    settings = settings_in(tmp_path / "data", model=model)
    with pytest.raises(ArtifactMissing, match="not made ready yet"):
        locate_base(settings)
    plain = settings_in(tmp_path / "plain", model={"base": str(SHIPPED), "max_length": 160})
    assert answer(settings) == answer(plain)
    base = locate_base(settings)
    assert base.directory.parent == settings.artifacts_dir / "base" and base.directory.name.startswith("own-")
    again = ensure_base(settings, nothing)
    assert again == base, "made ready once"
    file.write_bytes(b"GGUF" + b"x" * 100)
    with pytest.raises(ModelUnavailable, match="cannot be converted"):
        ensure_base(settings, nothing)


def test_a_base_without_a_template_gets_one_by_setting(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    given = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "model").iterdir()}
    model = {"base": str(tmp_path / "model"), "max_length": 160}
    bare = settings_in(tmp_path / "data", model=model)
    with pytest.raises(ModelUnavailable, match="has no chat template"):
        ensure_base(bare, nothing)
    told = settings_in(tmp_path / "data", model=model | {"chat_template": "chatml"})
    template = ChatTemplate(load_tokenizer(ensure_base(told, nothing).directory))
    prompt = template.prompt((("system", "Be brief."), ("user", "Hi")))
    assert prompt == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert template.turn_end == load_tokenizer(SHIPPED).eos_token_id, "where it stops"
    gemma = settings_in(tmp_path / "data", model=model | {"chat_template": "gemma"})
    assert ensure_base(gemma, nothing).sha != locate_base(told).sha, "with another template it is another base"
    assert given == {path.name: hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "model").iterdir()}


def test_code_that_a_configuration_beside_a_gguf_names_is_neither_run_nor_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    write_gguf(folder / "tiny.gguf")
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own:\n    pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        own = {"AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", None], "AutoModelForCausalLM": "own.Own"}
        (folder / name).write_text(json.dumps({"model_type": "qwen2", "auto_map": own}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked"))
    settings = settings_in(tmp_path / "data", model={"base": str(folder / "tiny.gguf"), "chat_template": "chatml"})
    with suppress(ModelUnavailable):  # it may be refused, and must not be obeyed
        ensure_base(settings, nothing)
    assert not ran.exists()


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, model={"base": str(SHIPPED), "chat_template": str(tmp_path / "own.jinja")})
    with pytest.raises(ModelUnavailable, match="chatml, gemma, or to a Jinja file"):
        ensure_base(settings, nothing)


def test_without_the_packages_of_gemma_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"gemma-3-270m-q4_k_m.gguf is not there"):
        ensure_base(settings_in(tmp_path, profile="gemma"), nothing)
