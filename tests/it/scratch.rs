//! Stores on file systems that do not keep what layers hold: homes on a network, here stood for by bindfs, which
//! refuses owners and attributes as they do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::harness::{Sbx, images, require, sbx};

const NAME: &str = "docker.io/library/image:latest";

/// A directory of the world seen through bindfs; unmounted when dropped.
struct Bindfs<'w> {
    world: &'w Sbx,
    mount: PathBuf,
}

impl<'w> Bindfs<'w> {
    fn mount(world: &'w Sbx, options: &[&str]) -> Self {
        require("bindfs");
        let (behind, mount) = (world.directory().join("behind"), world.directory().join("remote"));
        for directory in [&behind, &mount] {
            fs::create_dir_all(directory).expect("a directory");
        }
        world.program("bindfs").arg("--no-allow-other").args(options).args([&behind, &mount]).succeed();
        Self { world, mount }
    }

    /// What is there without bindfs.
    fn behind(&self) -> PathBuf {
        self.world.directory().join("behind")
    }
}

impl Drop for Bindfs<'_> {
    fn drop(&mut self) {
        let _ = self.world.program("fusermount3").args(["-u", "-z"]).arg(&self.mount).finish();
    }
}

/// A world whose store lies on `mount` and whose only scratch is its own.
fn world() -> Sbx {
    let world = sbx();
    let scratch = world.directory().join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    world.env("TMPDIR", scratch).env_remove("SLURM_TMPDIR")
}

fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn scratch_of(world: &Sbx) -> PathBuf {
    world.directory().join(format!("scratch/sbx-scratch-{}", uid()))
}

fn put(world: &Sbx, store: &Path, image: &str) {
    require("skopeo");
    fs::create_dir_all(store).expect("a store");
    let layout = match image {
        "changed" => images().busybox_of("changed"),
        "odd" => images().busybox_of("odd"),
        _ => images().busybox(),
    };
    let to = format!("oci:{}:{NAME}", store.join("oci").display());
    world.program("skopeo").args(["copy", "--quiet"]).args([layout.skopeo(), to]).expect_code(0);
}

fn run(world: &Sbx, store: &Path, options: &[&str], script: &str) -> String {
    let sbx = world.sbx(["--root"]).arg(store).args(["run", "--quiet", "--net", "none"]).args(options);
    sbx.args(["image", "sh", "-c", script]).succeed()
}

fn entries(path: &Path) -> Vec<String> {
    let found = fs::read_dir(path).into_iter().flatten().flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whose layers these are, and that nothing of a container is left on scratch.
fn check(world: &Sbx, remote: &Bindfs<'_>, key: &str) {
    assert_eq!(entries(&remote.behind().join("layers")), [key]);
    let left = entries(&scratch_of(world));
    assert!(left.iter().all(|name| name == "cache"), "{left:?}");
}

#[test]
fn images_run_from_a_store_that_keeps_no_owners() {
    for (refusal, key) in
        [(&["--chown-ignore"][..], "single"), (&["--chown-deny", "--xattr-ro"], "single-sidecar")]
    {
        let world = world();
        let remote = Bindfs::mount(&world, refusal);
        put(&world, &remote.mount, "odd");
        for options in [&["--rm"][..], &["--rm", "-u", "0", "--userns", "keep-id"]] {
            let script = "cd /odd; stat -c '%u:%g:%a' . directory setuid largest-owner; cd /; rm -r /odd; touch /new; chmod 750 /var/www; stat -c %a /var/www";
            let found = run(&world, &remote.mount, options, script);
            // Where the mode is not recorded beside the file, its owner can read it on disk, and so here.
            let closed = if key == "single" { "0" } else { "400" };
            let expected = format!("0:0:751\n0:0:1770\n0:0:4755\n0:0:{closed}\n750");
            assert_eq!(found, expected, "{refusal:?} {options:?}");
        }
        check(&world, &remote, key);
    }
}

#[test]
fn volumes_stay_in_a_store_that_keeps_no_owners_and_that_is_said() {
    for (refusal, tier, said) in [
        (&["--chown-ignore"][..], "range", "files in volumes all belong to one user"),
        (&["--chown-deny", "--xattr-ro"], "single", "owners of files in volumes are not recorded"),
    ] {
        let world = world();
        let remote = Bindfs::mount(&world, refusal);
        put(&world, &remote.mount, "odd");
        let run = |script: &str| {
            let sbx = world.sbx(["--root"]).arg(&remote.mount).args([
                "run",
                "--rm",
                "--net=none",
                "--id-tier",
                tier,
            ]);
            sbx.args(["-v", "v:/odd", "image", "sh", "-c", script]).expect_code(0)
        };
        let first = run("ls /odd | wc -l; echo kept >/odd/f").stdout_is("11\n");
        assert!(first.stderr().contains(said), "{}", first.stderr());
        assert_eq!(run("cat /odd/f").stdout(), "kept\n");
        assert_eq!(entries(&remote.behind().join("volumes/v/_data")).len(), 12);
        assert!(entries(&scratch_of(&world)).iter().all(|name| name == "cache"));
        world.sbx(["--root"]).arg(&remote.mount).args(["volume", "rm", "v"]).succeed();
        assert!(entries(&remote.behind().join("volumes/.part")).is_empty());
    }
}

#[test]
fn what_layers_remove_is_marked_where_there_are_no_attributes() {
    let world = world();
    let remote = Bindfs::mount(&world, &["--chown-deny", "--xattr-none"]);
    put(&world, &remote.mount, "changed");
    let script = "ls cache plugins was-file; cat was-directory; ls -d /var/mail 2>&1; stat -c %u:%g:%a /home/user /etc/shadow; \
        echo x >>/etc/passwd && rm -r plugins && mkdir plugins && ls plugins";
    let expected = "cache:\nnew\n\nplugins:\nkept\n\nwas-file:\ninside\n5\n\
        ls: /var/mail: No such file or directory\n0:0:755\n0:0:640";
    assert_eq!(run(&world, &remote.mount, &["--rm"], script), expected);
    check(&world, &remote, "single-sidecar");
}

#[test]
fn what_a_container_changes_is_kept_on_scratch_and_goes_with_it() {
    let world = world();
    let remote = Bindfs::mount(&world, &["--chown-deny", "--xattr-none"]);
    put(&world, &remote.mount, "busybox");
    run(&world, &remote.mount, &["--name", "kept"], "echo kept >/kept");
    let containers = entries(&remote.behind().join("containers"));
    let [id] = &containers[..] else { panic!("{containers:?}") };
    let scratch = scratch_of(&world).join(id);
    assert_eq!(fs::read_to_string(scratch.join("upper/kept")).expect("the change"), "kept\n");
    assert!(
        !remote.behind().join("containers").join(id).join("upper").exists(),
        "nothing of it is in the store"
    );
    let spec =
        fs::read_to_string(remote.behind().join("containers").join(id).join("spec.json")).expect("a spec");
    assert!(spec.contains(scratch_of(&world).to_str().expect("UTF-8")), "{spec}");
    world.sbx(["--root"]).arg(&remote.mount).args(["rm", "kept"]).succeed();
    assert!(!scratch.exists());
    assert!(entries(&remote.behind().join("containers")).is_empty());
}

#[test]
fn the_trial_is_made_once_for_each_mount() {
    let world = world();
    let remote = Bindfs::mount(&world, &["--chown-ignore", "--xattr-none"]);
    put(&world, &remote.mount, "busybox");
    run(&world, &remote.mount, &["--rm"], "true");
    let store = remote.behind();
    let cache = || {
        let name = entries(&store.join("cache")).into_iter().find(|name| name.starts_with("storage."));
        store.join("cache").join(name.expect("what was found out"))
    };
    let text = fs::read_to_string(cache()).expect("a cache");
    assert!(text.contains(r#""owners":false,"attributes":false"#), "{text}");
    let made = fs::metadata(cache()).expect("a cache").ino();
    run(&world, &remote.mount, &["--rm"], "true");
    assert_eq!(fs::metadata(cache()).expect("a cache").ino(), made, "it was not asked again");
    drop(remote);
    let remote = Bindfs::mount(&world, &[]);
    run(&world, &remote.mount, &["--rm"], "true");
    let text = fs::read_to_string(cache()).expect("a cache");
    assert!(text.contains(r#""attributes":true"#), "another mount is another file system: {text}");
}

#[test]
fn scratch_that_was_asked_for_is_taken_and_said() {
    let world = world();
    world.put_image(&images().busybox_of("odd"), NAME);
    let place = world.directory().join("place");
    fs::create_dir(&place).expect("a directory");
    let path = place.to_str().expect("UTF-8");
    let script = "touch /odd/directory/new && chown 8:33 /odd/directory/new; stat -c %u:%g /odd/directory /odd/directory/new";
    for userns in [&[][..], &["--userns", "keep-id", "-u", "0"]] {
        let options = [&["--scratch", path, "--name", "cc"], userns].concat();
        let run = world.run(["--quiet", "--net", "none"]).args(options).args(["image", "sh", "-c", script]);
        assert_eq!(run.succeed(), "33:33\n8:33");
        let own = place.join(format!("sbx-scratch-{}", uid()));
        let id = entries(&own).into_iter().find(|name| name.len() == 64).expect("the container's");
        let new = own.join(&id).join("upper/odd/directory/new");
        assert_eq!(world.sbx(["unshare", "stat", "-c", "%u:%g"]).arg(new).succeed(), "8:33");
        world.sbx(["rm", "cc"]).succeed();
        assert!(!own.join(&id).exists());
    }
    let said = world.sbx([
        "--log-level",
        "info",
        "run",
        "--rm",
        "--net",
        "none",
        "--scratch",
        path,
        "image",
        "true",
    ]);
    let said = said.expect_code(0).stderr();
    assert!(
        said.contains(&format!("what the container changes is kept in `{path}/sbx-scratch-{}`", uid())),
        "{said}"
    );
    let by_variable =
        world.run(["--rm", "--quiet", "--net", "none", "image", "true"]).env("SBX_SCRATCH", "/nonexistent");
    let finished = by_variable.finish();
    assert_eq!(finished.code(), 125);
    assert!(finished.stderr().contains("cannot use `/nonexistent` for scratch"), "{}", finished.stderr());
}

#[test]
fn scratch_of_somebody_else_is_refused() {
    let world = world();
    world.put_image(&images().busybox(), NAME);
    let place = world.directory().join("place");
    fs::create_dir(&place).expect("a directory");
    std::os::unix::fs::symlink("/tmp", place.join(format!("sbx-scratch-{}", uid()))).expect("a symlink");
    let finished =
        world.run(["--rm", "--net", "none", "--scratch"]).arg(&place).args(["image", "true"]).finish();
    assert_eq!(finished.code(), 125);
    assert!(finished.stderr().contains("is not a directory of user"), "{}", finished.stderr());
}

#[test]
fn scratch_of_a_killed_container_is_removed_by_the_next_command() {
    let mut world = world();
    world.allow_leftovers();
    let remote = Bindfs::mount(&world, &["--chown-deny", "--xattr-none"]);
    put(&world, &remote.mount, "busybox");
    let sbx =
        world.sbx(["--root"]).arg(&remote.mount).args(["run", "--rm", "--quiet", "--net", "none", "image"]);
    let mut running = sbx.args(["sh", "-c", "echo x >/x; echo up; sleep 60"]).spawn();
    running.wait_for_stdout("up");
    for process in world.leftovers().processes {
        if !process.command.contains("bindfs") {
            let _ = nix::sys::signal::kill(process.pid, Signal::SIGKILL);
        }
    }
    let _ = running.finish();
    // A record that is gone altogether: what the sweep finds on scratch is nobody's.
    let id = "f".repeat(64);
    let orphan = scratch_of(&world).join(&id);
    fs::create_dir_all(orphan.join("upper/d")).expect("a directory");
    std::os::unix::fs::symlink(&remote.mount, orphan.join("store")).expect("a symlink");
    let others = scratch_of(&world).join("e".repeat(64));
    fs::create_dir_all(&others).expect("a directory");
    std::os::unix::fs::symlink("/another/store", others.join("store")).expect("a symlink");
    run(&world, &remote.mount, &["--rm"], "true");
    world.sbx(["--root"]).arg(&remote.mount).args(["ps", "-a"]).succeed();
    assert!(!orphan.exists(), "the next command removes it");
    assert!(others.exists(), "that of another store is left alone");
    let left: Vec<String> =
        entries(&scratch_of(&world)).into_iter().filter(|name| name.len() == 64).collect();
    assert_eq!(left, ["e".repeat(64)]);
}

#[test]
fn info_and_doctor_tell_where_changes_are_kept() {
    let world = world();
    let remote = Bindfs::mount(&world, &["--chown-deny", "--xattr-none"]);
    let info = world.sbx(["--root"]).arg(&remote.mount).args(["info", "--format", "json"]).succeed();
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    let store = &info["store"];
    assert_eq!(store["scratchRoot"], scratch_of(&world).to_str().expect("UTF-8"), "{store}");
    assert_eq!(store["graphStatus"]["Keeps Owners"], false, "{store}");
    assert_eq!(store["graphDriverName"], "fuse-overlayfs", "{store}");
    let doctor = world.sbx(["--root"]).arg(&remote.mount).args(["doctor"]).finish().stdout();
    assert!(doctor.contains("takes no files of other owners, no extended attributes"), "{doctor}");
    assert!(entries(&remote.behind()).is_empty(), "nothing is left by looking");
    assert!(!scratch_of(&world).exists());
}

#[test]
fn a_container_of_another_machine_with_the_same_store_is_left_alone() {
    let world = world();
    world.put_image(&images().busybox(), NAME);
    let options = ["--rm", "--quiet", "--net", "none", "--init", "--name", "far", "image"];
    let mut running = world.run(options).args(["sh", "-c", "echo up; sleep 60"]).spawn();
    running.wait_for_stdout("up");
    let lock = world.store().join("running").join(&entries(&world.store().join("running"))[0]);
    let own = fs::read_to_string(&lock).expect("a record");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an ID");
    // As it looks on a machine that did not start it: another boot, and processes that are not there.
    let monitor =
        serde_json::from_str::<serde_json::Value>(&own).expect("JSON")["monitor"]["pid"].to_string();
    let theirs = own.replace(boot.trim(), &"0".repeat(boot.trim().len()));
    let theirs =
        theirs.replace(&format!("\"pid\":{monitor}"), &format!("\"pid\":{}", "9".repeat(monitor.len())));
    let write = |text: &str| {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(&lock).expect("the lock");
        file.write_all_at(text.as_bytes(), 0).expect("written");
    };
    write(&theirs);
    let began = std::time::Instant::now();
    assert_eq!(world.sbx(["ps", "--format", "{{.Names}} {{.State}}"]).succeed(), "far running");
    let finished = world.sbx(["rm", "-f", "far"]).finish();
    assert!(
        finished.stderr().contains("on another machine that has this store, too"),
        "{}",
        finished.stderr()
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(running.is_running());
    write(&own);
    world.sbx(["rm", "-f", "far"]).succeed();
    assert_eq!(running.finish().code(), 137);
}

mod as_root {
    use super::*;
    use crate::harness::require_root;

    /// A tmpfs with these options on the world's store.
    struct Tmpfs<'w>(&'w Sbx);

    impl<'w> Tmpfs<'w> {
        fn mount(world: &'w Sbx, options: &str) -> Self {
            fs::create_dir_all(world.store()).expect("a store");
            world.program("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(world.store()).succeed();
            Self(world)
        }
    }

    impl Drop for Tmpfs<'_> {
        fn drop(&mut self) {
            let _ = self.0.program("umount").arg("-l").arg(self.0.store()).finish();
        }
    }

    #[test]
    fn a_store_that_is_nosuid_and_nodev_takes_nothing_from_a_container() {
        require_root();
        let world = world();
        let _store = Tmpfs::mount(&world, "nosuid,nodev,noexec");
        world.put_image(&images().debian(), NAME);
        let script = "sleep 9 | su root >/dev/null 2>&1 & while ! pidof su >/dev/null; do sleep 0.05; done; sleep 0.2; \
            grep Uid /proc/$(pidof su)/status; echo x >/dev/null; getcap /usr/bin/ping";
        for driver in ["overlay", "fuse-overlayfs"] {
            let options =
                ["--rm", "--quiet", "--net", "none", "--storage-driver", driver, "-u", "www-data", "image"];
            let found = world.run(options).args(["sh", "-c", script]).succeed();
            assert_eq!(found.replace('\t', " "), "Uid: 33 0 0 0\n/usr/bin/ping cap_net_raw=ep", "{driver}");
        }
    }

    #[test]
    fn a_store_without_room_for_a_layer_keeps_no_part_of_it() {
        require_root();
        let world = world();
        let _store = Tmpfs::mount(&world, "size=100m");
        world.put_image(&images().debian(), NAME);
        let finished = world.run(["--rm", "--quiet", "--net", "none", "image", "true"]).finish();
        assert_eq!(finished.code(), 125, "{}", finished.stderr());
        assert!(finished.stderr().contains("No space left on device"), "{}", finished.stderr());
        assert!(finished.stderr().contains("Hint: free some space"), "{}", finished.stderr());
        let layers = world.store().join("layers");
        let left: Vec<String> = entries(&layers).iter().flat_map(|key| entries(&layers.join(key))).collect();
        assert!(left.is_empty(), "{left:?}");
        world.program("mount").args(["-o", "remount,size=1g"]).arg(world.store()).succeed();
        assert_eq!(world.run(["--rm", "--quiet", "--net", "none", "image", "echo", "ran"]).succeed(), "ran");
    }
}
