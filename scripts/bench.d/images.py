"""What is measured of images: fetching one from a registry on this machine, fetching it again, and listing many."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time

import measure
from cases import Case

MANY = 200
IMAGE = "python"
FLOOR, PULL, AGAIN = "gzip | tar of its layers", "sbx pull", "sbx pull, nothing new"


class Registry:
    """Debian's docker-registry with one image in it, on the loopback interface, counting requests."""

    def __init__(self, directory, layout):
        self.directory = os.path.join(directory, "registry")
        os.makedirs(self.directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        self.reference = f"{self.address}/bench/{IMAGE}:latest"
        settings = os.path.join(self.directory, "config.yml")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.directory}/data}}}}\n"
                       f"http: {{addr: '{self.address}'}}\n")
        self.log = os.path.join(self.directory, "log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log)
        self._wait()
        subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:latest",
                        f"docker://{self.reference}"], check=True)

    def _wait(self):
        host, port = self.address.split(":")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("docker-registry does not answer")

    def requests(self):
        with open(self.log, encoding="utf-8") as log:
            return sum(' "GET /v2/' in line or ' "HEAD /v2/' in line for line in log)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class World:
    """Homes of the stores below `directory`; `images` is what scripts/test-images made."""

    def __init__(self, directory, sbx, images, podman_environment):
        self.directory = os.path.join(directory, "images")
        os.makedirs(self.directory)
        self.sbx = sbx
        self.podman_environment = podman_environment
        self.layout = os.path.join(images, IMAGE)
        self.registry = Registry(self.directory, self.layout)

    def store(self, name):
        return os.path.join(self.directory, name)

    def sbx_argv(self, store, *words):
        return [self.sbx, "--root", self.store(store), *words]

    def podman_argv(self, store, *words):
        return ["podman", "--root", self.store(store), "--runroot", self.store(store + "-run"), *words]

    def cold(self, *stores):
        """What an earlier run left is removed, and none of its writing back falls into the next."""
        for store in stores:
            remove(self.store(store))
        os.sync()

    def layers(self):
        """The blobs of the image's layers, the largest first."""
        def blob(digest):
            return os.path.join(self.layout, "blobs", *digest.split(":"))

        def document(digest):
            with open(blob(digest), encoding="utf-8") as file:
                return json.load(file)

        with open(os.path.join(self.layout, "index.json"), encoding="utf-8") as file:
            manifest = document(json.load(file)["manifests"][0]["digest"])
        layers = sorted(manifest["layers"], key=lambda layer: -layer["size"])
        return [blob(layer["digest"]) for layer in layers]


def timed(world):
    pull = ["pull", "--quiet", "--tls-verify=false", world.registry.reference]
    inside = ["unshare", "--user", "--map-root-user", "--map-auto", "sh", "-euc"]
    unpacked, copied = world.store("unpacked"), world.store("copied")
    # A process for each layer, as many at once as there are processors.
    unpack = f"printf '%s\\n' \"$@\" | xargs -P {os.cpu_count()} -I @ " \
             f"sh -euc 'd={unpacked}/$(basename @); mkdir -p $d; gzip -dc @ | tar --extract --directory=$d'"
    copy = f"skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://{world.registry.reference} dir:{copied}; "
    fetched = [os.path.join(copied, os.path.basename(layer)) for layer in world.layers()]

    def case(label, argv, peer=None, prepare=lambda: None):
        made = Case(label, "", argv, world.podman_environment if argv[0] == "podman" else None, peer)
        made.prepare = prepare
        return made

    return [
        case(FLOOR, [*inside, unpack, "sh", *world.layers()], prepare=lambda: world.cold("unpacked")),
        case(PULL, world.sbx_argv("sbx", *pull), FLOOR, lambda: world.cold("sbx")),
        case("skopeo copy, then gzip | tar", ["sh", "-euc", copy + " ".join(inside) + ' "$0" sh "$@"', unpack, *fetched],
             PULL, lambda: world.cold("copied", "unpacked")),
        case("podman pull", world.podman_argv("podman", *pull), PULL, lambda: world.cold("podman")),
        case(AGAIN, world.sbx_argv("sbx", *pull)),
        case("podman pull, nothing new", world.podman_argv("podman", *pull), AGAIN),
        case(f"sbx images, {MANY} images", world.sbx_argv("many", "images")),
        case(f"podman images, {MANY} images", world.podman_argv("podman-many", "images"), f"sbx images, {MANY} images"),
    ]


def many(world):
    """The same archive of small images for both."""
    archive = os.path.join(world.directory, "many.tar")
    write_archive(archive)
    load = ["load", "--quiet", "--input", archive]
    for argv, environment in [(world.sbx_argv("many", *load), None),
                              (world.podman_argv("podman-many", *load), world.podman_environment)]:
        try:
            subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)
        except FileNotFoundError:
            pass  # Its line says so.


def write_archive(path):
    """As `docker save` writes it, all images with one layer in common."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as layer:
        add(layer, "etc/hello", b"hello\n")
    diff = "sha256:" + hashlib.sha256(inner.getvalue()).hexdigest()
    manifest = []
    with tarfile.open(path, "w") as archive:
        add(archive, "layer.tar", inner.getvalue())
        for number in range(MANY):
            config = {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
                      "config": {"Labels": {"number": str(number)}}, "rootfs": {"type": "layers", "diff_ids": [diff]},
                      "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "bench"}]}
            text = json.dumps(config).encode()
            name = hashlib.sha256(text).hexdigest() + ".json"
            add(archive, name, text)
            manifest.append({"Config": name, "RepoTags": [f"localhost/many/image-{number}:latest"], "Layers": ["layer.tar"]})
        add(archive, "manifest.json", json.dumps(manifest).encode())


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def measured(world, runs):
    """({case: sorted milliseconds}, {case: why not}, notes). A B C A B C, as with the starts."""
    many(world)
    cases = timed(world)
    times, failures = measure.interleaved_anew(cases, runs)
    notes = [f"The image `{IMAGE}` of scripts/test-images: {len(world.layers())} layers, "
             f"{sum(map(os.path.getsize, world.layers())) / 1e6:.0f} MB compressed."]
    again = next((case for case in cases if case.label == AGAIN), None)
    if again not in failures:
        before = world.registry.requests()
        measure.run_once(again)
        time.sleep(0.5)
        notes.append(f"A pull of what is there already asks the registry {world.registry.requests() - before} times.")
    return cases, {case: sorted(values) for case, values in times.items()}, failures, notes


def remove(directory):
    """Stores hold files of subordinate IDs, which only root of a user namespace may remove."""
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.exists(directory):
        subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", directory], check=False)
