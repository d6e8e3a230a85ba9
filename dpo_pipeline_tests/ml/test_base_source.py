"""From where somebody loads the base model who has transformers and nothing of ours."""

from pathlib import Path

from dpo_pipeline.ml.base_model import base_source
from dpo_pipeline.stores.artifacts import write_manifest
from dpo_pipeline_tests.examples import settings_in


def test_the_embedded_base_is_found_by_what_it_is(tmp_path: Path) -> None:
    settings, shas = settings_in(tmp_path), {}
    for name in ("embedded-1", "embedded-2"):
        (folder := tmp_path / "artifacts/base" / name).mkdir(parents=True)
        (folder / "config.json").write_text(name)
        shas[name] = write_manifest(folder, {"kind": "base_model"})["sha256"]
    for name, sha in shas.items():
        assert base_source(settings, sha) == str(tmp_path / "artifacts/base" / name)
    assert base_source(settings, "of another machine") == str(tmp_path / "artifacts/base")


def test_another_base_is_its_folder_or_its_name_in_a_hub(tmp_path: Path) -> None:
    (own := tmp_path / "models" / "mine").mkdir(parents=True)
    (own / "model.safetensors").write_bytes(b"weights")
    assert base_source(settings_in(tmp_path, model={"base": "mine"}), None) == str(own)
    assert base_source(settings_in(tmp_path, model={"base": "Qwen/Qwen2-0.5B"}), None) == "Qwen/Qwen2-0.5B"
