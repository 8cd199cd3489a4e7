"""Time from start to exit, and the memory of everything that serves a sleeping container."""

import json
import os
import resource
import signal
import sys
import tempfile
import time

RLIMIT_LOCKS = 10  # getrlimit(2); no kernel looks at it, every descendant inherits it: a mark on processes.
NETWORK_HELPERS = {"slirp4netns", "pasta", "pasta.avx2", "passt", "passt.avx2"}
TIMEOUT = 30.0


class Failure(Exception):
    """A command that did not do what it was measured for; its text goes into the report."""


def run_once(case, errors=None, command="true", wanted=0):
    """Milliseconds from start to exit. With `errors`, a file, standard error is kept."""
    null = os.open(os.devnull, os.O_RDWR)
    inside = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1),
              (os.POSIX_SPAWN_DUP2, errors.fileno() if errors else null, 2)]
    argv, pipes = [*case.argv[:-1], command] if case.argv[-1] == "true" else case.argv, []
    if case.maps:
        pipes = [*os.pipe(), *os.pipe()]
        info_read, info_write, block_read, block_write = pipes
        os.set_inheritable(info_write, True)
        os.set_inheritable(block_read, True)
        argv = [argv[0], "--info-fd", str(info_write), "--userns-block-fd", str(block_read), *argv[1:]]
    try:
        begin = time.monotonic_ns()
        pid = os.posix_spawnp(argv[0], argv, case.environment, file_actions=inside)
        if case.maps:
            os.close(info_write)
            pipes.remove(info_write)
            write_maps(info_read, case.maps)
            os.write(block_write, b"1")
        _, status = os.waitpid(pid, 0)
        elapsed = (time.monotonic_ns() - begin) / 1e6
    except FileNotFoundError as error:
        raise Failure(f"{argv[0]} is not installed") from error
    finally:
        for descriptor in [null, *pipes]:
            os.close(descriptor)
    code = os.waitstatus_to_exitcode(status)
    if code != wanted:
        raise Failure(f"exit code {code} of `{command}`")
    return elapsed


def write_maps(info, maps):
    """bubblewrap says who its child is, waits, and finds the maps written: newuidmap and newgidmap side by side."""
    text = b""
    while b"}" not in text:
        piece = os.read(info, 4096)
        if not piece:
            raise Failure("bwrap ended before it named its child")
        text += piece
    child = str(json.loads(text)["child-pid"])
    helpers = [os.posix_spawnp(name, [name, child, *words], os.environ) for name, words in
               [("newuidmap", maps[0]), ("newgidmap", maps[1])]]
    for helper in helpers:
        if os.waitpid(helper, 0)[1] != 0:
            raise Failure("newuidmap or newgidmap failed")


def try_each(cases):
    """Runs `true` and `false` in each, which shows that it runs them at all and warms caches; returns
    {case: why it can't be measured}."""
    failures = {}
    for case in cases:
        with tempfile.TemporaryFile() as errors:
            try:
                with deadline(case):
                    run_once(case, errors)
                    if case.argv[-1] == "true":
                        run_once(case, errors, "false", 1)
            except Failure as failure:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                failures[case] = f"{failure}: {said[-1].strip()}" if said else str(failure)
    return failures


def interleaved(cases, runs):
    """{case: sorted milliseconds}. A B C A B C, so that a slow moment of the machine hits all of them."""
    times = {case: [] for case in cases}
    for number in range(runs):
        for case in cases:
            with deadline(case):
                try:
                    times[case].append(run_once(case))
                except Failure as failure:
                    raise SystemExit(f"{case.label}: run {number + 1}: {failure}") from failure
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {runs}", end="\n" if number + 1 == runs else "", file=sys.stderr)
    return {case: sorted(values) for case, values in times.items()}


def interleaved_anew(cases, runs):
    """As `interleaved`, of cases that are prepared before each run; ({case: milliseconds}, {case: why not}), where those are
    left out that do not work once."""
    times, failures = {}, {}
    for case in cases:
        try:
            with deadline(case):
                case.prepare()
                run_once(case)
        except Failure as failure:
            failures[case] = str(failure)
    for _ in range(runs):
        for case in cases:
            if case not in failures:
                case.prepare()
                with deadline(case):
                    times.setdefault(case, []).append(run_once(case))
    return times, failures


class deadline:
    """Ends the measuring of a command that hangs, with its name."""

    def __init__(self, case):
        self.case = case

    def __enter__(self):
        signal.signal(signal.SIGALRM, self.over)
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)

    def over(self, *_):
        raise Failure(f"hung for {TIMEOUT:.0f} s")


class Memory:
    """PSS in KiB of what serves one sleeping container, beside the sleeping process itself."""

    def __init__(self, processes):
        self.processes = processes
        self.own = sum(size for name, size in processes if name not in NETWORK_HELPERS)
        self.network = sum(size for name, size in processes if name in NETWORK_HELPERS)

    def names(self):
        return ", ".join(f"{name} {size}" for name, size in self.processes)


def memory(cases):
    """({case: Memory}, {case: why not})."""
    sizes, failures = {}, {}
    for number, case in enumerate(cases):
        with tempfile.TemporaryFile() as errors:
            try:
                sizes[case] = memory_of(case, os.getpid() * 1000 + number, errors)
            except Failure as failure:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                failures[case] = f"{failure}: {said[-1].strip()}" if said else str(failure)
    return sizes, failures


def memory_of(case, mark, errors):
    before = resource.getrlimit(RLIMIT_LOCKS)
    resource.setrlimit(RLIMIT_LOCKS, (mark, before[1]))
    null = os.open(os.devnull, os.O_RDWR)
    inside = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
    try:
        leader = os.posix_spawnp(case.argv[0], case.argv, case.environment, file_actions=inside)
    except FileNotFoundError as error:
        raise Failure(f"{case.argv[0]} is not installed") from error
    finally:
        resource.setrlimit(RLIMIT_LOCKS, before)
        os.close(null)
    try:
        end = time.monotonic() + TIMEOUT
        while not sleepers(mark):
            if time.monotonic() > end or (os.waitpid(leader, os.WNOHANG)[0] and not marked(mark)):
                raise Failure("no sleeping container came of it")
            time.sleep(0.01)
        time.sleep(1)  # Helpers of the start end, and those that stay settle.
        found = [(name, pss(pid, name)) for pid, name in marked(mark) if pid not in sleepers(mark)]
        return Memory(found)
    finally:
        end_all(mark)
        try:
            os.waitpid(leader, 0)
        except ChildProcessError:
            pass


def marked(mark):
    """(PID, name) of every process that inherited the mark and still runs."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/limits", encoding="utf-8") as file:
                limit = next((line for line in file if line.startswith("Max file locks")), "")
            if limit.split()[3:4] != [str(mark)]:
                continue
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            if rest.split()[0] != "Z":
                found.append((int(entry), name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def sleepers(mark):
    found = []
    for pid, name in marked(mark):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if name == "sleep" and file.read().split(b"\0")[:2] == [b"sleep", b"1000"]:
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def pss(pid, name):
    """KiB (proc_pid_smaps_rollup); proportional, so that pages shared by two processes count once."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except PermissionError:
        # A process that made itself undumpable shows what is resident, shared pages counted whole.
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmRSS:")), 0)


def end_all(mark):
    """The sleeping process first, so that what serves it ends in its own way; then what is left."""
    for pid in sleepers(mark):
        kill(pid)
    end = time.monotonic() + 10
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.02)
    for pid, _ in marked(mark):
        kill(pid)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
