"""What the processes of a server cost, read from /proc."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """Seconds spent in the program and in the kernel."""

    user: float
    system: float

    def __add__(self, other):
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other):
        return Cpu(self.user - other.user, self.system - other.system)


def read(pid, name):
    """A file of a process; empty when the process has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def session(leader):
    """The processes of a session, which is what a server consists of."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if stat(pid)[3:4] == [str(leader)]]


def stat(pid):
    """The fields of /proc/PID/stat from the third on: the second may have spaces in it."""
    return read(pid, "stat").rpartition(")")[2].split()


def cpu(leader):
    """All that the processes of a session have used so far, children that ended included."""
    total = Cpu(0, 0)
    for pid in session(leader):
        if fields := stat(pid):
            user, system, waited_user, waited_system = map(int, fields[11:15])
            total += Cpu((user + waited_user) / TICK, (system + waited_system) / TICK)
    return total


def pss(leader):
    """Their memory in MiB, each shared page divided among those that share it."""
    sizes = [re.search(r"^Pss: +(\d+) kB", read(p, "smaps_rollup"), re.M) for p in session(leader)]
    return sum(int(size[1]) for size in sizes if size) / 1024
