"""Writes the measured part of docs/benchmarks.md, and its charts, from results that are kept."""

import re

from . import results
from .servers import ROOT
from .workloads import WORKLOADS

SOURCE = results.FOLDER / "published.json"
PAGE = ROOT / "docs" / "benchmarks.md"
CHARTS = ROOT / "docs" / "benchmarks"
BEGIN, END = "<!-- measured: make bench ARGS=--publish -->\n", "<!-- end of measured -->\n"
#: What is drawn: a value, and what it says.
DRAWN = {"cpu": "CPU per request, µs: less is better", "rate": "requests/s: more is better"}
OURS, PEER = "#1f6f8b", "#b9c0c4"


def write(kept):
    for value in DRAWN:
        draw(kept, value)
    PAGE.write_text(renewed(PAGE.read_text(), kept))


def renewed(page, kept):
    """The page with its measured part as `kept` has it."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return head + begin + "\n".join(measured(kept)) + "\n" + end + tail


def measured(kept):
    """The lines of Markdown."""
    machine, versions = kept.about["machine"], kept.about["versions"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"CPython {machine['python']};"
    )
    yield f"the median of {kept.about['rounds']} rounds of {kept.about['seconds']} seconds each."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + "."
    for value, meaning in DRAWN.items():
        yield f"\n![{meaning}](benchmarks/{value}.svg)"
    for workload in WORKLOADS:
        if workload.name in kept.samples:
            yield f"\n### {workload.name}\n"
            yield f"{workload.about}; {workload.connections} connections.\n"
            yield markdown(results.table(kept.medians(workload.name)))


def markdown(rows):
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    ours = re.compile(rf"({'|'.join(map(re.escape, sorted(results.OURS)))})\b")
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        first = f"**{row[0]}**" if ours.match(row[0]) else row[0]
        lines.append("| " + " | ".join([first, *row[1:]]) + " |")
    return "\n".join(lines)


def draw(kept, value):
    """A panel of bars for each workload."""
    import matplotlib  # noqa: PLC0415 - only `make bench` has it, the tests of the tables do not

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "serve", "font.size": 8})
    from matplotlib import pyplot  # noqa: PLC0415

    workloads = [workload for workload in WORKLOADS if workload.name in kept.samples]
    rows = (len(workloads) + 1) // 2
    figure, axes = pyplot.subplots(rows, 2, figsize=(9, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(workloads) :]:
        axis.remove()
    for workload, axis in zip(workloads, axes.flat, strict=False):
        medians = kept.medians(workload.name)
        numbers = [getattr(sample, value) for sample in medians.values()]
        colours = [OURS if name in results.OURS else PEER for name in medians]
        bars = axis.barh(list(medians), numbers, color=colours)
        axis.bar_label(bars, [results.short(number) for number in numbers], padding=2)
        axis.set_title(workload.name, loc="left")
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(DRAWN[value])
    figure.tight_layout()
    CHARTS.mkdir(exist_ok=True)
    figure.savefig(CHARTS / f"{value}.svg", metadata={"Date": None})
    pyplot.close(figure)
