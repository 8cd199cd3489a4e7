"""Measures sbx beside its peers and writes what came out. Started by scripts/bench; Python's own library alone."""

import argparse
import os
import sys
import tempfile

import build
import cases
import images
import lives
import measure
import network
import oci
import report

# Words for `--only`, beside parts of the names of lines.
START, NETWORK, IMAGES, BUILD, BUNDLES = "start", "network", "images", "build", "oci"


def main():
    options = arguments()
    home = tempfile.mkdtemp(prefix="sbx-bench.", dir="/var/tmp")
    try:
        world = cases.World(home, options.sbx, os.environ.get("SBX_BENCH_HELPERS", ""))
        whole = options.only in START
        timed = [case for case in cases.timed(world) if whole or options.only in case.label]
        print("trying each once", file=sys.stderr)
        left_out = measure.try_each(timed)
        runnable = [case for case in timed if case not in left_out]
        times = measure.interleaved(runnable, options.runs)
        memory, no_memory = measure.memory([case for case in cases.sleeping(world) if whole or options.only in case.label])
        result = report.Result(options.runs, timed, times, left_out, memory, no_memory, world.notes)
        print(report.text(result), end="")
        # A part of the lines is not the table.
        if whole:
            write(options, "table.md", report.markdown(result))
            write(options, "start.svg", report.svg(result))
        if options.only in lives.EXEC:
            print("lives", file=sys.stderr)
            rows = lives.measured(world, options.runs)
            print("\n" + "\n".join(report.aligned(rows)))
            write(options, "lives.md", report.lives_markdown(rows, options.runs))
        if os.environ.get("SBX_BENCH_IMAGES") and options.only in NETWORK:
            left_out.update(measure_network(world, options))
        if os.environ.get("SBX_BENCH_IMAGES") and options.only in IMAGES:
            left_out.update(measure_images(home, options, world.podman_environment))
        if options.only in BUILD or BUILD in options.only:
            left_out.update(measure_builds(world, options))
        if options.only in BUNDLES:
            left_out.update(measure_bundles(world, options))
    finally:
        images.remove(home)
    return 1 if any(case.label.startswith("sbx") for case in left_out) else 0


def measure_network(world, options):
    """What could not be measured."""
    print("network", file=sys.stderr)
    rounds, starts = max(options.runs // 10, 1), options.runs
    rates, times, failures = network.measured(world, os.environ["SBX_BENCH_IMAGES"], rounds, starts)
    print("\n" + report.network_text(rates, times, failures), end="")
    write(options, "network.md", report.network_markdown(rates, times, failures, rounds, starts))
    return {cases.Case(label, "", []): why for label, why in failures.items()}


def measure_images(home, options, podman_environment):
    """What could not be measured."""
    print("images", file=sys.stderr)
    world = images.World(home, options.sbx, os.environ["SBX_BENCH_IMAGES"], podman_environment)
    try:
        timed, times, left_out, notes = images.measured(world, max(options.runs // 6, 1))
    finally:
        world.registry.end()
    result = report.Result(max(options.runs // 6, 1), timed, times, left_out, {}, {}, notes)
    print("\n" + report.images_text(result), end="")
    write(options, "images.md", report.images_markdown(result))
    return left_out


def measure_builds(world, options):
    """What could not be measured."""
    print("builds", file=sys.stderr)
    runs = max(options.runs // 3, 1)
    timed, times, left_out, notes = build.measured(world, runs, options.only)
    result = report.Result(runs, timed, times, left_out, {}, {}, notes)
    print("\n" + report.builds_text(result), end="")
    write(options, "build.md", report.builds_markdown(result))
    return left_out


def measure_bundles(world, options):
    """What could not be measured."""
    print("bundles", file=sys.stderr)
    timed, times, left_out = oci.measured(world, options.runs)
    result = report.Result(options.runs, timed, times, left_out, {}, {}, [])
    print("\n" + report.bundles_text(result), end="")
    write(options, "oci.md", report.bundles_markdown(result))
    return left_out


def write(options, name, content):
    with open(os.path.join(options.output, name), "w", encoding="utf-8") as file:
        file.write(content)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--sbx", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--output", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=30, help="runs of each line (default: 30)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only lines with TEXT in their names, or `start`, `network`, `images`, `build` or `oci`")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs takes a number from 1")
    options.sbx = os.path.abspath(options.sbx)
    return options


if __name__ == "__main__":
    sys.exit(main())
