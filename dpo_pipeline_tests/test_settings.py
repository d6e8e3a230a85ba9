"""Settings: strongest source first, unknown ones refused, errors that name the cure."""

import time
from pathlib import Path

import pytest

from dpo_pipeline.errors import ArtifactCorrupt, SettingsError
from dpo_pipeline.settings import DpoRecipe, Settings, load_settings, setting_names
from dpo_pipeline.settings.shown import without_passwords
from dpo_pipeline.stores.pseudonyms import signing_key


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("DPO_"):
            monkeypatch.delenv(name)


def test_the_defaults_are_the_tiny_profile() -> None:
    settings = load_settings()
    assert settings.profile == "tiny" and settings.model.base == "embedded"
    assert settings.quality.more_detailed and settings.cadence.startup.min_samples == 100


def test_the_profile_is_chosen_by_name_or_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPO_PROFILE", "qwen2")
    assert load_settings().model.base == "Qwen/Qwen2-1.5B"
    own = tmp_path / "own.yaml"
    own.write_text("recipe: {beta: 0.3}\n")
    monkeypatch.setenv("DPO_PROFILE", str(own))
    assert load_settings().recipe.beta == 0.3


def test_a_profile_that_is_no_file_name_at_all_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("x" * 5000, "~nobody-of-this-name/profile", "a" * 300 + ".yaml"):
        monkeypatch.setenv("DPO_PROFILE", text)
        with pytest.raises(SettingsError, match="was not found"):
            load_settings()


def test_a_variable_is_stronger_than_the_profile_and_keeps_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_RECIPE__BETA", "0.25")
    settings = load_settings()
    assert settings.recipe.beta == 0.25
    assert settings.recipe.epochs == load_settings().recipe.epochs


def test_few_pairs_are_gone_through_more_often() -> None:
    recipe = DpoRecipe(epochs=3, min_steps=20, batch_size=8)
    assert recipe.epochs_on(25) == 6.4 and recipe.epochs_on(100) == 3
    assert DpoRecipe(epochs=3).epochs_on(1) == 3


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DPO_RECIPE__BETTA", "1", "DPO_RECIPE__BETTA names no setting"),
        ("DPO_RECIPE__BETA", "much", "recipe.beta"),
        ("DPO_PORTS__SERVING", "99999", "ports.serving .DPO_PORTS__SERVING.: .*found '99999'"),
        ("DPO_RECIPE__LOSS_WEIGHTS", "much", "DPO_RECIPE__LOSS_WEIGHTS.*'much'"),
        ("DPO_ACCESS__ORIGINS", '["http://a"', "DPO_ACCESS__ORIGINS is not JSON.*a JSON list, or .* commas"),
        ("DPO_ENGINE__NAMES", "v1.0=chat", "DPO_ENGINE__NAMES is not JSON.*a JSON mapping"),
        ("DPO_ROLLOUT__CANARY__HOURS", "-1", "DPO_ROLLOUT__CANARY__HOURS"),
        ("DPO_PROFILE", "huge", "qwen2, tiny"),
        ("DPO_KEYS__ADMIN", "short", "DPO_KEYS__ADMIN.*at least 16 characters"),
        ("DPO_KEYS__ENGINE", "  ", "DPO_KEYS__ENGINE.*blank"),
        ("DPO_ACCESS__TRUSTED_PROXIES", "*", "DPO_ACCESS__TRUSTED_PROXIES.*no address or network"),
        ("DPO_ACCESS__TRUSTED_PROXIES", "proxy.lan", "DPO_ACCESS__TRUSTED_PROXIES.*no address or network"),
        ("DPO_ACCESS__TRUSTED_PROXIES", "10.0.0.7/8", "DPO_ACCESS__TRUSTED_PROXIES.*host bits set"),
        ("DPO_ACCESS__TRUSTED_PROXIES", "0.0.0.0/0", "DPO_ACCESS__TRUSTED_PROXIES.*everybody"),
        ("DPO_REGISTERED_MODEL", "team/chat", "DPO_REGISTERED_MODEL.*slash, colon or quotation mark"),
        ("DPO_REGISTERED_MODEL", "ann's chat", "DPO_REGISTERED_MODEL.*slash, colon or quotation mark"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings()


@pytest.mark.parametrize(
    "name",
    [
        "data_dir", "bank_dir", "model__base", "model__chat_template", "sft__demonstrations",
        "evaluation__reward_model", "evaluation__question_files", "llamafactory__command",
    ],
)  # fmt: skip
def test_a_home_that_nobody_has_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"DPO_{name.upper()}", "~nobody-of-this-name/there")
    with pytest.raises(SettingsError, match=f"(?s)DPO_{name.upper()}.*home directory"):
        load_settings()
    monkeypatch.setenv(f"DPO_{name.upper()}", "~/there")
    load_settings()


@pytest.mark.parametrize("value", ["http://a,http://b", '["http://a", "http://b"]', " http://a , http://b,"])
def test_a_list_is_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DPO_ACCESS__ORIGINS", value)
    assert load_settings().access.origins == ("http://a", "http://b")


def test_one_value_is_a_list_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_RECIPE__LOSS_TYPE", "sigmoid")
    monkeypatch.setenv("DPO_RECIPE__LOSS_WEIGHTS", "0.5")
    monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", "json://127.0.0.1:9000/hook")
    settings = load_settings()
    assert (settings.recipe.loss_type, settings.recipe.loss_weights) == (("sigmoid",), (0.5,))
    assert [url.get_secret_value() for url in settings.notifications.urls] == ["json://127.0.0.1:9000/hook"]


def test_one_value_of_a_stage_leaves_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_ROLLOUT__CANARY__HOURS", "12")
    monkeypatch.setenv("DPO_CADENCE__STARTUP__MIN_SAMPLES", "20")
    settings = load_settings()
    assert (settings.rollout.canary.hours, settings.rollout.canary.max_error_rate) == (12, 0.05)
    assert (settings.cadence.startup.min_samples, settings.cadence.startup.frequency) == (20, "weekly")


def test_null_switches_a_criterion_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_QUALITY__MAX_SIMILARITY", "null")
    assert load_settings().quality.max_similarity is None


def test_an_unknown_key_in_a_profile_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("recipe: {learning_rat: 0.3}\n")
    monkeypatch.setenv("DPO_PROFILE", str(own))
    with pytest.raises(SettingsError, match="learning_rat"):
        load_settings()


def test_an_empty_key_in_a_profile_lets_nobody_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('keys: {admin: ""}\n')
    monkeypatch.setenv("DPO_PROFILE", str(own))
    with pytest.raises(SettingsError, match=r"keys.admin .*at least 16 characters"):
        load_settings()


def test_a_refused_key_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_KEYS__ADMIN", "hunter2secret")
    with pytest.raises(SettingsError, match="DPO_KEYS__ADMIN") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_a_key_file_that_was_emptied_is_refused(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    key = signing_key(settings)
    assert len(key) == 64 and signing_key(settings) == key
    (tmp_path / "serving.key").write_text("")
    with pytest.raises(ArtifactCorrupt, match="holds 0 characters of a key, 64 are required"):
        signing_key(settings)


def test_data_dir_moves_everything_made_at_run_time(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    properties = [name for name, value in vars(Settings).items() if isinstance(value, property)]
    paths = [getattr(settings, name) for name in properties]
    for path in (path for path in paths if isinstance(path, Path)):
        assert path.is_relative_to(tmp_path)
    assert str(tmp_path) in settings.ledger_address


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().recipe.beta = 3  # type: ignore[misc]


def test_every_setting_has_a_variable() -> None:
    assert {"profile", "data_dir", "recipe__beta", "rollout__canary__max_error_rate"} <= set(setting_names())


@pytest.mark.parametrize("name", ["DPO_KEYS__API", "DPO_KEYS__ADMIN", "DPO_KEYS__ENGINE"])
@pytest.mark.parametrize("value", ["", "  "])
def test_a_blank_key_in_a_variable_locks_nothing_and_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} is set and blank, so nothing would be locked"):
        load_settings()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: &a [x]\nb: [*a, *a]\n", "an alias"),
        ("a: " + "[" * 5000, "cannot be read"),
        ("x" * 2_000_000, "more than 1048576 bytes"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_a_profile_that_would_unfold_or_run_is_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(SettingsError, match=told) as refused:
        load_settings(profile=str(tmp_path / "own.yaml"))
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://ann:p@ss/word@db:5432/loop", "postgresql://ann:***@db:5432/loop"),
        (
            {"mlflow_url": "http://u:pw@host", "model": "chat@prod"},
            {"mlflow_url": "http://u:***@host", "model": "chat@prod"},
        ),
        ("http://localhost:5000", "http://localhost:5000"),
        (
            "from http://a/x,http://u:p@h to postgresql://v:w@i",
            "from http://a/x,http://u:***@h to postgresql://v:***@i",
        ),
        ("http://ann@host:80/a", "http://ann@host:80/a"),
    ],
)
def test_passwords_of_addresses_are_not_shown(value: object, shown: object) -> None:
    assert without_passwords(value) == shown


def test_hiding_passwords_costs_no_more_than_the_texts_length() -> None:
    text = "x://a:" * 200_000
    begun = time.process_time()
    assert without_passwords(f"{text}@") == "x://a:***@"
    assert without_passwords(text) == text
    assert time.process_time() - begun < 2, "quadratic, it would be hours"


def test_a_time_zone_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_TIME_ZONE", "Europe/Berln")
    with pytest.raises(SettingsError, match=r"DPO_TIME_ZONE.*one such as UTC or Europe/Berlin"):
        load_settings()
