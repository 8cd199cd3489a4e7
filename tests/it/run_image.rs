//! `sbx run IMAGE`: what an image says of its command, whose its files are, and what keeps it unchanged.

use std::fs;
use std::path::Path;

use crate::harness::{Finished, Run, Sbx, TestImage, images, require, sbx};

const NAME: &str = "docker.io/library/image:latest";

#[derive(Clone, Copy)]
enum Driver {
    Overlay,
    FuseOverlayfs,
}

impl Driver {
    fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse-overlayfs",
        }
    }
}

/// A world whose store has one image, named `image`.
fn world_with(image: &TestImage) -> Sbx {
    let world = sbx();
    world.put_image(image, NAME);
    world
}

/// `sbx run --rm OPTIONS image`
fn run<'w>(world: &'w Sbx, options: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none", "--quiet"]).args(options).arg("image")
}

fn shell(world: &Sbx, options: &[&str], script: &str) -> String {
    run(world, options).args(["sh", "-c", script]).succeed()
}

/// With the image's entry point out of the way.
fn plain_shell(world: &Sbx, options: &[&str], script: &str) -> String {
    let options: Vec<&str> = options.iter().copied().chain(["--entrypoint", "sh"]).collect();
    run(world, &options).args(["-c", script]).succeed()
}

fn refused(finished: &Finished, said: &str) {
    assert_eq!(finished.code(), 125, "{}", finished.stderr());
    assert!(finished.stderr().contains(said), "{}", finished.stderr());
}

macro_rules! on_both_drivers {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn overlay() {
                super::statements::$name(super::Driver::Overlay);
            }

            #[test]
            fn fuse_overlayfs() {
                super::statements::$name(super::Driver::FuseOverlayfs);
            }
        })*
    };
}

on_both_drivers! {
    owners_modes_and_attributes_are_those_of_the_archive
    what_higher_layers_remove_is_not_there
    a_container_changes_nothing_of_its_image
    setuid_programs_and_file_capabilities_are_in_force
    an_image_without_layers_runs_what_is_brought_in
    packages_are_installed_from_an_archive
}

mod statements {
    use super::*;

    pub fn owners_modes_and_attributes_are_those_of_the_archive(driver: Driver) {
        let world = world_with(&images().busybox_of("odd"));
        let script = "cd /odd && stat -c '%n %u:%g %a %F' . b* d* fifo largest* set* symlink with*; cat b*; readlink symlink";
        let expected = "\
. 8:33 751 directory
b\u{fc}ro 1000:50 644 regular file
directory 33:33 1770 directory
fifo 1000:8 620 fifo
largest-owner 65534:65534 0 regular empty file
setgid 0:50 2711 regular file
setuid 33:33 4755 regular file
symlink 0:0 777 symbolic link
with-attribute 33:0 644 regular empty file
with-attribute-again 33:0 644 regular empty file
foreign
/nowhere/at all
";
        assert_eq!(shell(&world, &["--storage-driver", driver.word()], script), expected.trim_end());
        let links = shell(
            &world,
            &["--storage-driver", driver.word()],
            "stat -c %h /odd/with-attribute; ls /odd | grep -c '^l\\{200\\}$'",
        );
        assert_eq!(links, "2\n1");
    }

    pub fn what_higher_layers_remove_is_not_there(driver: Driver) {
        let world = world_with(&images().busybox_of("changed"));
        let options = ["--storage-driver", driver.word()];
        let script = "find . -type f -o -type d | sort; cat was-directory; ls -d /var/mail 2>&1; find /opt /var -name '.wh*' -o -type c";
        let expected = "\
.
./cache
./cache/new
./main.py
./plugins
./plugins/kept
./was-directory
./was-file
./was-file/inside
5
ls: /var/mail: No such file or directory";
        assert_eq!(shell(&world, &options, script), expected);
        let script =
            "mkdir -m 700 /var/mail && ls -A /var/mail && rm -r plugins && mkdir plugins && ls -A plugins";
        assert_eq!(shell(&world, &options, script), "");
    }

    pub fn a_container_changes_nothing_of_its_image(driver: Driver) {
        let world = world_with(&images().busybox());
        let options = ["--storage-driver", driver.word()];
        shell(&world, &options, "true");
        let layers = world.store().join("layers");
        let seen = || {
            world.sbx(["unshare", "find"]).arg(&layers).args(["-printf", "%p %U:%G %m %s %C@\\n"]).succeed()
        };
        let before = seen();
        let script = "chown 7:8 /home/user && rm -r /var/www && mkdir /var/www && echo x >>/etc/passwd && mv /bin/sh /bin/shell && chmod 700 /tmp && rm /bin/busybox";
        shell(&world, &options, script);
        assert_eq!(seen(), before);
        assert_eq!(
            shell(&world, &options, "ls /var/www; grep -c x$ /etc/passwd; stat -c %u:%g /home/user"),
            "index.html\n0\n1000:1000"
        );
    }

    pub fn setuid_programs_and_file_capabilities_are_in_force(driver: Driver) {
        let world = world_with(&images().debian());
        let options = ["--storage-driver", driver.word(), "-u", "www-data"];
        let script = "sleep 9 | su root >/dev/null 2>&1 & while ! pidof su >/dev/null; do sleep 0.05; done; sleep 0.2; \
            grep Uid /proc/$(pidof su)/status";
        assert_eq!(shell(&world, &options, script).replace('\t', " "), "Uid: 33 0 0 0");
        // Unless anybody may ping, it takes the capability.
        let options = [&options[..], &["--sysctl", "net.ipv4.ping_group_range=1 0"]].concat();
        let script =
            "cp /usr/bin/ping /tmp && /tmp/ping -c1 127.0.0.1 2>&1 || ping -qc1 127.0.0.1 | grep received";
        let found = shell(&world, &options, script);
        assert!(found.contains("ping: ") && found.contains("1 received"), "{found}");
        let owners = "stat -c %u:%g:%a /usr/lib/dbus-1.0/dbus-daemon-launch-helper /var/lib/apt/lists/partial /var/mail /etc/shadow";
        assert_eq!(shell(&world, &options[..2], owners), "0:101:4754\n42:0:700\n0:8:2775\n0:42:640");
        let helper = "getent group messagebus | cut -d: -f3; getcap /usr/bin/ping";
        assert_eq!(shell(&world, &options[..2], helper), "101\n/usr/bin/ping cap_net_raw=ep");
    }

    pub fn an_image_without_layers_runs_what_is_brought_in(driver: Driver) {
        let world = world_with(&images().busybox_of("empty"));
        let options = ["--storage-driver", driver.word()];
        let finished = run(&world, &options).finish();
        assert_eq!(finished.code(), 127, "{}", finished.stderr());
        let busybox = require("busybox");
        let volume = format!("{}:/tool/busybox:ro", busybox.display());
        let options = [&options[..], &["-v", &volume]].concat();
        let found = run(&world, &options).args([
            "/tool/busybox",
            "sh",
            "-c",
            "/tool/busybox ls /; echo x >/x && /tool/busybox cat /x",
        ]);
        assert_eq!(found.succeed(), "dev\netc\nproc\nsys\ntool\nx");
    }

    /// Maintainer scripts, another user's files and all, as `docker run debian apt-get install` does it.
    pub fn packages_are_installed_from_an_archive(driver: Driver) {
        let world = world_with(&images().debian());
        let archive = Archive::start(&world);
        let script = format!(
            "rm -f /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] http://127.0.0.1:{}/ ./' >/etc/apt/sources.list && \
             apt-get -q update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qy install sbx-owned >&2 && \
             stat -c '%n %U:%G %a' /var/lib/sbx-owned /var/lib/sbx-owned/* && dpkg-query -W -f '${{db:Status-Status}}\\n' sbx-owned",
            archive.port
        );
        let found = world
            .run([
                "--rm",
                "--quiet",
                "--net",
                "host",
                "--storage-driver",
                driver.word(),
                "image",
                "bash",
                "-c",
                &script,
            ])
            .timeout(std::time::Duration::from_secs(120))
            .finish();
        assert_eq!(found.code(), 0, "{}", found.stderr());
        let expected = "\
/var/lib/sbx-owned mail:adm 2750
/var/lib/sbx-owned/file root:mail 640
/var/lib/sbx-owned/link games:games 777
installed
";
        assert_eq!(found.stdout(), expected);
    }
}

/// A package archive on loopback, with one package whose files have many owners. Ends with the value.
struct Archive<'w> {
    port: u16,
    server: Option<crate::harness::Running<'w>>,
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(nix::sys::signal::Signal::SIGKILL);
            let _ = server.finish();
        }
    }
}

impl<'w> Archive<'w> {
    fn start(world: &'w Sbx) -> Self {
        require("python3");
        let package = world.work().join("package");
        world.file("package/DEBIAN/control", "Package: sbx-owned\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: files of many owners\n");
        world.script(
            "package/DEBIAN/postinst",
            "#!/bin/sh\nset -e\nd=/var/lib/sbx-owned\nmkdir $d\nchown mail:adm $d\nchmod 2750 $d\ntouch $d/file\n\
             chown root:mail $d/file\nchmod 640 $d/file\nln -s nowhere $d/link\nchown -h games:games $d/link\n",
        );
        world.file("package/usr/share/sbx-owned/content", "x\n");
        let archive = world.work().join("archive");
        fs::create_dir(&archive).expect("a directory");
        world
            .program("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&package)
            .arg(&archive)
            .succeed();
        let deb = fs::read(archive.join("sbx-owned_1_all.deb")).expect("the package");
        let sum = world.program("sha256sum").arg(archive.join("sbx-owned_1_all.deb")).succeed();
        let sum = sum.split(' ').next().expect("a sum").to_owned();
        let control = fs::read_to_string(package.join("DEBIAN/control")).expect("the control file");
        let index = format!("{control}Filename: ./sbx-owned_1_all.deb\nSize: {}\nSHA256: {sum}\n", deb.len());
        fs::write(archive.join("Packages"), index).expect("an index");
        let script = "import functools, http.server, sys\n\
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
            print(server.server_port, flush=True)\nserver.serve_forever()\n";
        let mut server = world.program("python3").args(["-c", script]).arg(&archive).spawn();
        server.wait_for_stdout("\n");
        let port = server.stdout_now().trim().parse().expect("a port");
        Self { port, server: Some(server) }
    }
}

#[test]
fn the_images_command_runs_with_its_configuration() {
    let world = world_with(&images().busybox_of("configured"));
    let finished = run(&world, &[]).expect_code(0);
    assert_eq!(finished.stdout(), "from,the,image,");
    let said = run(&world, &[]).args(["typed", "words"]).succeed();
    assert_eq!(said, "typed,words,");
    assert_eq!(
        plain_shell(&world, &[], "id -un; id -gn; id -G; pwd"),
        "user\nstaff\n50\n/home/user/made by sbx"
    );
    assert_eq!(
        plain_shell(&world, &["-u", "33", "-w", "/var"], "id -un; id -gn; pwd"),
        "www-data\nwww-data\n/var"
    );
}

#[test]
fn an_empty_entrypoint_takes_the_images_away_with_its_command() {
    let world = world_with(&images().busybox_of("configured"));
    assert_eq!(run(&world, &["--entrypoint", ""]).args(["echo", "alone"]).succeed(), "alone");
    let finished = run(&world, &["--entrypoint", ""]).finish();
    refused(&finished, "no command specified");
    let said = run(&world, &["--entrypoint", "echo"]).succeed();
    assert_eq!(said, "", "the image's arguments belong to its own entry point");
    assert_eq!(run(&world, &["--entrypoint", r#"["echo", "-n"]"#]).arg("x").succeed(), "x");
}

#[test]
fn the_images_environment_is_there_and_flags_beat_it() {
    let world = world_with(&images().busybox_of("configured"));
    let found = run(&world, &["--entrypoint", "env", "--hostname", "h"]).succeed();
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    let expected = [
        "COLOUR=blue",
        "EMPTY=",
        "HOME=/home/user",
        "HOSTNAME=h",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SENTENCE=a b=c",
        "container=sbx",
    ];
    assert_eq!(found, expected);
    let script = "echo $COLOUR,$EMPTY,$PATH";
    let options = ["-e", "COLOUR=red", "-e", "EMPTY=full", "-e", "PATH=/bin"];
    assert_eq!(plain_shell(&world, &options, script), "red,full,/bin");
}

#[test]
fn a_user_that_the_image_does_not_know_is_refused() {
    let world = world_with(&images().busybox());
    let finished = run(&world, &["-u", "stranger"]).arg("true").finish();
    refused(&finished, "unable to find user stranger: no matching entries in passwd file");
    assert_eq!(shell(&world, &["-u", "4711:12"], "id -u; id -g"), "4711\n12");
}

#[test]
fn labels_and_ports_of_the_image_are_shown_and_flags_beat_them() {
    let world = world_with(&images().busybox_of("configured"));
    let options = ["--net", "none", "--quiet", "--name", "cc", "-l", "org.example.version=2", "-l", "own=1"];
    let mut running =
        world.run(options).args(["--entrypoint", "sh", "image", "-c", "echo up; sleep 60"]).spawn();
    running.wait_for_stdout("up");
    let shown: serde_json::Value =
        serde_json::from_str(&world.sbx(["ps", "--format", "json"]).succeed()).expect("JSON");
    let row = shown.get(0).unwrap_or(&shown);
    let labels = serde_json::json!({
        "org.example.kind": "configured", "org.example.version": "2", "own": "1",
    });
    assert_eq!(row["Labels"], labels, "{row}");
    let exposed = serde_json::json!({ "5353": ["udp"], "8080": ["tcp"] });
    assert_eq!((&row["Image"], &row["ExposedPorts"]), (&"image".into(), &exposed), "{row}");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = running.finish();
    world.sbx(["rm", "-f", "cc"]).succeed();
}

#[test]
fn the_images_stop_signal_ends_the_command() {
    let world = world_with(&images().busybox_of("configured"));
    let volume = format!("{}:/mnt", world.work().display());
    let script = "trap 'echo int >/mnt/said; exit' INT; trap 'echo term >/mnt/said; exit' TERM; echo up; while :; do sleep 0.05; done";
    for (options, signal) in [(&[][..], "int\n"), (&["--stop-signal", "TERM"], "term\n")] {
        let base = ["--rm", "--net", "none", "--quiet", "-u", "0", "--entrypoint", "sh", "-v", &volume];
        let mut running = world.run(base).args(options).args(["image", "-c", script]).spawn();
        running.wait_for_stdout("up");
        // A client that is killed takes its container along.
        running.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = running.finish();
        world.assert_clean();
        assert_eq!(fs::read_to_string(world.work().join("said")).expect("what was said"), signal);
    }
}

#[test]
fn volumes_of_the_image_hold_what_it_has_there() {
    let world = world_with(&images().busybox_of("configured"));
    let root = ["-u", "0"];
    let script = "cat /var/www/index.html && stat -c %u:%g /var/www && echo new >/var/www/new && echo x >/fresh/volume/x && cat /var/www/new /fresh/volume/x";
    let expected = "<p>from the image</p>\n33:33\nnew\nx";
    assert_eq!(plain_shell(&world, &root, script), expected);
    // Volumes can be written where the root cannot.
    assert_eq!(plain_shell(&world, &["-u", "0", "--read-only"], script), expected);
    let denied =
        plain_shell(&world, &["-u", "0", "--read-only"], "(echo x >/home/x) 2>/dev/null || echo denied");
    assert_eq!(denied, "denied");
    let tmpfs = plain_shell(
        &world,
        &["-u", "0", "--image-volume", "tmpfs"],
        "ls /var/www; stat -f -c %T /var/www /fresh/volume",
    );
    assert_eq!(tmpfs, "tmpfs\ntmpfs");
    let ignored =
        plain_shell(&world, &["-u", "0", "--image-volume", "ignore"], "ls /fresh 2>&1; ls /var/www");
    assert_eq!(ignored, "ls: /fresh: No such file or directory\nindex.html");
    let volume = format!("{}:/fresh/volume", world.work().display());
    world.file("mine", "");
    assert_eq!(plain_shell(&world, &["-u", "0", "-v", &volume], "ls /fresh/volume"), "mine");
}

#[test]
fn an_image_for_another_machine_is_warned_of_and_does_not_start() {
    let world = world_with(&images().busybox_of("foreign"));
    let finished = world.run(["--rm", "--net", "none", "image", "true"]).finish();
    assert_eq!(finished.code(), 126, "{}", finished.stderr());
    assert!(finished.stderr().contains("Warning: the image is for linux/"), "{}", finished.stderr());
    assert!(finished.stderr().contains("Exec format error"), "{}", finished.stderr());
    let native = world_with(&images().busybox_of("multi"));
    assert_eq!(
        native.run(["--rm", "--net", "none", "image", "uname", "-m"]).succeed(),
        std::env::consts::ARCH
    );
}

#[test]
fn what_is_not_in_the_store_is_not_pulled_if_never_is_said() {
    let world = sbx();
    let finished = world.run(["--rm", "--pull", "never", "localhost:1/none", "true"]).finish();
    refused(&finished, "cannot find the image `localhost:1/none`");
    assert!(finished.stderr().contains("sbx pull localhost:1/none"), "{}", finished.stderr());
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
}

#[test]
fn an_image_is_named_by_id_by_its_beginning_and_by_every_name() {
    let world = world_with(&images().busybox());
    world.put_image(&images().busybox_of("configured"), "localhost:5000/a/b:1.2");
    let config = |layout: &Path, tag: &str| {
        let read = |name: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(name).expect("a document")).expect("JSON")
        };
        let index = read(&layout.join("index.json"));
        let entry = index["manifests"]
            .as_array()
            .expect("entries")
            .iter()
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        let blob = |digest: &serde_json::Value| {
            layout.join("blobs/sha256").join(digest.as_str().expect("a digest").trim_start_matches("sha256:"))
        };
        let manifest = read(&blob(&entry.expect("an entry")["digest"]));
        manifest["config"]["digest"].as_str().expect("a digest").to_owned()
    };
    let id = config(&images().busybox().layout, "latest");
    let hex = id.trim_start_matches("sha256:");
    let names = ["image", "image:latest", "library/image", "docker.io/library/image", &id, hex, &hex[..12]];
    for name in names {
        let run = world.run(["--rm", "--quiet", "--net", "none", "--pull", "never", name, "echo", "ran"]);
        assert_eq!(run.succeed(), "ran", "{name}");
    }
    let said = world.run(["--rm", "--quiet", "--net", "none", "localhost:5000/a/b:1.2"]).succeed();
    assert_eq!(said, "from,the,image,");
}

#[test]
fn the_image_host_is_the_machine_unless_its_whole_name_is_written() {
    let world = sbx();
    world.put_image(&images().busybox(), "docker.io/library/host:latest");
    let machine = fs::read_to_string("/etc/os-release").expect("a system");
    let run =
        |name: &str| world.run(["--rm", "--quiet", "--net", "none", name, "cat", "/etc/os-release"]).finish();
    assert_eq!(run("host").stdout(), machine);
    assert_eq!(run("docker.io/library/host").code(), 1, "busybox has no such file");
}

#[test]
fn another_map_of_ids_takes_the_same_layers_and_writes_canonical_owners() {
    let world = world_with(&images().busybox_of("odd"));
    shell(&world, &[], "true");
    let layers = world.store().join("layers");
    let entries = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).expect("layers").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    let before: Vec<_> = entries(&layers).iter().flat_map(|key| entries(key)).collect();
    let script = "stat -c %u:%g /odd/directory /odd/setuid /var/www /home/user /etc/passwd; \
        touch /odd/directory/new && chown 8:33 /odd/directory/new && stat -c %u:%g /odd/directory/new";
    for userns in ["keep-id", "auto", "nomap", "image-user", "keep-id:uid=33,gid=33"] {
        // Every map has a root here, and the image's owners are what they are in it.
        let owners = shell(&world, &["-u", "0", "--userns", userns], script);
        assert_eq!(owners, "33:33\n33:33\n33:33\n1000:1000\n0:0\n8:33", "--userns {userns}");
    }
    let after: Vec<_> = entries(&layers).iter().flat_map(|key| entries(key)).collect();
    assert_eq!(after, before, "the layers are the same");

    // On disk a file has the owner that it would have in a container without a map of its own.
    let options = ["--net", "none", "--quiet", "--name", "kept", "-u", "0", "--userns", "keep-id", "image"];
    world
        .run(options)
        .args(["sh", "-c", "touch /odd/directory/new && chown 8:33 /odd/directory/new"])
        .succeed();
    let containers = entries(&world.store().join("containers"));
    let new = containers[0].join("upper/odd/directory/new");
    assert_eq!(world.sbx(["unshare", "stat", "-c", "%u:%g"]).arg(new).succeed(), "8:33");
    world.sbx(["rm", "kept"]).succeed();
}

#[test]
fn image_user_makes_the_images_user_the_caller() {
    let world = world_with(&images().busybox_of("configured"));
    let volume = format!("{}:/mnt", world.work().display());
    let found = plain_shell(
        &world,
        &["--userns", "image-user", "-v", &volume],
        "id -un; id -gn; touch /mnt/made; stat -c %U:%G /mnt/made /home/user",
    );
    assert_eq!(found, "user\nstaff\nuser:staff\nuser:user");
    use std::os::unix::fs::MetadataExt;
    let made = fs::metadata(world.work().join("made")).expect("a file");
    assert_eq!((made.uid(), made.gid()), (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()));
}

#[test]
fn one_mapped_id_suffices_for_an_image_of_many_owners() {
    let world = world_with(&images().debian());
    for driver in ["overlay", "fuse-overlayfs"] {
        let script = "id -u; stat -c %u:%g /usr/bin/passwd /var/mail /etc/shadow; echo x >>/etc/shadow && tail -n1 /etc/shadow; \
            rm -r /var/lib/apt/lists/partial && mkdir /var/lib/apt/lists/partial && echo made; chmod 600 /etc/shadow && stat -c %a /etc/shadow";
        let found = shell(&world, &["--id-tier", "single", "--storage-driver", driver], script);
        assert_eq!(found, "0\n0:0\n0:8\n0:42\nx\nmade\n600", "{driver}");
    }
}

#[test]
fn twenty_runs_at_once_unpack_an_image_once() {
    let world = world_with(&images().python());
    let running: Vec<_> =
        (0..20).map(|_| run(&world, &[]).args(["sh", "-c", "ls plugins"]).spawn()).collect();
    for each in running {
        let finished = each.finish();
        assert_eq!((finished.code(), finished.stdout().as_str()), (0, "kept\n"), "{}", finished.stderr());
    }
    let keys: Vec<_> = fs::read_dir(world.store().join("layers")).expect("layers").flatten().collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        fs::read_dir(keys[0].path()).expect("layers").count(),
        4,
        "four layers, and nothing half made"
    );
    world.assert_clean();
}

#[test]
fn no_record_names_the_place_of_the_store() {
    let world = world_with(&images().busybox());
    world
        .run(["--net", "none", "--quiet", "--name", "cc", "image", "sh", "-c", "echo kept >/kept"])
        .succeed();
    let container = fs::read_dir(world.store().join("containers")).expect("containers").next();
    let spec = container.expect("a container").expect("an entry").path().join("spec.json");
    let text = fs::read_to_string(spec).expect("a spec");
    assert!(!text.contains(world.store().to_str().expect("UTF-8")), "{text}");
    let moved = world.directory().join("moved");
    fs::rename(world.store(), &moved).expect("a rename");
    let run = world
        .sbx(["--root".as_ref(), moved.as_os_str()])
        .args(["run", "--rm", "--net", "none", "--pull", "never", "image", "echo", "ran"]);
    assert_eq!(run.succeed(), "ran");
    world.sbx(["--root".as_ref(), moved.as_os_str()]).args(["rm", "cc"]).succeed();
}

#[test]
fn a_damaged_layer_blob_is_refused_and_nothing_half_made_stays() {
    let world = world_with(&images().busybox());
    let blobs = world.store().join("oci/blobs/sha256");
    let largest = fs::read_dir(&blobs)
        .expect("blobs")
        .flatten()
        .max_by_key(|blob| blob.metadata().map_or(0, |found| found.len()));
    let largest = largest.expect("a blob").path();
    let mut bytes = fs::read(&largest).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::remove_file(&largest).expect("removed");
    fs::write(&largest, bytes).expect("written");
    let finished = run(&world, &["--pull", "never"]).arg("true").finish();
    assert_eq!(finished.code(), 125, "{}", finished.stderr());
    let left: Vec<_> = fs::read_dir(world.store().join("layers"))
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|key| fs::read_dir(key.path()).expect("a directory").flatten())
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
}

mod as_root {
    use super::*;
    use crate::harness::require_root;

    #[test]
    fn root_runs_an_image_with_its_owners() {
        require_root();
        let world = world_with(&images().busybox_of("odd"));
        let script = "stat -c %u:%g:%a /odd/directory /odd/setuid /odd/largest-owner /etc/shadow; id -u";
        for options in [&[][..], &["--userns", "host"], &["--id-tier", "single"]] {
            let expected = "33:33:1770\n33:33:4755\n65534:65534:0\n0:42:640\n0";
            assert_eq!(shell(&world, options, script), expected, "{options:?}");
        }
    }
}
