"""A real S3 for tests, by HTTP: moto's server, which honours writing only where nothing is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from dpo_pipeline_tests.programs_under_test import free_port, wait_until_answering

BUCKET = "dpo"


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the variables by which whoever uses it finds it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "s3.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_until_answering(f"{url}/moto-api/", [process], log)
        assert httpx.put(f"{url}/{BUCKET}").status_code == 200
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
            "PATH": os.environ["PATH"],
        }
    finally:
        process.terminate()
        process.wait(timeout=30)
