#!/usr/bin/env bash
# Makes the image that test_container.py runs: the Dockerfile's last stage, on
# a Debian from debootstrap, around a wheel that was built outside. So it needs
# root, and Debian's mirror once, but no image registry. The Dockerfile's build
# stage is not run.
#
# images.sh WHEEL: one for the Python of $SUITE.
set -euo pipefail
wheel=$1
suite=${SUITE:-bookworm}
base=localhost/serve-test-python:$suite
place=$(mktemp -d)
# crun does not run where both versions of cgroups are mounted; runc does.
runtime=()
if command -v runc >/dev/null; then runtime=(--runtime runc); fi
trap 'rm -rf "$place"' EXIT

if ! podman image exists "$base"; then
    debootstrap --variant=minbase --include=python3,python3-venv \
        "$suite" "$place/root" "${MIRROR:-http://deb.debian.org/debian}" >/dev/null
    tar -C "$place/root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists -c . \
        | podman import --quiet - "$base" >/dev/null
fi
install -D "$wheel" "$place/wheels/$(basename "$wheel")"
tar -C "$place" -c wheels | podman import --quiet - localhost/serve-test-wheel >/dev/null

# The OCI format has no HEALTHCHECK.
podman "${runtime[@]}" build --quiet --format docker --network none \
    --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 \
    --build-arg PYTHON="$base" --build-context build=container-image://localhost/serve-test-wheel \
    --tag localhost/serve-test .
