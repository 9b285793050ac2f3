"""Drives wrk, the load generator, and reads what it prints."""

import re
import subprocess
import tempfile
from dataclasses import dataclass

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
#: wrk's own is 2 seconds; whoever is slower still is slow, not broken.
TIMEOUT = "20s"


@dataclass(frozen=True)
class Load:
    """What wrk has seen. Times are in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    #: Requests that failed: a status other than 2xx or 3xx, a broken connection, no answer.
    errors: int


def script(workload):
    """The workload in Lua. A single path is formatted once, and then costs wrk nothing."""
    lines = [f"wrk.method = {quoted(workload.method)}"]
    for name, value in workload.headers.items():
        lines.append(f"wrk.headers[{quoted(name)}] = {quoted(value)}")
    if workload.body:
        lines.append(f"wrk.body = {quoted(workload.body.decode())}")
    if workload.rest:
        lines.append(f"function delay() return {workload.rest} end")
    if len(workload.paths) > 1:
        paths = ", ".join(map(quoted, workload.paths))
        lines += [
            f"local paths, next, ready = {{{paths}}}, 0, {{}}",
            "function init()",
            "  for i, path in ipairs(paths) do ready[i] = wrk.format(nil, path) end",
            "end",
            "function request()",
            "  next = next % #ready + 1",
            "  return ready[next]",
            "end",
        ]
    return "\n".join(lines) + "\n"


def quoted(text):
    """A Lua string. There are no line breaks in what is sent."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def run(workload, port, seconds, core):
    url = f"http://127.0.0.1:{port}{workload.paths[0]}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script(workload))
        file.flush()
        options = f"--threads 1 --latency --timeout {TIMEOUT} --duration {seconds}s".split()
        options += ["--connections", str(workload.connections), "--script", file.name, url]
        command = ["taskset", "--cpu-list", str(core), "wrk", *options]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    return parse(done.stdout)


def parse(text):
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)", text)
    if not total:
        raise ValueError(f"this is not what wrk prints:\n{text}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.*)", text)
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, re.findall(r"\d+", broken[1]))) if broken else 0
    return Load(
        requests=int(total[1]),
        seconds=milliseconds(total[2], total[3]) / 1000,
        p50=percentile(text, 50),
        p99=percentile(text, 99),
        errors=errors,
    )


def percentile(text, which):
    found = re.search(rf"^ +{which}% +([\d.]+)(us|ms|s|m|h) *$", text, re.MULTILINE)
    return milliseconds(found[1], found[2]) if found else float("nan")


def milliseconds(number, unit):
    return float(number) * UNITS[unit]
