"""What is measured of networks: bulk data and small requests between containers, host and containers, and the start of a
container on a bridge network. Servers and clients are iperf3 and redis out of the image `services` of scripts/test-images, the
same for every engine; those on the host are in containers on the host's network."""

import json
import os
import re
import socket
import statistics
import subprocess
import time

import measure
from cases import Case

NETWORK = "bench"
IPERF, REDIS = 5201, 6379
# Seconds of each stream; requests and connections, from so many clients at once.
SECONDS, REQUESTS, CONNECTIONS, CLIENTS = 1, 50000, 5000, 50
# How often a link and its peer are measured while they are there.
TURNS = 3
COLUMNS = ("Gbit/s, 1 stream", "Gbit/s, 4 streams", "requests/s", "connections/s")
TIMEOUT = 30
# pasta gives the host's own address to its container: the host is reached at the address of its router instead.
PASTA = "pasta:--map-gw"


class Engine:
    """sbx or podman, on one root file system."""

    def __init__(self, name, argv, environment, rootfs):
        self.name, self.argv, self.environment, self.rootfs = name, argv, environment, rootfs

    def call(self, *words):
        done = subprocess.run([*self.argv, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=TIMEOUT, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise measure.Failure(f"{self.name} {' '.join(words[:3])}: {said[-1] if said else done.returncode}")
        return done.stdout

    def start(self, name, options, *command):
        self.call("run", "-d", "--name", name, *options, "--rootfs", self.rootfs, *command)

    def exec(self, name, *command):
        return self.call("exec", name, *command)

    def remove(self, *names):
        for name in names:
            try:
                self.call("rm", "-f", "-t", "0", name)
            except (measure.Failure, subprocess.TimeoutExpired):
                pass


class PastaAlone:
    """A program on the root file system in the namespaces that pasta makes when it is given no others: what pasta does by
    itself. podman has known it since 4.4."""

    name = "pasta"

    def __init__(self, environment, rootfs):
        self.environment, self.rootfs = environment, rootfs
        # Nobody mounts a /dev here, and only root makes a device: iperf3 takes random bytes.
        os.makedirs(os.path.join(rootfs, "dev"), exist_ok=True)
        with open(os.path.join(rootfs, "dev/urandom"), "wb") as file:
            file.write(os.urandom(1 << 20))

    def start(self, name, options, *command):
        pass

    def remove(self, *names):
        pass

    def exec(self, name, *command):
        words = ["pasta", "--quiet", "--config-net", "--", "chroot", self.rootfs, *command]
        done = subprocess.run(words, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        if done.returncode != 0:
            raise measure.Failure(f"pasta {command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
        return done.stdout


class Link:
    """Where client and server are: in a container on one of the engine's networks, or (None) on the host."""

    def __init__(self, label, engine, client, server, peer=None):
        self.label, self.engine, self.client, self.server, self.peer = label, engine, client, server, peer
        self.rates = {}


class World:
    def __init__(self, base, images):
        self.rootfs = unpack(images, os.path.join(base.directory, "services"))
        podman_environment = dict(base.podman_environment)
        self.sbx = Engine("sbx", [base.sbx], base.sbx_environment, self.rootfs)
        self.podman = Engine("podman", ["podman"], podman_environment, self.rootfs + ":O")
        self.pasta = PastaAlone(base.sbx_environment, self.rootfs)
        self.host, self.router = host_address(), router_address()

    def links(self):
        sbx, podman, bridge = self.sbx, self.podman, NETWORK
        between, outwards, inwards = "container to container", "container to host", "host to container"
        return [
            Link(f"sbx, {between}, bridge", sbx, bridge, bridge, f"podman, {between}, bridge"),
            Link(f"podman, {between}, bridge", podman, bridge, bridge),
            Link(f"sbx, {outwards}, bridge", sbx, bridge, None, f"podman, {outwards}, bridge"),
            Link(f"podman, {outwards}, bridge", podman, bridge, None),
            Link(f"sbx, {outwards}, slirp4netns", sbx, "slirp4netns", None, f"podman, {outwards}, slirp4netns"),
            Link(f"podman, {outwards}, slirp4netns", podman, "slirp4netns", None),
            Link(f"sbx, {outwards}, pasta", sbx, PASTA, None, f"pasta alone, {outwards}"),
            Link(f"pasta alone, {outwards}", self.pasta, PASTA, None),
            Link(f"sbx, {inwards}, bridge", sbx, None, bridge, f"podman, {inwards}, bridge"),
            Link(f"podman, {inwards}, bridge", podman, None, bridge),
        ]


def unpack(images, target):
    """All layers of the image over each other, as if the caller owned every file."""
    layout = os.path.join(images, "services")

    def blob(digest):
        return os.path.join(layout, "blobs", *digest.split(":"))

    with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
        manifest = blob(json.load(file)["manifests"][0]["digest"])
    with open(manifest, encoding="utf-8") as file:
        layers = json.load(file)["layers"]
    os.makedirs(target)
    for layer in layers:
        subprocess.run(["tar", "--no-same-owner", "-xzf", blob(layer["digest"]), "-C", target], check=True)
    return target


def host_address():
    """One of the host's addresses that is not of its loopback interface; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 9))
        return probe.getsockname()[0]


def router_address():
    """That of the first default route, as proc_net(5) has it: little-endian hexadecimal."""
    with open("/proc/net/route", encoding="utf-8") as file:
        routes = [line.split() for line in file]
    gateways = [route[2] for route in routes if route[1] == "00000000"]
    return socket.inet_ntoa(bytes.fromhex(gateways[0])[::-1]) if gateways else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def servers(iperf, redis):
    script = f"iperf3 -s -p {iperf} >/dev/null & exec redis-server --port {redis} --protected-mode no --save '' >/dev/null"
    return ["sh", "-c", script]


class Running:
    """A link whose ends are there."""

    def __init__(self, world, link, number):
        self.link, self.host = link, world.sbx
        self.client, self.server = f"bench-client-{number}", f"bench-server-{number}"
        self.at, self.ports = self.server, (IPERF, REDIS)
        if link.server is None or link.client is None:
            self.ports = (free_port(), free_port())
        if link.server is None:
            self.at = world.router if link.client == PASTA else world.host
            if not self.at:
                raise measure.Failure("this host has no default route")
            self.host.start(self.server, ["--network", "host"], *servers(*self.ports))
        elif link.client is None:
            self.at = "127.0.0.1"
            published = [f"-p127.0.0.1:{own}:{inside}" for own, inside in zip(self.ports, (IPERF, REDIS))]
            link.engine.start(self.server, ["--network", link.server, *published], *servers(IPERF, REDIS))
        else:
            link.engine.start(self.server, ["--network", link.server], *servers(IPERF, REDIS))
        engine, network = (link.engine, link.client) if link.client else (self.host, "host")
        engine.start(self.client, ["--network", network], "sleep", "100000")
        self.asking = engine
        if link.client and link.server:
            # Once: redis-benchmark looks a name up for each connection.
            self.at = engine.exec(self.client, "getent", "hosts", self.server).split()[0]
        self.wait()

    def wait(self):
        """Until redis answers, which it does last."""
        end = time.monotonic() + 10
        while True:
            try:
                return self.redis("-c", "1", "-n", "1")
            except measure.Failure:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def gigabits(self, streams):
        text = self.asking.exec(self.client, "iperf3", "-c", self.at, "-p", str(self.ports[0]), "-t", str(SECONDS), "-P",
                                str(streams), "--json")
        return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9

    def redis(self, *options):
        text = self.asking.exec(self.client, "redis-benchmark", "-h", self.at, "-p", str(self.ports[1]), "-t", "ping_mbulk",
                                "--csv", *options)
        found = re.search(r'^"PING_MBULK","([0-9.]+)"', text, re.MULTILINE)
        if not found:
            raise measure.Failure(f"redis-benchmark: {text.strip().splitlines()[-1:]}")
        return float(found.group(1))

    def requests(self):
        return self.redis("-c", str(CLIENTS), "-n", str(REQUESTS))

    def connections(self):
        return self.redis("-c", str(CLIENTS), "-n", str(CONNECTIONS), "-k", "0")

    def one_stream(self):
        return self.gigabits(1)

    def four_streams(self):
        return self.gigabits(4)

    # In the order of COLUMNS.
    MEASURED = (one_stream, four_streams, requests, connections)

    def end(self):
        for engine in {self.host, self.link.engine}:
            engine.remove(self.client, self.server)


def measured(base, images, rounds, runs):
    """(rows of rates, rows of starts, what could not be measured)."""
    world = World(base, images)
    failures = {}
    clean(world)
    for engine in (world.sbx, world.podman):
        try:
            engine.call("network", "create", NETWORK)
        except (measure.Failure, FileNotFoundError) as error:
            failures[engine.name] = str(error)
    links = [link for link in world.links() if link.engine.name not in failures]
    try:
        rates(world, links, rounds, failures)
        times = starts(world, runs, failures)
    finally:
        clean(world)
    return rate_rows(links), start_rows(times), failures


def clean(world):
    for engine in (world.sbx, world.podman):
        for words in (["rm", "--all", "--force", "--time", "0"], ["network", "rm", "--force", NETWORK]):
            try:
                engine.call(*words)
            except (measure.Failure, FileNotFoundError, subprocess.TimeoutExpired):
                pass


def rates(world, links, rounds, failures):
    """One link at a time, since each takes the whole machine. Each one and its peer are there together and take turns, so
    that what else the machine does meets both."""
    peers = {link.label: link for link in links}
    for number in range(rounds):
        for link in links:
            if not link.peer:
                continue
            pair = [each for each in (link, peers.get(link.peer)) if each and each.label not in failures]
            take_turns(world, pair, number, failures)


def take_turns(world, pair, number, failures):
    running = []
    try:
        for link in pair:
            running.append((link, begin(world, link, f"{number}-{len(running)}", failures)))
        running = [(link, ends) for link, ends in running if ends]
        for turn in range(TURNS):
            for column, measured_by in zip(COLUMNS, Running.MEASURED):
                for link, ends in running if turn % 2 == 0 else running[::-1]:
                    if link.label in failures:
                        continue
                    try:
                        link.rates.setdefault(column, []).append(measured_by(ends))
                    except (measure.Failure, subprocess.TimeoutExpired) as failure:
                        failures[link.label] = str(failure)
    finally:
        for _, ends in running:
            if ends:
                ends.end()


def begin(world, link, number, failures):
    """The link with its ends; None where they cannot be had."""
    try:
        return Running(world, link, number)
    except (measure.Failure, subprocess.TimeoutExpired) as failure:
        failures[link.label] = str(failure)
        for engine in (world.sbx, link.engine):
            engine.remove(f"bench-client-{number}", f"bench-server-{number}")
        return None


def rate_rows(links):
    """A ratio is the median of those of the turns, in which a link and its peer were measured one after the other."""
    measured_of = {link.label: link.rates for link in links}
    rows = [("", *COLUMNS)]
    for link in links:
        if len(link.rates) == len(COLUMNS):
            peer = measured_of.get(link.peer, {})
            rows.append((link.label, *(cell(column, link.rates[column], peer.get(column, [])) for column in COLUMNS)))
    return rows


def cell(column, own, peers):
    middle = statistics.median(own)
    text = f"{middle:.2f}" if column.startswith("Gbit") else f"{middle:.0f}"
    if len(peers) != len(own):
        return text
    ratios = sorted(one / other for one, other in zip(own, peers))
    low, high = median_between(ratios)
    return f"{text} ({statistics.median(ratios):.2f} ×, {low:.2f}–{high:.2f})"


def median_between(values):
    """Where the median of what these sorted values are a sample of lies, with 95 % (order statistics; few values: all)."""
    rank = max(int((len(values) - 1.96 * len(values) ** 0.5) / 2), 0)
    return values[rank], values[-1 - rank]


FIRST, NEXT = "on a bridge network", "beside another container there"


def starts(world, runs, failures):
    """{case: sorted milliseconds} of `true`: as the first container on the network, and with another there."""
    times = {}
    for state in (FIRST, NEXT):
        cases = []
        for engine in (world.sbx, world.podman):
            argv = [*engine.argv, "run", "--rm", "--network", NETWORK, "--rootfs", engine.rootfs, "true"]
            case = Case(f"{engine.name}, {state}", "", argv, engine.environment, None if engine.name == "sbx" else f"sbx, {state}")
            try:
                if state == NEXT:
                    engine.start("bench-there", ["--network", NETWORK], "sleep", "100000")
                with measure.deadline(case):
                    measure.run_once(case)
                cases.append(case)
            except (measure.Failure, FileNotFoundError) as failure:
                failures[case.label] = str(failure)
        for _ in range(runs):
            for case in cases:
                if state == FIRST:
                    time.sleep(0.1)  # What the one before had for itself goes.
                with measure.deadline(case):
                    times.setdefault(case, []).append(measure.run_once(case))
        for engine in (world.sbx, world.podman):
            engine.remove("bench-there")
    return {case: sorted(values) for case, values in times.items()}


def start_rows(times):
    medians = {case.label: statistics.median(values) for case, values in times.items()}
    rows = [("", "median ms", "min", "max", "ratio")]
    for case, values in times.items():
        base = medians.get(case.peer)
        ratio = f"{medians[case.label] / base:.2f} × {case.peer}" if base else ""
        rows.append((case.label, f"{medians[case.label]:.1f}", f"{values[0]:.1f}", f"{values[-1]:.1f}", ratio))
    return rows
