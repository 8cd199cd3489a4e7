"""What is measured of builds: ten steps found and made, a large context of which little is taken, and stages side by side."""

import os
import shutil
import subprocess

import measure
from cases import Case

CACHED, MADE = "sbx build, 10 steps, all cached", "sbx build, 10 steps, nothing cached"
LARGE, LARGE_COLD = "sbx build, 500 MB context, 1 MB of it not ignored", "the same, no file of it in memory"
ALONE, BESIDE = "sbx build, 8 stages, one at once", "sbx build, 8 stages, as many as processors"
STAGES, IGNORED, MEBIBYTE = 8, 500, 1 << 20

STEPS = """\
FROM localhost/sbx-bench
ARG VERSION=1
ENV MODE=bench
WORKDIR /app
COPY settings /app/
RUN mkdir -p /opt && echo one >/opt/one
COPY source /app/source
RUN echo two >/opt/two && rm /opt/one
RUN cat /app/source/* >/opt/all
RUN chown -R 1000:1000 /app
CMD ["sh"]
"""
# Some hundred milliseconds of one processor.
WORK = "head -c 40000000 /dev/zero | sha256sum >/sum"


class World:
    """Contexts below a directory, which all builders read."""

    def __init__(self, world):
        self.world = world
        self.directory = os.path.join(world.directory, "build")
        self.steps, self.large, self.stages = (os.path.join(self.directory, name) for name in ("steps", "large", "stages"))
        write(self.steps, "Dockerfile", STEPS)
        write(self.steps, "settings", "a=b\n")
        for number in range(100):
            write(self.steps, f"source/{number}", f"{number}\n" * 100)
        write(self.large, "Dockerfile", "FROM localhost/sbx-bench\nCOPY . /app\n")
        write(self.large, ".dockerignore", "*\n!kept\n")
        write(self.large, "kept/small", "x" * MEBIBYTE)
        for number in range(IGNORED):
            write(self.large, f"ignored/{number}", "x" * MEBIBYTE)
        stages = "".join(f"FROM localhost/sbx-bench AS s{at}\nRUN echo {at}; {WORK}\n" for at in range(STAGES))
        copies = "".join(f"COPY --from=s{at} /sum /sum{at}\n" for at in range(STAGES))
        write(self.stages, "Dockerfile", f"{stages}FROM localhost/sbx-bench\n{copies}")

    def forget_files(self):
        """Nothing of the large context is in memory (posix_fadvise(2))."""
        os.sync()
        for parent, _, files in os.walk(self.large):
            for name in files:
                descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def write(directory, name, text):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def timed(world):
    builders = {
        "sbx build": ([world.world.sbx, "build", "-q", "--network", "none"], world.world.sbx_environment),
        "podman build": (["podman", "build", "-q", "--network", "none"], world.world.podman_environment),
        "buildah bud": (["buildah", "bud", "-q", "--layers", "--network", "none"], world.world.podman_environment),
    }

    def cases(label, context, *options, peers=("podman build", "buildah bud"), prepare=lambda: None):
        for name in ("sbx build", *peers):
            argv, environment = builders[name]
            peer = label if name != "sbx build" else None
            text = label.replace("sbx build", name)
            case = Case(text, "", [*argv, *options, context], environment, peer)
            case.prepare = prepare
            yield case

    processors = ("--jobs", str(os.cpu_count()))
    cold = list(cases(LARGE, world.large, "--no-cache", peers=(), prepare=world.forget_files))[0]
    cold.label, cold.peer = LARGE_COLD, LARGE
    beside = list(cases(BESIDE, world.stages, "--no-cache", *processors))
    beside[0].peer = ALONE
    return [
        *cases(CACHED, world.steps, "-t", "bench"),
        *cases(MADE, world.steps, "--no-cache"),
        *cases(LARGE, world.large, "--no-cache"),
        cold,
        *cases(ALONE, world.stages, "--no-cache", "--jobs", "1", peers=()),
        *beside,
    ]


def measured(outer, runs, only=""):
    """({case: sorted milliseconds}, {case: why not}, notes). A B C A B C, as with the starts."""
    world = World(outer)
    cases = [case for case in timed(world) if only in case.label] or timed(world)
    times, failures = measure.interleaved_anew(cases, runs)
    notes = [bytes_read(world)] if not failures else []
    shutil.rmtree(world.directory, ignore_errors=True)
    return cases, {case: sorted(values) for case, values in times.items()}, failures, notes


def bytes_read(world):
    """How much a build of the large context reads from the disk when nothing of it is in memory."""
    world.forget_files()
    argv = [world.world.sbx, "build", "-q", "--no-cache", "--network", "none", world.large]
    process = subprocess.Popen(argv, env=world.world.sbx_environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # getrusage(2): blocks of 512 bytes, its children's included.
    read = usage.ru_inblock * 512 / MEBIBYTE
    return f"With no file of the large context in memory sbx reads {read:.1f} MiB from the disk; {IGNORED} MiB are ignored."
