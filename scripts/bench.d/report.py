"""The table for the terminal and for Markdown, and the plot."""

import math
import os
import platform
import re
import statistics
from xml.sax.saxutils import escape

import network


class Result:
    def __init__(self, runs, cases, times, left_out, memory, no_memory, notes):
        self.runs = runs
        self.cases = cases
        self.times = times
        self.left_out = left_out
        self.memory = memory
        self.no_memory = no_memory
        self.notes = notes

    def median(self, label):
        for case, values in self.times.items():
            if case.label == label:
                return statistics.median(values)
        return None


def machine():
    kernel = re.match(r"[0-9.]*", platform.release()).group()
    user = "root" if os.getuid() == 0 else "an unprivileged user"
    return f"Linux {kernel}, {platform.machine()}, {os.cpu_count()} CPUs, {user}"


def rows(result):
    """Header and one row for each line that ran."""
    table = [["", "median ms", "min", "max", "ratio"]]
    for case in result.cases:
        if case in result.times:
            values = result.times[case]
            table.append([case.label, f"{statistics.median(values):.1f}", f"{values[0]:.1f}", f"{values[-1]:.1f}",
                          ratio(result, case)])
    return table


def ratio(result, case):
    base = case.peer and result.median(case.peer)
    return f"{result.median(case.label) / base:.2f} × {case.peer}" if base else ""


def memory_rows(result):
    table = [["", "PSS KiB", "network helper KiB", "processes"]]
    for case, memory in result.memory.items():
        table.append([case.label, str(memory.own), str(memory.network) if memory.network else "", memory.names()])
    return table


def refusals(result):
    return [f"{case.label}: {why}" for case, why in [*result.left_out.items(), *result.no_memory.items()]]


def text(result):
    out = [machine(), f"`true` from start to exit, {result.runs} runs each, interleaved", ""]
    out += aligned(rows(result))
    if len(memory_rows(result)) > 1:
        out += ["", "memory beside one sleeping process", "", *aligned(memory_rows(result))]
    if refusals(result):
        out += ["", "not measured:", *(f"  {line}" for line in refusals(result))]
    out += ["", *result.notes] if result.notes else []
    return "\n".join(out) + "\n"


def images_text(result):
    out = [f"images, {result.runs} runs each, interleaved", "", *aligned(rows(result))]
    if refusals(result):
        out += ["", "not measured:", *(f"  {line}" for line in refusals(result))]
    return "\n".join([*out, "", *result.notes]) + "\n"


def images_markdown(result):
    out = [f"Measured by `scripts/bench` on {machine()}, {result.runs} runs of each line, interleaved: images from a registry on",
           "the same machine into an empty store, the floor being what `gzip` and `tar` take for the same layers, as many at",
           "once as there are processors.", "", *pipes(rows(result))]
    if refusals(result):
        out += ["", "Not measured:", "", *(f"- {line}" for line in refusals(result))]
    return "\n".join([*out, "", *result.notes]) + "\n"


def builds_text(result):
    out = [f"builds, {result.runs} runs each, interleaved", "", *aligned(rows(result))]
    if refusals(result):
        out += ["", "not measured:", *(f"  {line}" for line in refusals(result))]
    return "\n".join([*out, "", *result.notes]) + "\n"


def builds_markdown(result):
    out = [f"Measured by `scripts/bench` on {machine()}, {result.runs} runs of each line, interleaved: builds on an image of",
           "busybox, without a network, each builder with its own store.", "", *pipes(rows(result))]
    if refusals(result):
        out += ["", "Not measured:", "", *(f"- {line}" for line in refusals(result))]
    return "\n".join([*out, "", *result.notes]) + "\n"


def bundles_text(result):
    out = [f"bundles, {result.runs} runs each, interleaved", "", *aligned(rows(result))]
    if refusals(result):
        out += ["", "not measured:", *(f"  {line}" for line in refusals(result))]
    return "\n".join(out) + "\n"


def bundles_markdown(result):
    out = [f"Measured by `scripts/bench` on {machine()}, {result.runs} runs of each line, interleaved: `true` from one bundle, that",
           "of `crun spec --rootless` with a range of IDs and a read-only root, from start to exit, nothing left of it.", "",
           *pipes(rows(result))]
    if refusals(result):
        out += ["", "Not measured:", "", *(f"- {line}" for line in refusals(result))]
    return "\n".join(out) + "\n"


def network_text(rates, times, failures):
    out = ["networks", "", *aligned(rates), "", *aligned(times)]
    if failures:
        out += ["", "not measured:", *(f"  {label}: {why}" for label, why in failures.items())]
    return "\n".join(out) + "\n"


def network_markdown(rates, times, failures, rounds, starts):
    out = [f"Measured by `scripts/bench` on {machine()}, beside podman with netavark in the same run, with the same programs on the",
           f"same root file system. Medians of {rounds} rounds of {network.TURNS} turns: iperf3 over one stream and over four, and `PING` of redis",
           "from 50 clients, over connections that stay and over one for each request. In brackets: how many times podman's, the median of",
           "what each turn gave, and between what it lies with 95 %; of pasta, which this podman does not know, how many times that of",
           "pasta started by hand.", "",
           *pipes(rates), "",
           f"`true` from start to exit, {starts} runs of each line, interleaved:", "", *pipes(times)]
    if failures:
        out += ["", "Not measured:", "", *(f"- {label}: {why}" for label, why in failures.items())]
    return "\n".join(out) + "\n"


def lives_markdown(rows, runs):
    out = [f"Measured by `scripts/bench` on {machine()}, {runs} runs of exec and ps, one of the others: containers without a",
           "network on the same root file system, in the background.", "", *pipes(rows)]
    return "\n".join(out) + "\n"


def aligned(table):
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.rjust(width) if is_number(cell) or row is table[0] and at else cell.ljust(width)
                 for at, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return lines


def is_number(cell):
    return cell.replace(".", "", 1).isdigit()


def markdown(result):
    out = [f"Measured by `scripts/bench` on {machine()}: `true` from start to exit, {result.runs} runs of each line,",
           "interleaved, all by the same user on the same root file system.", ""]
    out += pipes(rows(result))
    if len(memory_rows(result)) > 1:
        out += ["", "Memory of everything that serves one sleeping process, beside that process (PSS):", "",
                *pipes(memory_rows(result))]
    if refusals(result):
        out += ["", "Not measured:", "", *(f"- {line}" for line in refusals(result))]
    out += ["", *result.notes] if result.notes else []
    return "\n".join(out) + "\n"


def pipes(table):
    head, *body = table
    rule = ["---" if at in (0, len(head) - 1) else "---:" for at in range(len(head))]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, rule, *body]]


# --- The plot: one bar a line, from the shortest sensible time on a logarithmic axis -----------------------------

LEFT, RIGHT, ROW, TOP = 290, 70, 24, 74
WIDTH = 860
COLOURS = {"sbx": "#1a7f5a", "podman": "#8a4fbe", "crun": "#c2691c", "bwrap": "#2b6cb0"}
OTHER = "#7a828c"


def svg(result):
    bars = [(case.label, statistics.median(values), values[0], values[-1]) for case, values in result.times.items()]
    if not bars:
        bars = [("nothing was measured", 1.0, 1.0, 1.0)]
    low = 10 ** math.floor(math.log10(min(bar[2] for bar in bars)))
    high = 10 ** math.ceil(math.log10(max(bar[3] for bar in bars) * 1.001))
    plot = WIDTH - LEFT - RIGHT

    def x(value):
        return LEFT + plot * math.log10(value / low) / math.log10(high / low)

    bottom = TOP + ROW * len(bars)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" width="{WIDTH}" '
        f'height="{bottom + 44}" font-family="system-ui, sans-serif" font-size="13">',
        "<title>Time from start to exit of true</title>",
        f'<rect width="{WIDTH}" height="{bottom + 44}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600" fill="#1c2128">'
        f"Time from start to exit of <tspan font-family=\"monospace\">true</tspan></text>",
        f'<text x="16" y="46" fill="#57606a">milliseconds, logarithmic; bar: median of {result.runs}, '
        f"line: least to most; {escape(machine())}</text>",
    ]
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**exponent
            if low <= value <= high:
                shade = "#d0d7de" if step == 1 else "#eef1f4"
                out.append(f'<line x1="{x(value):.1f}" y1="{TOP - 8}" x2="{x(value):.1f}" y2="{bottom}" stroke="{shade}"/>')
                out.append(f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#57606a">{value:g}</text>')
    for index, (label, median, least, most) in enumerate(bars):
        y = TOP + ROW * index
        colour = COLOURS.get(label.split(",")[0].split(" ")[0], OTHER)
        out += [
            f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end" fill="#1c2128">{escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y + 1}" width="{max(x(median) - LEFT, 1):.1f}" height="16" rx="2" fill="{colour}"/>',
            f'<line x1="{x(least):.1f}" y1="{y + 9}" x2="{x(most):.1f}" y2="{y + 9}" stroke="#1c2128" stroke-opacity="0.55"/>',
            f'<text x="{min(x(most), WIDTH - RIGHT) + 8:.1f}" y="{y + 13}" fill="#1c2128">{median:.1f}</text>',
        ]
    return "\n".join([*out, "</svg>"]) + "\n"
