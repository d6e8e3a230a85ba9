#!/bin/bash
# bench_gpu on a bare machine: Python 3.12, torch with CUDA, numpy, pandas and pyarrow, and no network. At most 6 minutes.
#
#   bash benchmarks/gpu.sh --wheels DIR   where there is a network: fetch the rest (31 MB) into DIR
#   bash benchmarks/gpu.sh [DIR]          on the machine, with that folder beside it
#
# Nothing is installed for good: the wheels go into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
needed='transformers|tokenizers|trl|peft|datasets|accelerate|safetensors|huggingface.hub|dill|multiprocess|xxhash|regex'
needed+='|fsspec|filelock|packaging|tqdm|pydantic|pydantic.core|pydantic.settings|python-dotenv|annotated-types'
needed+='|typing-inspection|typing.extensions|msgspec|psutil|rich|markdown-it-py|mdurl|pygments|pyyaml|jinja2|markupsafe'
needed+='|httpx|httpcore|h11|anyio|idna|certifi|requests|urllib3|charset.normalizer'
needed+='|aiohttp|aiohappyeyeballs|aiosignal|attrs|frozenlist|multidict|propcache|yarl|click|shellingham|typer'
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
