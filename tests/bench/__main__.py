"""`make bench`: every server under every workload, round by round, and then the tables.

The rounds are interleaved, each server in turn, so that what else the machine does is shared by
all. Needs wrk and two cores.
"""

import argparse
import shutil
import sys
import time

from . import publish, results
from .measure import Failed, cores, measure
from .servers import SERVERS
from .workloads import WORKLOADS


def main():
    options = arguments()
    if not shutil.which("wrk"):
        sys.exit("make bench needs wrk, the load generator: apt install wrk")

    servers = [server for server in chosen(SERVERS, options.servers) if is_there(server)]
    workloads = chosen(WORKLOADS, options.workloads)
    kept = results.Results(results.about(servers, options.rounds, options.seconds))
    plan = [
        (workload, server, number)
        for workload in workloads
        for number in range(1, options.rounds + 1)
        for server in servers
        if server.does(workload)
    ]
    run(plan, options.seconds, cores("make bench"), kept)
    for workload in workloads:
        if workload.name in kept.samples:
            print(f"\n{workload.name}: {workload.about}\n")
            print(results.aligned(results.table(kept.medians(workload.name))))
    kept.write(results.FOLDER / "last.json")
    if options.publish:
        kept.write(publish.SOURCE)
        publish.write(kept)


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    names = {"servers": SERVERS, "workloads": WORKLOADS}
    for option, all_of_them in names.items():
        text = "some of, with commas: " + " ".join(one.name for one in all_of_them)
        parser.add_argument(f"--{option}", metavar="NAMES", type=lambda s: s.split(","), help=text)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds for each measurement (5)")
    parser.add_argument("--publish", action="store_true", help="renew docs/benchmarks.md")
    return parser.parse_args()


def chosen(things, names):
    """Those of `names`, or all."""
    by_name = {thing.name: thing for thing in things}
    if unknown := set(names or []) - set(by_name):
        sys.exit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def is_there(server):
    if reason := server.missing():
        print(f"{server.name} is left out: {reason}", file=sys.stderr)
    return not reason


def run(plan, seconds, cores, kept):
    """Measures all of the plan. A server that fails a workload is left out of it from then on."""
    failed = set()
    start = time.monotonic()
    for done, (workload, server, number) in enumerate(plan):
        left = (time.monotonic() - start) / done * (len(plan) - done) if done else 0
        minutes = f", {left / 60:.0f} min left" if done else ""
        progress(
            f"{done + 1} of {len(plan)}: {workload.name} {server.name}, round {number}{minutes}"
        )
        if (workload.name, server.name) in failed:
            continue
        try:
            kept.add(workload.name, server.name, measure(server, workload, seconds, cores))
        except Failed as failure:
            failed.add((workload.name, server.name))
            progress(f"{workload.name} without {failure}\n")
    progress("")


def progress(line):
    """One line that changes; in a file, one after another."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line.rstrip(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
