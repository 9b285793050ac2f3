#!/usr/bin/env bash
# Makes the images of the tests beside it: the Dockerfile's, whole, and what
# they put around it. It needs root, the network for Debian's packages, Python's
# and Rust's, and a toolchain of rustup, but no registry of images: what the
# Dockerfile takes from one is made of debootstrap's Debian and of the machine's
# own toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export CONTAINERS_CONF=$PWD/tests/container/containers.conf
suite=${SUITE:-bookworm}
debian=localhost/serve-test-debian:$suite
rust=localhost/serve-test-rust:$(rustc --version | cut -d ' ' -f 2)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

if ! podman image exists "$debian"; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        "$suite" "$place/root" "${MIRROR:-http://deb.debian.org/debian}" >/dev/null
    tar -C "$place/root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists -c . \
        | podman import --quiet - "$debian" >/dev/null
    rm -rf "$place/root"
fi

# Both folders are where the image `rust` has them.
if ! podman image exists "$rust"; then
    mkdir -p "$place/cargo/bin"
    ln -s /usr/local/rustup/toolchains/stable/bin/{cargo,rustc} "$place/cargo/bin"
    podman build --quiet --build-context toolchain="$(rustc --print sysroot)" \
        --build-context cargo="$place/cargo" --tag "$rust" - >/dev/null <<'RUST'
FROM scratch
COPY --from=toolchain bin /usr/local/rustup/toolchains/stable/bin
COPY --from=toolchain lib /usr/local/rustup/toolchains/stable/lib
COPY --from=cargo bin /usr/local/cargo/bin
RUST
fi

# With the certificates of this machine, which may stand behind a proxy. The
# OCI format has no HEALTHCHECK.
build=(podman build --quiet --network host
    --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro)
"${build[@]}" --format docker --build-arg PYTHON="$debian" --build-arg RUST="$rust" \
    --tag localhost/serve-test .

# An application's image, as docs/guides/containers.md has it, and nginx's.
sed -n '/^```dockerfile$/,/^```$/{/^```/!p}' docs/guides/containers.md >"$place/Dockerfile"
"${build[@]}" --format docker --build-context serve=container-image://localhost/serve-test \
    --tag localhost/serve-test-app --file "$place/Dockerfile" examples/flask_distance
"${build[@]}" --tag localhost/serve-test-nginx - <<NGINX
FROM $debian
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light \
    && rm /etc/nginx/sites-enabled/default
CMD ["nginx", "-g", "daemon off;"]
NGINX
