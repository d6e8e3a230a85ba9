"""Links from other programs to our pages: right, or not there."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dpo_pipeline.assets.partitions import page
from dpo_pipeline.core.versions import page_of
from dpo_pipeline_tests.examples import settings_in


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, "http://127.0.0.1:8000/versions/v1.1"),
        ({"ports": {"host": "10.0.0.7", "serving": 8080}}, "http://10.0.0.7:8080/versions/v1.1"),
        ({"ports": {"host": "0.0.0.0"}}, None),
        ({"access": {"origins": ["https://loop.example"]}}, None),
        ({"access": {"hosts": ["loop.lan"]}}, None),
        ({"access": {"pages": False}}, None),
    ],
)
def test_a_page_is_linked_where_its_address_is_known(
    changed: dict[str, Any], address: str | None, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, **changed)
    assert settings.page_address(page_of("v1.1")) == address
    shown = dg.MetadataValue.url(address) if address else dg.MetadataValue.path(tmp_path)
    assert page(settings, page_of("v1.1"), tmp_path) == shown, "in Dagster a file is better than nothing"
