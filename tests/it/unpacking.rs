//! Archives become layers in the user namespace of the containers, and both drivers read the same layer.
//!
//! The archives are GNU tar's; a second start of this very program unpacks them, below `sbx unshare`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sbx::layers::compression::decompress_detected;
use sbx::layers::owners::Owners;
use sbx::layers::pack::{Kind, Source, pack};
use sbx::layers::store::{LayerStore, MapKey, unpack_unknown};
use sbx::layers::unpack::Limits;

use crate::harness::{Finished, Sbx, require, rootfs, sbx};

const ARCHIVE: &str = "UNPACK_ARCHIVE";
const STORE: &str = "UNPACK_STORE";
const KEY: &str = "UNPACK_KEY";
const PACK: &str = "UNPACK_AND_PACK";

/// The second start: unpacks what the environment names.
#[test]
#[ignore = "a part of other tests, which start it in a user namespace"]
fn unpacks_what_the_environment_names() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let key = MapKey::from_record(&variable(KEY)).expect("a key");
    let store = LayerStore::new(Path::new(&variable(STORE)), &key);
    let archive = fs::File::open(variable(ARCHIVE)).expect("the archive");
    let (_, mut archive) = decompress_detected(archive).expect("a known compression");
    match unpack_unknown(&store, &mut *archive, &Limits::default()) {
        Ok((diff_id, _)) => {
            println!("\nLAYER {}", store.path(&diff_id).display());
            if let Some(target) = std::env::var_os(PACK) {
                let owners = Owners::load(&store.directory(&diff_id)).expect("the layer's index");
                let (root, leave_out) = (store.path(&diff_id), BTreeSet::new());
                let source =
                    Source { root: &root, kind: Kind::Layer, owners: &owners, leave_out: &leave_out };
                let mut target = fs::File::create(target).expect("a file");
                pack(&source, &mut target).expect("it is packed");
            }
        }
        Err(error) => {
            eprint!("{}", error.report());
            std::process::exit(3);
        }
    }
    let mut rest = Vec::new();
    archive.read_to_end(&mut rest).expect("the rest");
    assert!(rest.is_empty(), "the archive was not read to its end");
}

/// Runs the second start; `tier` is one of `--id-tier`.
fn try_unpack(world: &Sbx, archive: &Path, tier: &str) -> Finished {
    let key = if tier == "single" { "single" } else { "range-test" };
    let program = std::env::current_exe().expect("this program has a path");
    world
        .sbx(["unshare", "--id-tier", tier])
        .arg(program)
        .args(["--exact", "unpacking::unpacks_what_the_environment_names", "--ignored", "--nocapture"])
        .env(ARCHIVE, archive)
        .env(STORE, world.directory().join("layers-of-the-test"))
        .env(KEY, key)
        .env(PACK, world.work().join("packed.tar"))
        .finish()
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
    let left = fs::read_dir(world.directory().join("layers-of-the-test/layers/range-test")).expect("a store");
    assert_eq!(left.count(), 0);
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
    let left = fs::read_dir(world.directory().join("layers-of-the-test/layers/range-test")).expect("a store");
    assert_eq!(left.count(), 0);
}

/// Layers of an image, as other engines pack them: `base`, and `change` above it.
fn image(world: &Sbx) -> (PathBuf, PathBuf) {
    for program in ["setcap", "setfattr"] {
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
         echo cap > cap; setcap cap_net_raw=ep cap; chown 33:34 file; chmod 4711 file; mkfifo fifo; \
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

const SEEN: &str = "again\ncap\nfifo\nfile\nmerged\none\nopaque\ntwo\n\
    again:\nnew\n\nmerged:\nboth\nnew\nold\n\nopaque:\ndeep\nnew\n2\n33 34 4711\n1\nlinked\nlinked\n";

fn both_drivers_agree(driver: &str) {
    if driver == "fuse-overlayfs" {
        require("fuse-overlayfs");
    }
    let world = sbx();
    let (base, change) = image(&world);
    let run = world.run(["--rm", "--net", "none", "--storage-driver", driver, "--rootfs"]);
    let run = run.arg(rootfs()).arg("--rootfs").arg(&base).arg("--rootfs").arg(&change);
    run.args(["sh", "-c", LOOK]).expect_code(0).stderr_is("").stdout_is(SEEN);
}

#[test]
fn whiteouts_opaque_directories_and_links_on_overlay() {
    both_drivers_agree("overlay");
}

#[test]
fn whiteouts_opaque_directories_and_links_on_fuse_overlayfs() {
    both_drivers_agree("fuse-overlayfs");
}
