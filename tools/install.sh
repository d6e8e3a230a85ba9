#!/bin/sh
# Run an installation quietly, saying every ten seconds what it is at; all that it said, if it fails.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1 &
install=$!
trap 'kill "$install" 2>/dev/null; exit 130' INT TERM
passed=0
while sleep 1 && kill -0 "$install" 2>/dev/null; do
    passed=$((passed + 1))
    if [ $((passed % 10)) -eq 0 ]; then
        printf '  %3d s: %s\n' "$passed" "$(grep -v WARNING "$log" | tail -n 1 | cut -c1-90)"
    fi
done
wait "$install" || { status=$?; cat "$log" >&2; exit "$status"; }
