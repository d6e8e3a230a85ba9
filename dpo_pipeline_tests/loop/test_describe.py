"""Links from other programs' pages to ours: right, or not there."""

from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.loop.describe import version_page
from dpo_pipeline_tests.examples import settings_in


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, "http://127.0.0.1:8000/versions?name=v1.1"),
        ({"ports": {"host": "10.0.0.7", "serving": 8080}}, "http://10.0.0.7:8080/versions?name=v1.1"),
        ({"ports": {"host": "0.0.0.0"}}, None),
        ({"access": {"origins": ["https://loop.example"]}}, None),
        ({"access": {"hosts": ["loop.lan"]}}, None),
    ],
)
def test_the_page_of_a_version_is_linked_where_its_address_is_known(
    changed: dict[str, Any], address: str | None, tmp_path: Path
) -> None:
    assert version_page(settings_in(tmp_path, **changed), "v1.1") == address
