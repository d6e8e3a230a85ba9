#!/bin/sh
# What the images of deploy/ are today, by digest, as lines for deploy/.env: NAME_IMAGE=name:tag@sha256:…
# Asks their registries through Docker, so it needs both.
set -eu
cd "$(dirname "$0")/.."
named=$(sed -n 's/^ARG \([A-Z0-9]*_IMAGE\)=\(.*\)$/\1 \2/p' deploy/Dockerfile
    sed -n 's/^ *image: ${\([A-Z0-9]*_IMAGE\):-\(.*\)}$/\1 \2/p' deploy/compose.yaml)
echo "$named" | while read -r name pinned; do
    image=${pinned%@*}
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
    echo "$name=$image@$digest"
done
