"""`make soak`: what may not grow, does not; and one worker holds a crowd.

First a crowd: thousands of clients that wait, and thousands that read server-sent events, in one
worker of class async. Then mixed load with clients that go away, on a worker of each class, for
some minutes: descriptors, threads, greenlets and memory are counted while nobody is there.
"""

import argparse
import asyncio
import random
import re
import resource
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import Server, descriptors, wait_until

from . import clients

HERE = Path(__file__).parent
CYCLES = 10
CLIENTS = 60
THREADS = 64
#: What memory may grow by, from the first looks to the last ones: a share of it, and MiB.
GROWTH = (0.1, 4)
CLASSES = {
    "threads": ("-k", "threads", "--threads", THREADS),
    "async": ("-k", "async"),
}


def main():
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="of mixed load (10)")
    parser.add_argument("--waiting", type=int, default=10_000, help="clients that wait (10000)")
    parser.add_argument("--events", type=int, default=5_000, help="clients of a stream (5000)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    allow(max(options.waiting, options.events) + 1000)
    asyncio.run(wait(options.waiting))
    asyncio.run(listen(options.events))
    if not asyncio.run(soak(options.minutes * 60, options.seed)):
        sys.exit("something grows")


def allow(wanted):
    """The server inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"this needs {wanted} descriptors, and ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@contextmanager
def served(*options):
    with Server(None, "--backlog", 4096, *options, cwd=HERE, spec="app:app") as server:
        yield server
        if server.stop() != 0:
            raise clients.Wrong(f"it ended badly:\n{server.log.text()}")


def memory(pid):
    """MiB of a process, each shared page divided among those that share it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1]) / 1024


# ---- crowds


async def opened(server, count, path):
    """So many connections that have asked for `path`."""
    connections = []
    for begin in range(0, count, 100):
        some = range(begin, min(begin + 100, count))
        connections += await asyncio.gather(
            *(asyncio.open_connection(*server.address) for _ in some)
        )
        for _, writer in connections[begin:]:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    return connections


async def wait(count):
    """All of them are with the application at once; then all of them are answered."""
    with served("-k", "async", "--worker-connections", count + 10) as server:
        await clients.one(server.address, "/")
        (pid,) = server.worker_pids()
        before = memory(pid)
        connections = await opened(server, count, "/crowd")
        while (await clients.one(server.address, "/count"))[1] != str(count).encode():
            await asyncio.sleep(0.05)
        each = (memory(pid) - before) * 1024 / count
        begun = time.monotonic()
        await clients.one(server.address, "/open")
        answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
        took = time.monotonic() - begun
        for _, writer in connections:
            writer.close()
        good = sum(a.startswith(b"HTTP/1.1 200") and b"waited" in a for a in answers)
        print(
            f"waiting: {good} of {count} answered, {took:.2f} s after the first one could be; "
            f"{each:.1f} KiB for each that waits"
        )
        if good != count:
            raise clients.Wrong(f"{count - good} of {count} failed")


async def listen(count):
    """Each of them gets events, in order; the generators end when they leave."""
    events = 10
    with served("-k", "async", "--worker-connections", count + 10) as server:
        before = (await census(server)).greenlets
        (pid,) = server.worker_pids()
        idle, quiet = memory(pid), sockets(pid)
        connections = await opened(server, count, "/events")
        begun = time.monotonic()
        for number in range(events):
            wanted = f"data: {number}\n\n".encode()
            await asyncio.gather(*(reader.readuntil(wanted) for reader, _ in connections))
        took = time.monotonic() - begun
        each = (memory(pid) - idle) * 1024 / count
        for _, writer in connections:
            writer.close()
        print(
            f"events: {events} to each of {count}, {events * count / took:,.0f} a second; "
            f"{each:.1f} KiB for each stream"
        )
        await asyncio.to_thread(
            wait_until, lambda: sockets(pid) <= quiet, "the streams to end with their clients"
        )
        print(f"events: all have ended, {(await census(server)).greenlets - before} greenlets kept")


def sockets(pid):
    return sum(name.startswith("socket:") for name in descriptors(pid).values())


# ---- leaks


@dataclass(frozen=True)
class Census:
    descriptors: int
    threads: int
    greenlets: int
    memory: float

    def __str__(self):
        return (
            f"{self.descriptors} descriptors, {self.threads} threads, "
            f"{self.greenlets} greenlets, {self.memory:.1f} MiB"
        )


async def census(server):
    """What there is while nobody is there but the one who asks."""
    _, body = await clients.one(server.address, "/census")
    (pid,) = server.worker_pids()
    return Census(*map(int, body.split()), memory(pid))


async def settled(server):
    """The same, once all that the clients have left behind is noticed."""
    before = await census(server)
    while True:
        await asyncio.sleep(0.5)
        now = await census(server)
        if now.descriptors >= before.descriptors:
            return now
        before = now


async def soak(seconds, seed):
    runs = (one_class(name, seconds, seed) for name in CLASSES)
    return all(await asyncio.gather(*runs))


async def one_class(name, seconds, seed):
    """Mixed load in several cycles, and a look after each; whether nothing has grown."""
    with served(*CLASSES[name]) as server:
        looks, told = [], {}
        for cycle in range(CYCLES):
            part = seconds / CYCLES
            stories = await clients.load(server.address, part, CLIENTS, seed + cycle * CLIENTS)
            told = {story: told.get(story, 0) + count for story, count in stories.items()}
            looks.append(await settled(server))
            print(f"{name}, {cycle + 1} of {CYCLES}: {looks[-1]}", flush=True)
        grown = growth(looks)
        print(f"{name}: {told}")
        print(f"{name}: {'; '.join(grown) or 'nothing has grown'}")
        if re.search("panicked", server.log.text()):
            raise clients.Wrong(server.log.text())
        return not grown


def growth(looks):
    """What has grown. The first looks do not count: pools and caches fill up."""
    early, late = looks[2:5], looks[-3:]
    found = []
    before, after = (max(it.descriptors for it in early), min(it.descriptors for it in late))
    if after > before:
        found.append(f"{before} descriptors, then {after}")
    # These have a size, and may reach it late.
    for what, size in {"threads": THREADS, "greenlets": CLIENTS}.items():
        count = min(getattr(it, what) for it in late)
        if count > size + 10:
            found.append(f"{count} {what}")
    share, more = GROWTH
    before, after = (max(it.memory for it in early), min(it.memory for it in late))
    if after > before * (1 + share) + more:
        found.append(f"{before:.1f} MiB, then {after:.1f}")
    return found


if __name__ == "__main__":
    main()
