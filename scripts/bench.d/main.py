"""Measures sbx beside its peers and writes what came out. Started by scripts/bench; Python's own library alone."""

import argparse
import os
import shutil
import sys
import tempfile

import cases
import measure
import report


def main():
    options = arguments()
    home = tempfile.mkdtemp(prefix="sbx-bench.", dir="/var/tmp")
    try:
        world = cases.World(home, options.sbx, os.environ.get("SBX_BENCH_HELPERS", ""))
        timed = [case for case in cases.timed(world) if options.only in case.label]
        print("trying each once", file=sys.stderr)
        left_out = measure.try_each(timed)
        runnable = [case for case in timed if case not in left_out]
        times = measure.interleaved(runnable, options.runs)
        memory, no_memory = measure.memory([case for case in cases.sleeping(world) if options.only in case.label])
        result = report.Result(options.runs, timed, times, left_out, memory, no_memory, world.notes)
        print(report.text(result), end="")
        for name, content in [("table.md", report.markdown(result)), ("start.svg", report.svg(result))]:
            with open(os.path.join(options.output, name), "w", encoding="utf-8") as file:
                file.write(content)
    finally:
        remove(home)
    return 1 if any(case.label.startswith("sbx") for case in left_out) else 0


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--sbx", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--output", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=30, help="runs of each line (default: 30)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only lines with TEXT in their names")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs takes a number from 1")
    options.sbx = os.path.abspath(options.sbx)
    return options


def remove(directory):
    """Stores hold files of subordinate IDs, which only root of a user namespace may remove."""
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.exists(directory):
        os.system(f"unshare --user --map-root-user --map-auto rm -rf '{directory}'")


if __name__ == "__main__":
    sys.exit(main())
