#!/bin/sh
# Is there a Python that this project runs on, and room to install it? Prints the cure where there is not.
# usage: check_machine.sh PREFERRED_PYTHON [--print]
need_gb=4
for candidate in "$1" python3 python; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
        [ "$2" = "--print" ] && echo "$candidate" && exit 0
        free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
        if [ ! -d .venv/lib ] && [ "$free_kb" -lt $((need_gb * 1000000)) ]; then
            echo "$(pwd) has $((free_kb / 1000)) MB free; the installation needs $need_gb GB. Free some space or clone to another disk." >&2
            exit 1
        fi
        exit 0
    fi
done
found=$("${1:-python3}" --version 2>/dev/null || python3 --version 2>/dev/null || echo none)
echo "Python 3.11 or 3.12 is required; found: $found. Install it, or name it: make PYTHON=/path/to/python3.11" >&2
exit 1
