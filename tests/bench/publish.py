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
    return between(page, BEGIN, END, measured(kept))


def between(page, first, last, lines):
    """The page with `lines` for what was between the lines `first` and `last`."""
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {first!r} and {last!r}")
    return head + begin + "\n".join(lines) + "\n" + end + tail


def conditions(kept):
    """Where, how often and with what it was measured."""
    machine, versions = kept.about["machine"], kept.about["versions"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"CPython {machine['python']};"
    )
    yield f"the median of {kept.about['rounds']} rounds of {kept.about['seconds']} seconds each."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + "."


def measured(kept):
    """The lines of Markdown."""
    yield from conditions(kept)
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
    """A panel of bars for each workload; without those whose CPU is mostly spent on others."""
    workloads = [it for it in WORKLOADS if it.name in kept.samples and not it.beside]
    rows = (len(workloads) + 1) // 2
    figure, axes = pyplot().subplots(rows, 2, figsize=(9, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(workloads) :]:
        axis.remove()
    for workload, axis in zip(workloads, axes.flat, strict=False):
        medians = kept.medians(workload.name)
        numbers = [getattr(sample, value) for sample in medians.values()]
        bars(axis, [(name, name in results.OURS) for name in medians], numbers, workload.name)
        axis.invert_yaxis()
    figure.suptitle(DRAWN[value])
    CHARTS.mkdir(exist_ok=True)
    save(figure, CHARTS / f"{value}.svg")


def pyplot():
    import matplotlib  # noqa: PLC0415 - only `make bench` has it, the tests of the tables do not

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "serve", "font.size": 8})
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def bars(axis, servers, numbers, title):
    """One for each of `servers`: their names, and whether they are ours."""
    colours = [OURS if is_ours else PEER for _, is_ours in servers]
    drawn = axis.barh([name for name, _ in servers], numbers, color=colours)
    axis.bar_label(drawn, [results.short(number) for number in numbers], padding=2)
    axis.set_title(title, loc="left")
    axis.margins(x=0.15)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot().close(figure)
