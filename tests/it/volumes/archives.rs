//! `sbx volume export` and `import`.

use std::fs;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::{directory, in_image, odd, parts, shell};
use crate::harness::{Sbx, sbx};

/// A tar with entries that the crate itself would refuse to make.
fn archive(entries: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).expect("a Vec takes all");
    }
    builder.into_inner().expect("a Vec takes all")
}

fn files(world: &Sbx, volume: &str) -> Vec<String> {
    let entries = fs::read_dir(directory(world, volume).join("_data")).expect("a volume");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

#[test]
fn a_volume_goes_out_and_comes_back_with_owners() {
    let world = odd();
    let look = "cd /odd; stat -c '%n %u:%g %a %F %Y' . [^cf]*; readlink symlink";
    let expected = in_image(&world, &["-v", "old:/odd"], look).succeed();
    let tar = world.work().join("old.tar");
    world.sbx(["volume", "export", "-o"]).arg(&tar).arg("old").expect_code(0).stdout_is("");
    world.program("gzip").arg("-k").arg(&tar).succeed();
    let piped = world.sbx(["volume", "export", "old"]).expect_code(0);
    assert_eq!(piped.stdout_bytes(), fs::read(&tar).expect("a file"));
    for (source, name) in [(tar.clone(), "plain"), (tar.with_extension("tar.gz"), "packed")] {
        world.sbx(["volume", "create", name]).succeed();
        world.sbx(["volume", "import", name]).arg(source).expect_code(0).stdout_is("");
        // It is not filled from the image any more.
        let mount = format!("{name}:/odd");
        assert_eq!(
            in_image(&world, &["-v", &mount], look).succeed().lines().skip(1).collect::<Vec<_>>(),
            expected.lines().skip(1).collect::<Vec<_>>()
        );
    }
    world.sbx(["volume", "create", "third"]).succeed();
    world.sbx(["volume", "import", "third", "-"]).stdin(fs::read(&tar).expect("a file")).expect_code(0);
    assert!(files(&world, "third").contains(&"setuid".to_owned()));
}

#[test]
fn an_import_goes_over_what_is_there() {
    let world = sbx();
    shell(
        &world,
        &["-v", "v:/v"],
        "echo old >/v/both; echo kept >/v/own; chown 33:33 /v/both; mkdir /v/d; echo x >/v/d/x",
    )
    .succeed();
    let tar = archive(&[
        ("both", EntryType::Regular, "", b"new"),
        ("d/y", EntryType::Regular, "", b"y"),
        // No layer: these are names like any other.
        (".wh.own", EntryType::Regular, "", b""),
        (".wh..wh..opq", EntryType::Regular, "", b""),
    ]);
    world.sbx(["volume", "import", "v", "-"]).stdin(tar).expect_code(0).stderr_is("");
    let seen =
        shell(&world, &["-v", "v:/v"], "cat /v/both /v/own /v/d/x /v/d/y; ls -A /v; stat -c %u /v/both")
            .succeed();
    assert_eq!(seen, "newkept\nx\ny.wh..wh..opq\n.wh.own\nboth\nd\nown\n0");
}

#[test]
fn a_hostile_archive_stays_in_the_volume() {
    let world = sbx();
    let outside = world.file("dear", "dear");
    let outside = outside.to_str().expect("text");
    world.sbx(["volume", "create", "v"]).succeed();
    for entries in [
        &[("../../../dear", EntryType::Regular, "", &b"evil"[..])][..],
        &[("link", EntryType::Symlink, outside, b""), ("link", EntryType::Regular, "", b"evil")],
        &[
            ("up", EntryType::Symlink, "../../../../../..", b""),
            ("up/tmp/evil-of-sbx", EntryType::Regular, "", b"evil"),
        ],
        &[("hard", EntryType::Link, outside, b"")],
        &[("../volume.json", EntryType::Regular, "", b"evil")],
    ] {
        let _ = world.sbx(["volume", "import", "v", "-"]).stdin(archive(entries)).finish();
        assert_eq!(fs::read_to_string(outside).expect("it is there"), "dear");
        assert!(!Path::new("/tmp/evil-of-sbx").exists());
        assert_eq!(world.sbx(["volume", "inspect", "-f", "{{.Name}}", "v"]).succeed(), "v");
    }
    let device = archive(&[("null", EntryType::Char, "", b""), ("after", EntryType::Regular, "", b"x")]);
    let _ = world
        .sbx(["volume", "import", "v", "-"])
        .stdin(device)
        .expect_code(0)
        .stderr_has("the device `null` is left out");
    assert!(files(&world, "v").contains(&"after".to_owned()));
    for broken in [&b"no tar at all"[..], b"\x1f\x8b\x08cut"] {
        let _ = world
            .sbx(["volume", "import", "v", "-"])
            .stdin(broken)
            .expect_code(125)
            .stderr_has("cannot import into the volume `v`");
    }
    assert_eq!(parts(&world), 0);
}

#[test]
fn what_cannot_be_exported_or_imported_is_told() {
    let world = sbx();
    let _ = world.sbx(["volume", "export", "none"]).expect_code(125).stderr_has("no such volume `none`");
    let _ = world
        .sbx(["volume", "import", "none", "-"])
        .stdin("")
        .expect_code(125)
        .stderr_has("no such volume `none`");
    world.sbx(["volume", "create", "-o", "type=tmpfs", "memory"]).succeed();
    let _ = world
        .sbx(["volume", "export", "memory"])
        .expect_code(125)
        .stderr_has("memory of each container's own");
    let _ =
        world.sbx(["volume", "import", "memory", "/nonexistent"]).expect_code(125).stderr_has("/nonexistent");
}
