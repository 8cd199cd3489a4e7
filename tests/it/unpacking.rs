//! Archives become layers in the user namespace of the containers, and both drivers read the same layer.
//!
//! The archives are GNU tar's; a second start of this very program unpacks them, below `sbx unshare`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sbx::image::digest::Digest;
use sbx::layers::compression::decompress_detected;
use sbx::layers::owners::Owners;
use sbx::layers::pack::{Kind, Source, pack};
use sbx::layers::store::{Begin, LayerStore, MapKey, unpack_unknown};
use sbx::layers::unpack::Limits;

use crate::harness::{Finished, Run, Sbx, require, rootfs, sbx};

const ARCHIVE: &str = "UNPACK_ARCHIVE";
const STORE: &str = "UNPACK_STORE";
const KEY: &str = "UNPACK_KEY";
const DIFF_ID: &str = "UNPACK_DIFF_ID";
const PACK: &str = "UNPACK_AND_PACK";

/// The second start: unpacks what the environment names, packs it again, and says where it is.
#[test]
#[ignore = "a part of other tests, which start it in a user namespace"]
fn unpacks_what_the_environment_names() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let key = MapKey::from_record(&variable(KEY)).expect("a key");
    let store = LayerStore::new(Path::new(&variable(STORE)), &key);
    let archive = fs::File::open(variable(ARCHIVE)).expect("the archive");
    let diff_id: Option<Digest> = std::env::var(DIFF_ID).ok().map(|text| text.parse().expect("a digest"));
    let result = match &diff_id {
        None => {
            let (_, mut archive) = decompress_detected(archive).expect("a known compression");
            unpack_unknown(&store, &mut *archive, &Limits::default()).map(|(diff_id, _)| diff_id)
        }
        Some(diff_id) => match store.begin(diff_id).expect("the layer is claimed") {
            Begin::Present => {
                println!("\nPRESENT");
                Ok(diff_id.clone())
            }
            Begin::Make(unfinished) => {
                println!("\nMAKING");
                unfinished.unpack(&mut { archive }, &Limits::default()).map(|_| diff_id.clone())
            }
        },
    };
    let diff_id = result.unwrap_or_else(|error| {
        eprint!("{}", error.report());
        std::process::exit(3)
    });
    println!("\nLAYER {}", store.path(&diff_id).display());
    println!("FACTS {:?}", store.facts(&diff_id).expect("facts"));
    store.settle().expect("it is written through");
    let owners = Owners::load(&store.directory(&diff_id)).expect("the layer's index");
    for (path, line) in owners.iter() {
        println!("OWNER {} {} {}", String::from_utf8_lossy(path), line.recorded.text(), line.xattrs.len());
    }
    if let Some(target) = std::env::var_os(PACK) {
        let (root, leave_out) = (store.path(&diff_id), BTreeSet::new());
        let source = Source {
            root: &root,
            kind: Kind::Layer,
            owners: &owners,
            leave_out: &leave_out,
            opaque: None,
            removed: &[],
            times: sbx::layers::pack::Times::Kept,
        };
        let mut target = fs::File::create(target).expect("a file");
        pack(&source, &mut target).expect("it is packed");
    }
}

fn layers(world: &Sbx) -> PathBuf {
    world.directory().join("layers-of-the-test")
}

/// What is in the store, by name.
fn names(world: &Sbx) -> Vec<String> {
    let entries = fs::read_dir(layers(world).join("layers/range-test")).expect("a store");
    entries.map(|entry| entry.expect("readable").file_name().into_string().expect("a name")).collect()
}

/// The words that start this program for the second time.
fn second_start() -> [String; 5] {
    let program = std::env::current_exe().expect("this program has a path");
    let test = "unpacking::unpacks_what_the_environment_names";
    [program.to_str().expect("a plain path"), "--exact", test, "--ignored", "--nocapture"].map(str::to_owned)
}

/// The second start below `sbx unshare`; `tier` is one of `--id-tier`.
fn unpacker<'w>(world: &'w Sbx, archive: &Path, tier: &str) -> Run<'w> {
    let key = if tier == "single" { "single" } else { "range-test" };
    world
        .sbx(["unshare", "--id-tier", tier])
        .args(second_start())
        .env(ARCHIVE, archive)
        .env(STORE, layers(world))
        .env(KEY, key)
}

fn try_unpack(world: &Sbx, archive: &Path, tier: &str) -> Finished {
    unpacker(world, archive, tier).env(PACK, world.work().join("packed.tar")).finish()
}

fn unpack_as(world: &Sbx, archive: &Path, tier: &str) -> PathBuf {
    let said = try_unpack(world, archive, tier).code_is(0).stdout();
    let layer = said.lines().find_map(|line| line.strip_prefix("LAYER "));
    PathBuf::from(layer.unwrap_or_else(|| panic!("no layer in {said}")))
}

fn unpack(world: &Sbx, archive: &Path) -> PathBuf {
    unpack_as(world, archive, "range")
}

/// Runs a script as root of the user namespace, in `directory`.
fn inside(world: &Sbx, directory: &Path, script: &str) -> String {
    world.sbx(["unshare", "sh", "-euc", script]).directory(directory).succeed()
}

/// What a tree of files with everything in it is made by.
const EVERYTHING: &str = r#"
    umask 022
    mkdir -p etc var/mail usr/bin usr/lib/deep/deeper tmp
    chmod 1777 tmp; chown 0:8 var/mail; chmod 2775 var/mail
    echo root:x:0:0 > etc/passwd; echo secret > etc/shadow; chown 0:42 etc/shadow; chmod 640 etc/shadow
    echo su > usr/bin/su; chmod 4755 usr/bin/su
    echo wall > usr/bin/wall; chown 0:5 usr/bin/wall; chmod 2755 usr/bin/wall
    echo ping > usr/bin/ping; setcap cap_net_raw=ep usr/bin/ping
    echo owned > usr/owned; chown 65534:65533 usr/owned; setcap cap_net_bind_service,cap_sys_admin+eip usr/owned
    setfattr -n user.test -v 'a value' etc/passwd; setfattr -n user.dir -v 0x0a000a3d etc
    ln etc/passwd etc/passwd-; ln -s ../etc/passwd usr/link; chown -h 33:34 usr/link; ln usr/link usr/link2
    mkfifo -m 622 usr/fifo; chown 7:7 usr/fifo
    touch -d '2001-02-03 04:05:06.123456789' etc/passwd
    touch -h -d '1999-01-01 00:00:00.5' usr/link
    touch -d '1969-12-31 23:59:58' usr/fifo
    truncate -s 8M usr/sparse; echo middle | dd of=usr/sparse bs=1 seek=4000000 conv=notrunc 2>/dev/null
    long=usr/lib/$(printf 'n%.0s' $(seq 150)); mkdir $long; echo long > $long/$(printf 'f%.0s' $(seq 200))
    ln -s $long/$(printf 'f%.0s' $(seq 200)) usr/longlink
    echo nothing > usr/lib/deep/deeper/f; chmod 0 usr/lib/deep/deeper/f; mkdir -m 0 usr/shut; mkdir -m 555 usr/ro
    touch -d @1000000000.25 tmp var var/mail usr/shut usr/ro etc usr/lib/deep usr/lib usr .
"#;

/// Everything of a tree that an archive keeps.
const PICTURE: &str = r#"
    find . -printf '%P %y %m %U %G %n %T@ %l' \( -type f -printf ' %s\n' -o -printf '\n' \) | LC_ALL=C sort
    find . -type f -exec sha256sum {} + | LC_ALL=C sort
    getfattr -R -P -d -m '^(user\.(test|dir)|security\.)' -e hex . 2>/dev/null | LC_ALL=C sort
    find . -type f -name sparse -size +7M -printf '%b\n' | { read -r blocks; if [ "$blocks" -lt 100 ]; then echo holes; fi; }
"#;

#[test]
fn layers_are_what_was_packed_in_every_format() {
    for program in ["setcap", "setfattr"] {
        require(program);
    }
    let world = sbx();
    let tree = world.work().join("tree");
    fs::create_dir(&tree).expect("a directory");
    inside(&world, &tree, EVERYTHING);
    let wanted = inside(&world, &tree, PICTURE);
    assert!(wanted.contains("security.capability=0x") && wanted.ends_with("holes"), "{wanted}");
    for format in [
        "--format=gnu",
        "--format=gnu --sparse",
        "--format=pax",
        "--format=pax --sparse --sparse-version=0.0",
        "--format=pax --sparse --sparse-version=0.1",
        "--format=pax --sparse --sparse-version=1.0",
    ] {
        let pax = format.contains("pax");
        let attributes = if pax { "--xattrs --xattrs-include='*'" } else { "" };
        let pack = format!("tar {format} {attributes} --numeric-owner -cf ../everything.tar .");
        inside(&world, &tree, &pack);
        let layer = unpack(&world, &world.work().join("everything.tar"));
        let found = inside(&world, &layer, PICTURE);
        let keep = |text: &str| -> Vec<String> {
            // GNU's format has neither attributes nor parts of seconds, and archives without a map no holes.
            text.lines()
                .filter(|line| pax || !line.contains('=') && !line.starts_with("# file") && !line.is_empty())
                .filter(|line| format.contains("--sparse") || *line != "holes")
                .map(|line| if pax { line.to_owned() } else { without_fraction(line) })
                .collect()
        };
        assert_eq!(keep(&found), keep(&wanted), "{format}");
        // Packed again, other programs read the same.
        let again = "mkdir again; tar -C again --warning=no-timestamp --xattrs --xattrs-include='*' --numeric-owner -xpf packed.tar";
        inside(&world, &world.work(), again);
        let found = inside(&world, &world.work().join("again"), PICTURE);
        assert_eq!(keep_but_root(&keep(&found)), keep_but_root(&keep(&wanted)), "{format}, packed again");
        inside(&world, &world.work(), "rm -r again");
        inside(&world, world.directory(), "rm -r layers-of-the-test");
    }
    inside(&world, &world.work(), "rm -r tree");
}

/// An archive of a layer says nothing of the root itself.
fn keep_but_root(lines: &[String]) -> &[String] {
    &lines[1..]
}

/// `1000000000.2500000000` without what follows the point.
fn without_fraction(line: &str) -> String {
    let cut = |word: &str| match word.split_once('.') {
        Some((whole, fraction))
            if fraction.len() == 10
                && whole.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            whole.to_owned()
        }
        _ => word.to_owned(),
    };
    line.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_compression_is_recognised() {
    let world = sbx();
    world.file("tree/f", "content");
    let tree = world.work().join("tree");
    for (program, name) in
        [("gzip", "t.gz"), ("xz", "t.xz"), ("bzip2", "t.bz2"), ("zstd", "t.zst"), ("cat", "t")]
    {
        require(program);
        let script = format!("tar -c . | {program} > ../{name}");
        world.program("sh").args(["-euc", &script]).directory(&tree).succeed();
        let layer = unpack(&world, &world.work().join(name));
        assert_eq!(inside(&world, &layer, "cat f"), "content", "{program}");
    }
}

#[test]
fn an_owner_outside_of_the_map_is_named_with_what_mends_it() {
    let world = sbx();
    let archive = world.work().join("t.tar");
    world.file("tree/d/file", "");
    let script = "tar -c --owner=:4000000000 --group=:0 -f ../t.tar d/file";
    world.program("sh").args(["-euc", script]).directory(world.work().join("tree")).succeed();
    let refused = try_unpack(&world, &archive, "range").code_is(3);
    let _ = refused.stderr_has("`d/file`").stderr_has("4000000000").stderr_has("--id-tier single");
    assert!(names(&world).is_empty());
    // Where owners are recorded, it is one more number.
    let layer = unpack_as(&world, &archive, "single");
    let recorded = "getfattr --only-values -n user.containers.override_stat d/file";
    assert_eq!(
        world.program("sh").args(["-euc", recorded]).directory(&layer).succeed(),
        "4000000000:0:0644:file"
    );
}

/// What fuse-overlayfs itself makes of recorded owners (`xattr_permissions=2`).
#[test]
fn recorded_owners_are_in_the_format_of_other_engines() {
    require("fuse-overlayfs");
    let world = sbx();
    let tree = world.work().join("tree");
    fs::create_dir(&tree).expect("a directory");
    let script = "mkdir d; echo 1 > d/f; chown 33:34 d/f; chmod 4751 d/f; chown 8:12 d; chmod 2770 d; \
        tar --numeric-owner -cf ../t.tar .; rm -r d";
    inside(&world, &tree, script);
    let layer = unpack_as(&world, &world.work().join("t.tar"), "single");
    let script = format!(
        "mkdir upper work merged; fuse-overlayfs -o xattr_permissions=2,lowerdir={},upperdir=upper,workdir=work merged 2>/dev/null; \
         stat -c '%n %u %g %a' merged/d merged/d/f; umount merged; rm -r upper work merged",
        layer.display()
    );
    let script = format!("exec unshare -m --propagation private sh -euc \"{script}\"");
    assert_eq!(inside(&world, &world.work(), &script), "merged/d 8 12 2770\nmerged/d/f 33 34 4751");
}

#[test]
fn a_single_id_keeps_every_owner_for_other_programs_to_read() {
    let world = sbx();
    let tree = world.work().join("tree");
    fs::create_dir(&tree).expect("a directory");
    let script = "mkdir -p d; echo 1 > d/f; chown 33:34 d/f; chmod 4751 d/f; chown 8:12 d; chmod 2770 d; \
        ln -s f d/l; chown -h 100:101 d/l; ln d/f d/h; mkfifo d/p; chown 1:2 d/p; ln -s x plain; \
        tar --format=pax --sort=name --numeric-owner -cf ../t.tar *; rm -r *";
    inside(&world, &tree, script);
    let list = "tar --numeric-owner -tvf";
    unpack_as(&world, &world.work().join("t.tar"), "single");
    let wanted =
        world.program("sh").args(["-euc", &format!("{list} t.tar")]).directory(world.work()).succeed();
    let found =
        world.program("sh").args(["-euc", &format!("{list} packed.tar")]).directory(world.work()).succeed();
    assert_eq!(found, wanted);
    assert!(wanted.contains("-rwsr-x--x 33/34") && wanted.contains("lrwxrwxrwx 100/101"), "{wanted}");
}

#[test]
fn hostile_archives_of_real_programs_are_refused_and_leave_nothing() {
    let world = sbx();
    world.file("tree/victim", "untouched");
    let tree = world.work().join("tree");
    let script = "tar -P -cf ../t.tar --transform 's,^victim,../../../../../../victim,' victim";
    world.program("sh").args(["-euc", script]).directory(&tree).succeed();
    let refused = try_unpack(&world, &world.work().join("t.tar"), "range").code_is(3);
    let _ = refused.stderr_has("`../../../../../../victim`").stderr_has("leads out of the layer");
    assert!(names(&world).is_empty());
}

/// Runs the second start on a file system of its own, mounted in the user namespace, then `look`.
fn unpack_on(world: &Sbx, mount: &str, archive: &Path, key: &str, look: &str) -> Finished {
    let start = second_start().join(" ");
    let script = format!(
        "mkdir -p place; mount -t {mount} none place; export UNPACK_STORE=$PWD/place/store; \
         code=0; {start} || code=$?; cd place/store/layers/{key}; {look}; exit $code"
    );
    world
        .sbx(["unshare", "unshare", "-m", "--propagation", "private", "sh", "-euc", &script])
        .env(ARCHIVE, archive)
        .env(KEY, key)
        .finish()
}

#[test]
fn a_full_disk_leaves_no_half_layer() {
    let world = sbx();
    world.file("tree/small", "1");
    world.file("tree/large", vec![b'x'; 4 << 20]);
    world.program("tar").args(["-C", "tree", "-cf", "t.tar", "small", "large"]).succeed();
    let archive = world.work().join("t.tar");
    // On one processor the start before it leaves a line unended.
    let look = "echo; echo LEFT; ls -A; df --output=used . | tail -1";
    let full = unpack_on(&world, "tmpfs -o size=1m", &archive, "range-test", look).code_is(3);
    let full = full.stderr_has("`large`").stderr_has("No space left on device").stderr_has("--root");
    let left: Vec<String> =
        full.stdout().lines().skip_while(|line| *line != "LEFT").map(str::to_owned).collect();
    assert_eq!(left.iter().map(|line| line.trim()).collect::<Vec<_>>(), ["LEFT", "0"]);
    // Too many files for the file system, instead of too many bytes.
    let many: Vec<String> = (0..300).map(|number| format!("many/{number}")).collect();
    for file in &many {
        world.file(file, "");
    }
    world.program("tar").args(["-cf", "many.tar", "many"]).succeed();
    let archive = world.work().join("many.tar");
    let full = unpack_on(&world, "tmpfs -o nr_inodes=200", &archive, "range-test", "echo; ls -A | wc -l");
    let _ = full.code_is(3).stderr_has("No space left on device").stdout_has("\n0\n");
}

#[test]
fn a_file_system_of_nosuid_and_nodev_takes_everything() {
    for program in ["setcap", "getcap"] {
        require(program);
    }
    let world = sbx();
    let script = "mkdir tree; cd tree; echo 1 > f; chmod 4755 f; cp f c; setcap cap_net_raw=ep c; touch .wh.gone; \
        tar --format=pax --xattrs --xattrs-include='*' -cf ../t.tar .; cd ..; rm -r tree";
    inside(&world, &world.work(), script);
    let look = "cd */fs; stat -c '%n %a %F' f gone; getcap c";
    let mount = "tmpfs -o nosuid,nodev,noexec";
    let done = unpack_on(&world, mount, &world.work().join("t.tar"), "range-test", look).code_is(0);
    let _ = done.stdout_has("f 4755 regular file\ngone 0 character special file\nc cap_net_raw=ep\n");
}

/// ramfs has no extended attributes, as some network file systems.
#[test]
fn where_files_take_no_attributes_nothing_is_lost() {
    for program in ["setcap", "fuse-overlayfs"] {
        require(program);
    }
    let world = sbx();
    let script = "mkdir -p tree/opaque; cd tree; echo 1 > opaque/new; touch opaque/.wh..wh..opq .wh.gone; echo 1 > c; \
        chown 33:34 c; setcap cap_net_raw=ep c; echo 2 > plain; setfattr -n user.mine -v kept plain; \
        tar --format=pax --xattrs --xattrs-include='*' --numeric-owner -cf ../t.tar *  .wh.gone; cd ..; rm -r tree";
    inside(&world, &world.work(), script);
    let look = "cp -a */fs ../../../../copied";
    let single = unpack_on(&world, "ramfs", &world.work().join("t.tar"), "single-sidecar", look).code_is(0);
    let said = single.stdout();
    for line in [
        "OWNER c 33:34:0644:file 1",
        "OWNER plain 0:0:0644:file 1",
        "FACTS LayerFacts { size: 6, entries: 6, opaque: false, whiteout_files: true }",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // Such a layer is for fuse-overlayfs, which knows the files.
    let below = world.work().join("below");
    for hidden in ["gone", "opaque/old"] {
        world.file(&format!("below/{hidden}"), "");
    }
    let run = world.run(["--rm", "--net", "none", "--storage-driver", "fuse-overlayfs", "--rootfs"]);
    let run = run.arg(rootfs()).arg("--rootfs").arg(below).arg("--rootfs").arg(world.work().join("copied"));
    run.args(["sh", "-c", "ls -d /gone; ls -A /opaque"])
        .expect_code(0)
        .stdout_is("new\n")
        .stderr_has("/gone");
    inside(&world, &world.work(), "rm -r copied");
}

/// An archive that is being written as it is read, and its digest.
fn slow_archive(world: &Sbx) -> (PathBuf, Vec<u8>) {
    world.file("tree/first", "1");
    world.file("tree/second", vec![b'2'; 3 << 20]);
    world.program("tar").args(["-C", "tree", "-cf", "t.tar", "first", "second"]).succeed();
    let pipe = world.work().join("pipe");
    world.program("mkfifo").arg(&pipe).succeed();
    (pipe, fs::read(world.work().join("t.tar")).expect("the archive"))
}

#[test]
fn who_waits_takes_over_from_who_was_killed() {
    let mut world = sbx();
    world.allow_leftovers();
    let (pipe, bytes) = slow_archive(&world);
    let digest = Digest::of(&bytes);
    let first = unpacker(&world, &pipe, "range").env(DIFF_ID, digest.as_str()).spawn();
    let mut writer = fs::File::options().write(true).open(&pipe).expect("the pipe has a reader");
    writer.write_all(&bytes[..2 << 20]).expect("it reads");
    wait_until(|| names(&world).iter().any(|name| name.starts_with(".new-")));
    let whole = world.work().join("t.tar");
    let mut second = unpacker(&world, &whole, "range").env(DIFF_ID, digest.as_str()).spawn();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(second.is_running() && !second.stdout_now().contains("MAKING"), "it did not wait");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = first.finish().code_is(137);
    let second = second.finish().code_is(0).stdout_has("MAKING");
    let layer = second.stdout().lines().find_map(|line| line.strip_prefix("LAYER ").map(PathBuf::from));
    assert_eq!(inside(&world, &layer.expect("a layer"), "cat first; stat -c ' %s' second"), "1 3145728");
    assert_eq!(names(&world), [digest.hex()]);
}

#[test]
fn a_layer_is_made_once_for_all_who_want_it() {
    let world = sbx();
    let (_, bytes) = slow_archive(&world);
    let digest = Digest::of(&bytes);
    let archive = world.work().join("t.tar");
    let all: Vec<_> =
        (0..12).map(|_| unpacker(&world, &archive, "range").env(DIFF_ID, digest.as_str()).spawn()).collect();
    let said: Vec<String> = all.into_iter().map(|one| one.finish().code_is(0).stdout()).collect();
    assert_eq!(said.iter().filter(|text| text.contains("MAKING")).count(), 1);
    assert_eq!(said.iter().filter(|text| text.contains("PRESENT")).count(), 11);
    assert_eq!(names(&world), [digest.hex()]);
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it never came");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Layers of an image, as other engines pack them: `base`, and `change` above it.
fn image(world: &Sbx) -> (PathBuf, PathBuf) {
    for program in ["busybox", "setcap", "setfattr"] {
        require(program);
    }
    let tree = |name: &str, script: &str| {
        let tree = world.work().join(name);
        fs::create_dir(&tree).expect("a directory");
        inside(world, &tree, script);
        let pack =
            format!("tar --format=pax --xattrs --xattrs-include='*' --numeric-owner -cf ../{name}.tar *");
        inside(world, &tree, &pack);
        inside(world, &world.work(), &format!("rm -r {name}"));
        unpack(world, &world.work().join(format!("{name}.tar")))
    };
    let base = tree(
        "base",
        "mkdir -p opt/gone opt/opaque/deep opt/again opt/merged; cd opt; \
         echo 1 > file; echo 1 > gone/f; echo 1 > opaque/old; echo 1 > opaque/deep/old; echo 1 > again/old; \
         echo 1 > merged/old; echo 1 > merged/both; echo 1 > removed; echo linked > one; ln one two; \
         mkdir priv; cp $(command -v busybox) priv/busybox; setcap cap_net_raw=ep priv/busybox; chown 33:34 file; chmod 4711 file; mkfifo fifo; \
         setfattr -n user.mine -v kept file",
    );
    let change = tree(
        "change",
        "mkdir -p opt/opaque/deep opt/again opt/merged; cd opt; touch .wh.gone .wh.removed .wh.again opaque/.wh..wh..opq; \
         echo 2 > opaque/new; echo 2 > again/new; echo 2 > merged/new; echo 2 > merged/both",
    );
    (base, change)
}

const LOOK: &str = "cd /opt; ls -A; ls -A opaque again merged; cat merged/both; \
    for gone in gone gone/f removed opaque/old opaque/deep/old again/old; do \
        if [ -e $gone ]; then echo $gone is there; fi; done; \
    stat -c '%u %g %a' file; stat -c '%h %i' one two | uniq | wc -l; test -p fifo && cat one two";

const SEEN: &str = "again\nfifo\nfile\nmerged\none\nopaque\npriv\ntwo\n\
    again:\nnew\n\nmerged:\nboth\nnew\nold\n\nopaque:\ndeep\nnew\n2\n33 34 4711\n1\nlinked\nlinked\n";

fn both_drivers_agree(driver: &str) {
    if driver == "fuse-overlayfs" {
        require("fuse-overlayfs");
    }
    let world = sbx();
    let (base, change) = image(&world);
    let run = || {
        let run = world.run([
            "--rm",
            "--net",
            "none",
            "--storage-driver",
            driver,
            "--user",
            "1000:1000",
            "--rootfs",
        ]);
        run.arg(rootfs()).arg("--rootfs").arg(&base).arg("--rootfs").arg(&change)
    };
    let _ = run().args(["sh", "-c", LOOK]).expect_code(0).stderr_is("").stdout_is(SEEN);
    // CAP_NET_RAW is the bit 13 (capability.h).
    let capabilities = ["/opt/priv/busybox", "grep", "CapEff", "/proc/self/status"];
    let _ = run().args(capabilities).expect_code(0).stderr_is("").stdout_is("CapEff:\t0000000000002000\n");
}

#[test]
fn whiteouts_opaque_directories_and_links_on_overlay() {
    both_drivers_agree("overlay");
}

#[test]
fn whiteouts_opaque_directories_and_links_on_fuse_overlayfs() {
    both_drivers_agree("fuse-overlayfs");
}
