"""Real vLLM servers for tests, from the environment that `make vllm-cpu` builds."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from dpo_pipeline.settings import PROJECT_DIR
from dpo_pipeline_tests.programs_under_test import free_port, wait_until_answering

PYTHON = PROJECT_DIR / ".venv-vllm" / "bin" / "python"
KEY = "of the servers that generate"
_VARIABLES = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_API_KEY": KEY,
}


class VllmServer:
    """One, on a base model of ours; `start` again after `kill`."""

    def __init__(self, base: Path, log: Path, options: Sequence[str] = ()):
        self._port, self._log = free_port(), log
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
        self._command = [
            *(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--dtype", "float32"),
            *("--served-model-name", "base", "--enable-lora", "--max-lora-rank", "16", "--max-loras", "3"),
            *("--max-cpu-loras", "12", "--enforce-eager", "--max-num-seqs", "16", "--host", "127.0.0.1"),
            *("--port", str(self._port), *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **_VARIABLES}, stdout=out, stderr=out, start_new_session=True
            )
        wait_until_answering(self.url.replace("/v1", "/health"), [self._process], self._log, seconds=180)

    @property
    def holds(self) -> set[str]:
        """The names of its models."""
        return {each["id"] for each in self.client.get("models").json()["data"]}

    def kill(self) -> None:
        assert self._process
        with suppress(ProcessLookupError):  # its engine runs in a process of its own
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self.client.close()
        self.kill()
