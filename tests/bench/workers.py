"""`make bench-workers`: each class of workers, ours and gunicorn's, on examples/flask_distance.

The example has a route that waits, one that computes and one that does both. One worker on one
core, and 32 clients on another: which class serves them best?
"""

import argparse
import shutil
import sys

from . import publish, results
from .__main__ import is_there, run
from .measure import cores
from .servers import ROOT, gunicorn, ours
from .workloads import Workload

EXAMPLE = ROOT / "examples" / "flask_distance"
SOURCE = results.FOLDER / "workers.json"
PAGE = ROOT / "docs" / "concepts" / "workers.md"
CHART = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- measured: make bench-workers ARGS=--publish -->\n", "<!-- end of measured -->\n"

CLIENTS = 32
#: By what it does.
ROUTES = {"waiting": "/io", "computing": "/cpu", "mixed": "/mix"}

SERVERS = [
    ours("serve-sync", "-k sync"),
    ours("serve-threads", f"-k threads --threads {CLIENTS}"),
    ours("serve-async", "-k async"),
    gunicorn("gunicorn-sync", "-k sync"),
    gunicorn("gunicorn-gthread", f"-k gthread --threads {CLIENTS}"),
    gunicorn("gunicorn-gevent", "-k gevent"),
]


def main():
    parser = argparse.ArgumentParser(
        prog="make bench-workers", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds (2)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds for each measurement (3)")
    parser.add_argument("--publish", action="store_true", help=f"renew docs/concepts/{PAGE.name}")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("make bench-workers needs wrk, the load generator: apt install wrk")

    servers = [server for server in SERVERS if is_there(server)]
    kept = results.Results(results.about(servers, options.rounds, options.seconds))
    plan = [
        (workload, server, number)
        for workload in workloads()
        for number in range(1, options.rounds + 1)
        for server in servers
    ]
    run(plan, options.seconds, cores("make bench-workers"), kept)
    print(results.aligned(table(kept)))
    kept.write(results.FOLDER / "last-workers.json")
    if options.publish:
        kept.write(SOURCE)
        draw(kept)
        PAGE.write_text(publish.between(PAGE.read_text(), BEGIN, END, measured(kept)))


def workloads():
    """The routes, with the answers that the application gives when no server is involved."""
    sys.path.insert(0, str(EXAMPLE))
    from main import app  # noqa: PLC0415 - of the example

    client = app.test_client()
    return [
        Workload(
            name,
            f"GET {path}",
            "main:app",
            client.get(path).data,
            paths=(path,),
            connections=CLIENTS,
            folder=EXAMPLE,
        )
        for name, path in ROUTES.items()
    ]


def table(kept):
    """A row for each server, the header first."""
    medians = {name: kept.medians(name) for name in ROUTES if name in kept.samples}
    rows = [["one worker"]]
    for name in medians:
        rows[0] += [f"{name}: requests/s", "p50 ms", "p99 ms"]
    rows[0].append("MiB")
    for server in SERVERS:
        row = [server.name]
        for samples in medians.values():
            sample = samples.get(server.name)
            row += (
                [results.short(n) for n in (sample.rate, sample.p50, sample.p99)]
                if sample
                else ["", "", ""]
            )
        sizes = [samples[server.name].pss for samples in medians.values() if server.name in samples]
        if sizes:
            rows.append([*row, results.short(max(sizes))])
    return rows


def measured(kept):
    """The lines of Markdown."""
    yield from publish.conditions(kept)
    yield ""
    yield f"![Requests/s by class of worker]({CHART.name})"
    yield ""
    yield publish.markdown(table(kept))


def draw(kept):
    """A panel for each route: they have different scales."""
    pyplot = publish.pyplot()
    names = [name for name in ROUTES if name in kept.samples]
    figure, axes = pyplot.subplots(1, len(names), figsize=(9, 2.6), sharey=True, squeeze=False)
    for name, axis in zip(names, axes.flat, strict=True):
        medians = kept.medians(name)
        shown = [server for server in SERVERS if server.name in medians]
        rates = [medians[server.name].rate for server in shown]
        publish.bars(axis, [(it.name, it.is_ours) for it in shown], rates, f"{name} {ROUTES[name]}")
    axes.flat[0].invert_yaxis()
    figure.suptitle(f"requests/s of one worker on one core, {CLIENTS} clients: more is better")
    publish.save(figure, CHART)


if __name__ == "__main__":
    main()
