"""What is measured of containers that live on: exec, ps, many at once, what they cost, and their logs."""

import os
import resource
import statistics
import subprocess
import time

import measure
from cases import Case

EXEC, PS = "sbx exec true", "sbx ps"
AT_ONCE, SLEEPING = 100, 500
LOG_BYTES = 1 << 30
# Beside each other, so that the machine is busy all the time.
WORKERS = 8


class World:
    def __init__(self, world):
        self.sbx = world.sbx
        self.environment = world.sbx_environment
        self.podman_environment = world.podman_environment
        self.rootfs = world.rootfs
        self.directory = world.directory

    def run(self, *words, **more):
        return subprocess.run([self.sbx, *words], env=self.environment, check=True, **more)

    def podman(self, *words, **more):
        return subprocess.run(["podman", *words], env=self.podman_environment, check=True, **more)

    def detached(self, *options):
        return ["run", "-d", "--net", "none", *options, "--rootfs", self.rootfs, "sleep", "100000"]

    def podman_detached(self, *options):
        return ["run", "-d", "--network", "none", *options, "--rootfs", self.rootfs + ":O", "sleep", "100000"]


def measured(base, runs):
    """Rows of a table, with a head."""
    world = World(base)
    rows = [("", "median ms", "min", "max", "ratio")]
    try:
        rows += executed(world, runs)
        rows += at_once(world)
        rows += sleeping(world, runs)
        rows += followed(world)
    finally:
        end(world)
    return rows


def end(world):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([world.sbx, "rm", "--all", "--force"], env=world.environment, check=False, **quiet)
    subprocess.run(["podman", "rm", "--all", "--force", "--time", "0"], env=world.podman_environment, check=False, **quiet)


def row(label, values, peer=None):
    values = sorted(values)
    median = statistics.median(values)
    ratio = f"{median / peer[1]:.2f} × {peer[0]}" if peer else ""
    return (label, f"{median:.1f}", f"{values[0]:.1f}", f"{values[-1]:.1f}", ratio)


def executed(world, runs):
    quiet = {"stdout": subprocess.DEVNULL}
    world.run(*world.detached("--name", "bench-exec"), **quiet)
    cases = [Case(EXEC, "", [world.sbx, "exec", "bench-exec", "true"], world.environment)]
    try:
        world.podman(*world.podman_detached("--name", "bench-exec"), **quiet)
        cases.append(Case("podman exec true", "", ["podman", "exec", "bench-exec", "true"], world.podman_environment, EXEC))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"podman exec: not measured: {error}")
    times = measure.interleaved(cases, runs)
    end(world)
    first = statistics.median(times[cases[0]])
    return [row(case.label, times[case], (EXEC, first) if case.peer else None) for case in cases]


def together(argv, environment, number):
    """Milliseconds until so many commands, started at once, have ended; all of them have to succeed."""
    begin = time.monotonic()
    running = [subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) for _ in range(number)]
    failed = [process.wait() for process in running].count(0) != number
    if failed:
        raise SystemExit(f"{' '.join(argv)}: some of {number} at once failed")
    return (time.monotonic() - begin) * 1000


def at_once(world):
    label = f"{AT_ONCE} × sbx run -d at once"
    own = together([world.sbx, *world.detached()], world.environment, AT_ONCE)
    rows = [row(label, [own])]
    end(world)
    try:
        theirs = together(["podman", *world.podman_detached()], world.podman_environment, AT_ONCE)
        rows.append(row(f"{AT_ONCE} × podman run -d at once", [theirs], (label, own)))
    except (OSError, SystemExit) as error:
        rows.append((f"{AT_ONCE} × podman run -d at once", "-", "-", "-", str(error)))
    end(world)
    return rows


def sleeping(world, runs):
    mark = os.getpid() * 1000 + 999
    before = resource.getrlimit(measure.RLIMIT_LOCKS)
    resource.setrlimit(measure.RLIMIT_LOCKS, (mark, before[1]))
    begin = time.monotonic()
    try:
        waiting = [subprocess.Popen([world.sbx, *world.detached()], env=world.environment, stdout=subprocess.DEVNULL)
                   for _ in range(WORKERS)]
        for number in range(SLEEPING):
            if waiting[number % WORKERS].wait() != 0:
                raise SystemExit(f"sbx run -d: container {number} of {SLEEPING} failed")
            if number + WORKERS < SLEEPING:
                waiting[number % WORKERS] = subprocess.Popen([world.sbx, *world.detached()], env=world.environment,
                                                             stdout=subprocess.DEVNULL)
    finally:
        resource.setrlimit(measure.RLIMIT_LOCKS, before)
    elapsed = (time.monotonic() - begin) * 1000
    time.sleep(3)  # Their monitors give back what they used to start.
    own = [(name, measure.pss(pid, name)) for pid, name in measure.marked(mark) if name != "sleep"]
    each = sum(size for _, size in own) / SLEEPING / 1024
    resident = sum(resident_of(pid) for pid, name in measure.marked(mark) if name != "sleep") / SLEEPING / 1024
    case = Case(f"{PS} with {SLEEPING} containers", "", [world.sbx, "ps"], world.environment)
    times = measure.interleaved([case], runs)[case]
    rows = [row(f"{SLEEPING} × sbx run -d, {WORKERS} beside each other", [elapsed]), row(case.label, times),
            (f"memory of each of {SLEEPING}", f"{each:.2f} MiB", "", "", f"PSS of monitor and guard; resident {resident:.2f} MiB")]
    end(world)
    return rows


def resident_of(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmRSS:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def followed(world):
    """A container that writes as fast as it can, followed from its start to its end; beside it the same through a pipe and a
    file, which is what the log has to be."""
    script = f"yes {'x' * 999} | head -c {LOG_BYTES}"
    peer = os.path.join(world.directory, "followed")
    begin = time.monotonic()
    subprocess.run(f"{{ {script}; }} | tee {peer} | cat > /dev/null", shell=True, check=True)
    floor = (time.monotonic() - begin) * 1000
    os.remove(peer)
    command = ["run", "-d", "--name", "bench-logs", "--net", "none", "--rootfs", world.rootfs, "sh", "-c", script]
    begin = time.monotonic()
    world.run(*command, stdout=subprocess.DEVNULL)
    shown = subprocess.Popen([world.sbx, "logs", "-f", "bench-logs"], env=world.environment, stdout=subprocess.PIPE)
    counted = subprocess.run(["wc", "-c"], stdin=shown.stdout, capture_output=True, text=True, check=True)
    shown.wait()
    elapsed = (time.monotonic() - begin) * 1000
    if int(counted.stdout) != LOG_BYTES:
        raise SystemExit(f"sbx logs -f: {counted.stdout.strip()} bytes of {LOG_BYTES} came")
    begin = time.monotonic()
    subprocess.run(f"'{world.sbx}' logs bench-logs | cat > /dev/null", shell=True, env=world.environment, check=True)
    again = (time.monotonic() - begin) * 1000
    label = "1 GiB through tee and a pipe"
    return [row(label, [floor]), row("sbx logs -f of a container that writes 1 GiB", [elapsed], (label, floor)),
            row("sbx logs of 1 GiB", [again], (label, floor))]
