#!/bin/bash
# bench_gpu on a bare machine: Python 3.12, torch with CUDA, numpy, pandas and pyarrow, and no network. At most 6 minutes.
#
#   bash benchmarks/gpu.sh --wheels DIR   where there is a network: fetch the rest (29 MB) into DIR
#   bash benchmarks/gpu.sh [DIR]          on the machine, with that folder beside it
#
# Nothing is installed for good: the wheels go into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
# What the three libraries and this package need, but for torch and what images with torch have.
needed='accelerate|annotated-doc|annotated-types|anyio|click|datasets|dill|filelock|fsspec|h11|httpcore2|httpx2'
needed+='|huggingface.hub|idna|jinja2|markdown-it-py|markupsafe|mdurl|msgspec|multiprocess|packaging|peft|psutil'
needed+='|pydantic|pydantic.core|pydantic.settings|pygments|python-dotenv|pyyaml|regex|rich|safetensors|shellingham'
needed+='|tokenizers|tqdm|transformers|trl|truststore|typer|typing.extensions|typing.inspection|xxhash'
if [ "${1:-}" = "--wheels" ]; then
    grep -iE "^($needed)==" constraints.txt >"${TMPDIR:-/tmp}/gpu-wheels.txt"
    platforms=$(printf -- '--platform manylinux_2_%s_x86_64 ' 28 27 24 17 5)
    # shellcheck disable=SC2086
    exec python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
        --dest "$2" --requirement "${TMPDIR:-/tmp}/gpu-wheels.txt"
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
if [ -n "${1:-}" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$place" "$1"/*.whl
fi
export PYTHONPATH="$place:$PWD${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false HF_DATASETS_DISABLE_PROGRESS_BARS=1
export TQDM_DISABLE=1 PYTHONUNBUFFERED=1
python3 - <<'PY' || exit 1
import importlib.util, sys
missing = [name for name in ("torch", "numpy", "pandas", "pyarrow", "transformers", "trl", "peft", "datasets",
                             "pydantic_settings", "msgspec", "psutil", "rich") if not importlib.util.find_spec(name)]
if missing:
    sys.exit(f"Not here: {', '.join(missing)}. Bring wheels: bash benchmarks/gpu.sh --wheels DIR, then … gpu.sh DIR")
PY
timeout 360 python3 benchmarks/bench_gpu.py
