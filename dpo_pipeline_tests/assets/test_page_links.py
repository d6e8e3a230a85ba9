"""Where Dagster leads whoever wants to read a page."""

from pathlib import Path

import dagster as dg

from dpo_pipeline.assets.partitions import page
from dpo_pipeline.core.versions import page_of
from dpo_pipeline_tests.examples import settings_in


def test_a_page_is_where_serving_shows_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, ports={"serving": 8123})
    assert page(settings, page_of("v1.1"), tmp_path) == dg.MetadataValue.url("http://127.0.0.1:8123/versions/v1.1")


def test_without_pages_it_is_a_file(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, access={"pages": False})
    assert page(settings, page_of("v1.1"), tmp_path) == dg.MetadataValue.path(tmp_path)
