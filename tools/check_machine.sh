#!/bin/sh
# Is there a Python that this project runs on, and room to install it? Prints the cure where there is not.
# usage: [TORCH="pip options"] check_machine.sh PREFERRED_PYTHON [--print]
for candidate in "$1" python3 python; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then
        [ "$2" = "--print" ] && echo "$candidate" && exit 0
        # On Linux x86-64, PyPI's torch brings CUDA along; everywhere else, and from an index of CPU builds, it does not.
        need_gb=9 build="the CUDA build of torch"
        case "$TORCH $(uname -s) $(uname -m)" in
            *cpu* | *Darwin* | *aarch64* | *arm64*) need_gb=4 build="the CPU build of torch" ;;
        esac
        free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
        if [ ! -d .venv/lib ] && [ "$free_kb" -lt $((need_gb * 1000000)) ]; then
            echo "$(pwd) has $((free_kb / 1000)) MB free; the installation needs $need_gb GB with $build. Free some space, clone to another disk, or choose a smaller build: see the README, Installation." >&2
            exit 1
        fi
        exit 0
    fi
done
found=$("${1:-python3}" --version 2>/dev/null || python3 --version 2>/dev/null || echo none)
echo "Python 3.11, 3.12, 3.13 or 3.14 is required; found: $found. Install one, or name it: make PYTHON=/path/to/python3.13" >&2
exit 1
