# The image `serve`: Python, and the server in the virtual environment
# /opt/venv, run by the user `app`. docs/guides/containers.md has what an
# application's image adds. A config file beside main.py is found, PORT and
# SERVE_* are heard.

ARG PYTHON=docker.io/library/python:3.13-slim-bookworm
ARG RUST=docker.io/library/rust:1-slim-bookworm

FROM ${RUST} AS rust

# The wheel is for the minor version of Python that builds it: the same image.
FROM ${PYTHON} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
RUN python3 -m venv /maturin && /maturin/bin/pip install --no-cache-dir 'maturin>=1.9.4,<2'
WORKDIR /src
COPY . .
RUN /maturin/bin/maturin build --release --out /wheels --interpreter python3

FROM ${PYTHON}
RUN python3 -m venv /opt/venv && useradd --uid 10001 --user-group --no-create-home app
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    /opt/venv/bin/pip install --no-cache-dir --no-index /wheels/*.whl
WORKDIR /srv/app
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PORT=8000 HEALTH_PATH=/
USER 10001:10001
EXPOSE 8000
# Any answer but a 5xx: an application may refuse the name 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=6 CMD ["python3", "-c", "\
import http.client, os, sys; \
server = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=9); \
server.request('GET', os.environ['HEALTH_PATH']); \
sys.exit(server.getresponse().status >= 500)"]
# Brackets: the server itself is process 1, hears TERM, and needs no init.
CMD ["serve", "main:app"]
