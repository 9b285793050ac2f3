"""What comes out of the rounds: medians, ratios, tables, and the file they are kept in."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from statistics import median

from .measure import Sample
from .servers import BINARY, SERVERS

FOLDER = Path(__file__).parent / "results"
OURS = {server.name for server in SERVERS if server.is_ours}
VALUES = ["rate", "user", "system", "p50", "p99", "pss", "errors"]


class Results:
    """Samples by workload and server, with where they were taken."""

    def __init__(self, about, samples=None):
        self.about = about
        self.samples = samples or {}

    def add(self, workload, server, sample):
        self.samples.setdefault(workload, {}).setdefault(server, []).append(sample)

    def medians(self, workload):
        """The median of each value by server, the cheapest server first."""
        found = {s: middle(samples) for s, samples in self.samples[workload].items()}
        return dict(sorted(found.items(), key=lambda item: item[1].cpu))

    def write(self, path):
        samples = {
            workload: {name: [asdict(s) for s in rounds] for name, rounds in servers.items()}
            for workload, servers in self.samples.items()
        }
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**self.about, "samples": samples}, indent=1) + "\n")

    @classmethod
    def read(cls, path):
        about = json.loads(path.read_text())
        samples = {
            workload: {name: [Sample(**s) for s in rounds] for name, rounds in servers.items()}
            for workload, servers in about.pop("samples").items()
        }
        return cls(about, samples)


def middle(samples):
    """The median of each value on its own."""
    return Sample(**{name: median(getattr(s, name) for s in samples) for name in VALUES})


def best_peer(medians):
    """The cheapest server that is not ours, if there is one."""
    peers = {name: sample for name, sample in medians.items() if name not in OURS}
    return min(peers, key=lambda name: peers[name].cpu, default=None)


def ratio(sample, best):
    """CPU for each request, as a share of the best peer's: below 1 is better than all peers."""
    return sample.cpu / best.cpu


def table(medians):
    """Rows of text, the header first."""
    best = medians.get(best_peer(medians))
    rows = [["server", "CPU µs", "user", "requests/s", "p50 ms", "p99 ms", "MiB", "CPU ratio"]]
    for name, sample in medians.items():
        errors = f" ({sample.errors:.0f} errors)" if sample.errors else ""
        rows.append(
            [
                name + errors,
                short(sample.cpu),
                f"{sample.user / sample.cpu:.0%}" if sample.cpu else "",
                f"{sample.rate:,.0f}",
                short(sample.p50),
                short(sample.p99),
                short(sample.pss),
                f"{ratio(sample, best):.2f}" if best else "",
            ]
        )
    return rows


def short(number):
    """Three digits that mean something."""
    return (
        f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
    )


def aligned(rows):
    """For a terminal: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def about(servers, rounds, seconds):
    """The machine and the versions, without anything that names the machine."""
    versions = {it.package: it.version() for it in servers if not it.is_ours}
    run = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True)
    ours = run.stdout.strip().removeprefix("serve ")
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "versions": {"serve": ours, **versions},
        "rounds": rounds,
        "seconds": seconds,
    }


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
