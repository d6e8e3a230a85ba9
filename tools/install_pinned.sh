#!/bin/sh
# Install requirements.txt by two pips at once, half of the packages each: unpacking takes a core, and most machines
# have another. Each package is there by its hash, without looking for what it needs: all of that is pinned too.
#
#   sh tools/install_pinned.sh PIP INSTALL [options]
set -eu
halves=$(mktemp -d)
trap 'rm -rf "$halves"' EXIT
awk -v folder="$halves" '/^[^ #]/ {half = !half} {print > (folder "/" half ".txt")}' requirements.txt
"$@" --no-deps --require-hashes -r "$halves/0.txt" >"$halves/log" 2>&1 &
other=$!
"$@" --no-deps --require-hashes -r "$halves/1.txt" || { status=$?; kill "$other" 2>/dev/null || true; exit "$status"; }
wait "$other" || { status=$?; cat "$halves/log" >&2; exit "$status"; }
