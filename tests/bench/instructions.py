"""Counts the instructions of one request with callgrind, and holds them against a budget.

Unlike seconds, instructions do not depend on what else the machine does. The worker's main thread
is counted over N and over 2 N requests on one connection: the difference has no start-up in it.
Each build of Python, compiler and C library has a budget of its own, in instructions.json.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from .servers import APPS, BINARY, ENVIRONMENT

BUDGET = Path(__file__).with_name("instructions.json")
REQUESTS = 2000
TOLERANCE = 0.03
PATIENCE = 300  # seconds; everything is many times slower under callgrind
#: What a client sends: it asks the same for some time, and then something else.
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
FIELDS = [b"", b"Accept: text/html, */*;q=0.8\r\nAccept-Language: en\r\nCookie: theme=dark\r\n"]
REPEATS = 4


def main():
    parser = argparse.ArgumentParser(prog="make bench-instructions")
    parser.add_argument("--renew", action="store_true", help="make what is counted the budget")
    parser.add_argument(
        "--wheel", action="store_true", help="compare with the wheel that is installed beside"
    )
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        return print("skipped: there is no valgrind to count instructions with")
    counted = of_a_request(BINARY)
    if options.wheel:
        sys.exit(comparison(counted, of_a_request(sys.executable, "-m", "serve")))
    budgets = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    if options.renew:
        BUDGET.write_text(json.dumps({**budgets, key(): round(counted)}, indent=1) + "\n")
    sys.exit(verdict(counted, None if options.renew else budgets.get(key())))


def verdict(counted, budget):
    """What is wrong, or None after saying what is right."""
    if budget is None:
        return print(f"{counted:,.0f} instructions a request; no budget to compare with: {key()}")
    change = counted / budget - 1
    said = f"{counted:,.0f} instructions a request, {change:+.1%} to the budget of {budget:,}"
    if change > TOLERANCE:
        return f"{said}: too many. If it is worth it: make bench-instructions ARGS=--renew"
    return print(said)


def comparison(binary, wheel):
    """What is wrong with the wheel, or None after saying what is right."""
    change = wheel / binary - 1
    said = f"binary {binary:,.0f}, wheel {wheel:,.0f} instructions a request: {change:+.1%}"
    return f"{said}: too many" if change > TOLERANCE else print(said)


def of_a_request(*serve):
    # Side by side: a count does not depend on who else is running.
    with ThreadPoolExecutor() as side_by_side:
        more, fewer = side_by_side.map(partial(total, serve), (2 * REQUESTS, REQUESTS))
    return (more - fewer) / REQUESTS


def key():
    """What the count depends on besides our code."""
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    compiler = " ".join(platform.python_compiler().split())
    return ", ".join(
        [
            f"CPython {platform.python_version()} ({compiler})",
            rustc.stdout.strip(),
            " ".join(platform.libc_ver()),
            platform.machine(),
        ]
    )


def total(serve, requests):
    """Instructions of the worker's main thread, start-up included."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as door:
        options = f"--workers 1 --timeout 0 --boot-timeout {PATIENCE} --bind fd://{door.fileno()}"
        command = ["valgrind", "--tool=callgrind", "--separate-threads=yes"]
        command += [f"--callgrind-out-file={folder}/%p", *serve, *options.split(), "bare:hello"]
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env={**ENVIRONMENT, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=[door.fileno()],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            ask(door.getsockname(), requests)
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        # Only the worker has a second thread.
        (relay,) = Path(folder).glob("*-02")
        text = relay.with_name(relay.name.replace("-02", "-01")).read_text()
        return int(re.search(r"^totals: (\d+)", text, re.MULTILINE)[1])


def ask(address, requests):
    with socket.create_connection(address, PATIENCE) as connection:
        for number in range(requests):
            connection.sendall(REQUEST % FIELDS[number // REPEATS % len(FIELDS)])
            answer = b""
            while not answer.endswith(b"Hello, world!\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise RuntimeError("the server has closed the connection")
                answer += piece


if __name__ == "__main__":
    main()
