"""What is measured: one line of the table each."""

import json
import os
import pwd
import shutil
import subprocess

NAMESPACES = ["--user", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup"]
# All that --unshare-all means; bubblewrap wants --unshare-user itself beside --userns-block-fd.
BWRAP_VIEW = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup",
              "--proc", "/proc", "--dev", "/dev"]

SINGLE, RANGE, OVERLAY, NETWORK = "one ID", "ID range", "overlay upper", "default network"


class Case:
    """A command, and the group of lines that it may be compared with."""

    def __init__(self, label, group, argv, environment=None, peer=None, maps=None):
        self.label = label
        self.group = group
        self.argv = argv
        self.environment = environment or dict(os.environ)
        # The label of the line that a ratio is given to.
        self.peer = peer
        # (uid_map, gid_map) arguments: the command blocks until they were written from outside.
        self.maps = maps


class World:
    """The root file system, the homes of the stores, and what was found on this machine."""

    def __init__(self, directory, sbx, helpers):
        self.directory = directory
        self.sbx = sbx
        self.notes = []
        self.image = "localhost/sbx-bench"
        self.rootfs = make_rootfs(os.path.join(directory, "rootfs"))
        self.bundle = make_bundle(os.path.join(directory, "bundle"), self.rootfs)
        self.sbx_environment = self._sbx_environment()
        self._import([sbx, "import", "--quiet", "-", self.image], self.sbx_environment)
        self.podman_environment = self._podman_environment()
        self.shim = os.path.join(helpers, "newuidmap-shim")
        if not os.path.isfile(self.shim):
            self.shim = None
            self.notes.append("newuidmap-shim is not installed: its lines are left out (scripts/install-helpers).")
        elif shutil.which("newuidmap-shim") or os.path.exists("/usr/local/libexec/sbx/newuidmap-shim"):
            self.notes.append("newuidmap-shim is installed on this machine: every line of sbx may use it.")

    def _sbx_environment(self):
        return dict(os.environ, XDG_DATA_HOME=os.path.join(self.directory, "data"))

    def shim_environment(self):
        path = os.path.dirname(self.shim) + ":" + os.environ["PATH"]
        return dict(self.sbx_environment, PATH=path)

    def _podman_environment(self):
        """podman pins its storage driver at its first command: a home of its own, configured before that."""
        home = os.path.join(self.directory, "podman")
        settings = os.path.join(home, ".config/containers")
        os.makedirs(settings)
        with open(os.path.join(settings, "storage.conf"), "w", encoding="utf-8") as file:
            file.write('[storage]\ndriver = "overlay"\n')
        with open(os.path.join(settings, "containers.conf"), "w", encoding="utf-8") as file:
            file.write('[engine]\nruntime = "runc"\nevents_logger = "file"\ncgroup_manager = "cgroupfs"\n'
                       '[network]\nnetwork_backend = "netavark"\n')
        environment = dict(os.environ, HOME=home)
        if shutil.which("podman"):
            # A pause process of an earlier store would hold this one's namespaces.
            subprocess.run(["podman", "system", "migrate"], env=environment, capture_output=True, check=False)
            self._import(["podman", "import", "-", self.image], environment)
        return environment

    def _import(self, argv, environment):
        """Makes an image of the root file system; where that fails, the lines of the image say so."""
        tar = subprocess.Popen(["tar", "-C", self.rootfs, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(argv, env=environment, stdin=tar.stdout, capture_output=True, check=False)
        tar.wait()


def timed(world):
    root, sbx = world.rootfs, world.sbx
    single_peer, range_peer = "bwrap, one ID", "bwrap, ID range"

    def run_sbx(label, group, options, peer, environment=None, root=("--rootfs", root)):
        argv = [sbx, "run", "--rm", *options, *root, "true"]
        return Case(label, group, argv, environment or world.sbx_environment, peer)

    no_network = ["--net", "none"]
    # bubblewrap makes no tmpfs over the root: the same for sbx, so that the bare root is compared with the bare root.
    read_only = [*no_network, "--read-only", "--read-only-tmpfs=false"]
    lines = [
        Case("true alone", "floor", [os.path.join(root, "bin/true")]),
        Case("unshare, one ID", SINGLE, ["unshare", *NAMESPACES, "--map-root-user", "true"], peer=single_peer),
        Case(single_peer, SINGLE, ["bwrap", *BWRAP_VIEW, "--ro-bind", root, "/", "true"]),
        run_sbx("sbx, one ID, read-only root", SINGLE, ["--id-tier", "single", *read_only], single_peer),
        Case("unshare, ID range", RANGE, ["unshare", *NAMESPACES, "--map-root-user", "--map-auto", "true"], peer=range_peer),
        Case(range_peer, RANGE, ["bwrap", *BWRAP_VIEW, "--ro-bind", root, "/", "true"], maps=id_maps()),
        run_sbx("sbx, ID range, read-only root", RANGE, ["--id-tier", "range", *read_only], range_peer),
    ]
    if world.shim:
        with_shim = run_sbx("sbx, ID range, read-only root, own helper", RANGE, ["--id-tier", "range", *read_only], range_peer)
        with_shim.environment = world.shim_environment()
        lines.append(with_shim)
    fastest, fastest_overlay = lines[-1].label, "sbx, kernel overlay"
    podman = ["podman", "run", "--rm"]
    # The runtime of podman's settings here is runc, which starts on every host; crun is the faster one.
    with_crun = ["podman", "--runtime", "crun", "run", "--rm"]
    lines += [
        Case("crun run, bundle", RANGE, ["crun", "run", "--bundle", world.bundle, "sbx-bench"], peer=range_peer),
        Case("podman, read-only root", RANGE,
             [*podman, "--network", "none", "--read-only", "--read-only-tmpfs=false", "--rootfs", root, "true"],
             world.podman_environment, fastest),
        Case("podman with crun, read-only root", RANGE,
             [*with_crun, "--network", "none", "--read-only", "--read-only-tmpfs=false", "--rootfs", root, "true"],
             world.podman_environment, fastest),
        run_sbx(fastest_overlay, OVERLAY, [*no_network, "--storage-driver", "overlay"], range_peer),
    ]
    if world.shim:
        overlay = run_sbx("sbx, kernel overlay, own helper", OVERLAY, [*no_network, "--storage-driver", "overlay"], range_peer)
        overlay.environment = world.shim_environment()
        lines.append(overlay)
        fastest_overlay = overlay.label
    image = run_sbx("sbx, image of the same root" + (", own helper" if world.shim else ""), OVERLAY, [*no_network, "--storage-driver", "overlay"], range_peer,
                    world.shim_environment() if world.shim else None, (world.image,))
    lines += [
        image,
        run_sbx("sbx, fuse-overlayfs", OVERLAY, [*no_network, "--storage-driver", "fuse-overlayfs"], range_peer),
        Case("podman, overlay", OVERLAY, [*podman, "--network", "none", "--rootfs", root + ":O", "true"],
             world.podman_environment, fastest_overlay),
        Case("podman with crun, overlay", OVERLAY, [*with_crun, "--network", "none", "--rootfs", root + ":O", "true"],
             world.podman_environment, fastest_overlay),
        Case("podman, image of the same root", OVERLAY, [*podman, "--network", "none", world.image, "true"],
             world.podman_environment, image.label),
        run_sbx("sbx, default network", NETWORK, [], None),
        run_sbx("sbx, slirp4netns", NETWORK, ["--net", "slirp4netns"], None),
        Case("podman, slirp4netns", NETWORK, [*podman, "--network", "slirp4netns", "--rootfs", root + ":O", "true"],
             world.podman_environment, "sbx, default network"),
    ]
    return lines


def sleeping(world):
    """Containers that sleep; their argv ends in `sleep 1000`, and everything else of theirs is counted."""
    root, sleep = world.rootfs, ["sleep", "1000"]
    sbx = [world.sbx, "run", "--rm"]
    podman = ["podman", "run", "--rm"]
    return [
        Case("sbx, read-only root, no network", "", [*sbx, "--net", "none", "--read-only", "--rootfs", root, *sleep],
             world.sbx_environment),
        Case("sbx, kernel overlay, no network", "",
             [*sbx, "--net", "none", "--storage-driver", "overlay", "--rootfs", root, *sleep], world.sbx_environment),
        Case("sbx, default network", "", [*sbx, "--rootfs", root, *sleep], world.sbx_environment),
        Case("bwrap", "", ["bwrap", *BWRAP_VIEW, "--ro-bind", root, "/", *sleep]),
        Case("crun run", "", ["crun", "run", "--bundle", world.bundle + "-sleep", "sbx-bench-sleep"]),
        Case("podman run, no network", "", [*podman, "--network", "none", "--rootfs", root + ":O", *sleep],
             world.podman_environment),
        Case("podman run -d, no network", "", [*podman, "-d", "--network", "none", "--rootfs", root + ":O", *sleep],
             world.podman_environment),
        Case("podman run -d, slirp4netns", "", [*podman, "-d", "--network", "slirp4netns", "--rootfs", root + ":O", *sleep],
             world.podman_environment),
    ]


def make_rootfs(root):
    """Debian's static busybox and a link for each of its applets."""
    for name in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"]:
        os.makedirs(os.path.join(root, name))
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(root, "bin", applet))
    for name, content in [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
        ("hostname", ""),
    ]:
        with open(os.path.join(root, "etc", name), "w", encoding="utf-8") as file:
            file.write(content)
    return root


def make_bundle(directory, rootfs):
    """OCI bundles of `true`, (DIRECTORY-false) `false` and (DIRECTORY-sleep) `sleep 1000`, as `crun spec --rootless`
    describes them."""
    for path, args in [(directory, ["true"]), (directory + "-false", ["false"]), (directory + "-sleep", ["sleep", "1000"])]:
        os.makedirs(path)
        if not shutil.which("crun"):
            continue
        subprocess.run(["crun", "spec", "--rootless"], cwd=path, check=True)
        file = os.path.join(path, "config.json")
        with open(file, encoding="utf-8") as stream:
            config = json.load(stream)
        config["process"]["terminal"] = False
        config["process"]["args"] = args
        config["root"] = {"path": rootfs, "readonly": True}
        maps = id_maps()
        if maps:
            for key, words in [("uidMappings", maps[0]), ("gidMappings", maps[1])]:
                numbers = [int(word) for word in words]
                config["linux"][key] = [
                    {"containerID": numbers[at], "hostID": numbers[at + 1], "size": numbers[at + 2]}
                    for at in range(0, len(numbers), 3)
                ]
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(config, stream)
    return directory


def id_maps():
    """Root is the caller, and above it the first subordinate range: what sbx and podman map by default."""
    maps = []
    for file, own in [("/etc/subuid", os.getuid()), ("/etc/subgid", os.getgid())]:
        name = pwd.getpwuid(os.getuid()).pw_name
        with open(file, encoding="utf-8") as stream:
            ranges = [line.strip().split(":") for line in stream if line.split(":")[0] in (name, str(os.getuid()))]
        if not ranges:
            return None
        maps.append(["0", str(own), "1", "1", ranges[0][1], ranges[0][2]])
    return maps
