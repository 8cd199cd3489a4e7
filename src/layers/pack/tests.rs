use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tar::EntryType;

use super::*;
use crate::layers::unpack::forge::{self, Forge, directory, entry, file, hard_link, symlink};
use crate::layers::unpack::{Keep, Limits, unpack};

fn packed(root: &Path, owners: &Owners, kind: Kind) -> Vec<u8> {
    let mut archive = Vec::new();
    let length = pack(
        &Source {
            root,
            kind,
            owners,
            leave_out: &BTreeSet::new(),
            opaque: None,
            removed: &[],
            times: crate::layers::pack::Times::Kept,
        },
        &mut archive,
    )
    .unwrap();
    assert_eq!(length, archive.len() as u64);
    archive
}

/// Unpacks and packs again.
fn again(archive: &[u8], keep: Keep) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::File::open(directory.path()).unwrap().into();
    let unpacked = unpack(root, &mut { archive }, keep, &Limits::default()).unwrap();
    packed(directory.path(), &unpacked.owners, Kind::Layer)
}

/// Everything, in the order in which it is packed.
fn sound() -> Vec<u8> {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let entries = [
        entry(EntryType::Regular, ".wh.gone").mode(0).time(0),
        directory("a/").owner(5, 6).mode(0o2770),
        entry(EntryType::Regular, "a/.wh..wh..opq").mode(0).time(0),
        entry(EntryType::Block, "a/block").device(8, 17).owner(0, 6).mode(0o660),
        entry(EntryType::Char, "a/char").device(1, 3).mode(0o666),
        file("a/f", "content").owner(33, 34).mode(0o4711).record("mtime", "1600000000.5"),
        hard_link("a/g", "a/f").owner(33, 34).mode(0o4711).record("mtime", "1600000000.5"),
        symlink("a/l", "../target").owner(7, 7).mode(0o777),
        entry(EntryType::Fifo, "a/p").mode(0o600).owner(1, 1),
        directory(format!("{}/", "d".repeat(150))),
        file(&long, "long"),
        file("x", "x".repeat(512)).record("SCHILY.xattr.user.test", b"a\nb\0"),
    ];
    entries.into_iter().fold(Forge::new(), Forge::add).end()
}

#[test]
fn what_was_unpacked_is_packed_to_the_same_bytes() {
    for keep in [Keep::Attributes, Keep::Index] {
        let archive = sound();
        let result = again(&archive, keep);
        let lines = |archive: &[u8]| -> Vec<String> {
            let mut entries = forge::entries(archive);
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            // Root's files are the caller's, who is root in a user namespace.
            let caller = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            for entry in entries.iter_mut().filter(|entry| (entry.uid, entry.gid) == caller) {
                (entry.uid, entry.gid) = (0, 0);
            }
            entries.iter().map(|entry| format!("{entry:?}")).collect()
        };
        for (found, wanted) in lines(&result).iter().zip(lines(&archive)) {
            assert_eq!(*found, wanted, "{keep:?}");
        }
        assert_eq!(lines(&result).len(), lines(&archive).len());
        assert_eq!(again(&result, keep), result, "{keep:?}");
    }
}

#[test]
fn a_whole_root_keeps_no_whiteouts_and_what_is_left_out_is_not_packed() {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::File::open(directory.path()).unwrap().into();
    let archive = [file("d/.wh.gone", ""), file("d/kept", ""), file("proc/x", ""), file("out", "")]
        .into_iter()
        .fold(Forge::new(), Forge::add)
        .end();
    let unpacked = unpack(root, &mut archive.as_slice(), Keep::Index, &Limits::default()).unwrap();
    let leave_out = BTreeSet::from([b"proc".to_vec(), b"out".to_vec()]);
    let source = Source {
        root: directory.path(),
        kind: Kind::Root,
        owners: &unpacked.owners,
        leave_out: &leave_out,
        opaque: None,
        removed: &[],
        times: crate::layers::pack::Times::Kept,
    };
    let mut result = Vec::new();
    pack(&source, &mut result).unwrap();
    let mut archive = tar::Archive::new(result.as_slice());
    let entries: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            format!("{} {:?}", entry.path().unwrap().display(), entry.header().entry_type())
        })
        .collect();
    assert_eq!(entries, ["d/ Directory", "d/gone Char", "d/kept Regular"]);
}

#[test]
fn holes_are_packed_as_holes() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let sparse = fs::File::create(directory.path().join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(b"middle", 5_000_000).unwrap();
    fs::File::create(directory.path().join("empty")).unwrap().set_len(3 << 20).unwrap();
    let archive = packed(directory.path(), &Owners::default(), Kind::Root);
    assert!(archive.len() < 64 << 10, "{} bytes", archive.len());
    let target = tempfile::tempdir().unwrap();
    let root = fs::File::open(target.path()).unwrap().into();
    unpack(root, &mut archive.as_slice(), Keep::Index, &Limits::default()).unwrap();
    for name in ["sparse", "empty"] {
        let (wanted, found) = (directory.path().join(name), target.path().join(name));
        assert!(fs::read(wanted).unwrap() == fs::read(&found).unwrap(), "{name} differs");
        assert!(found.metadata().unwrap().blocks() < 100);
    }
    // GNU tar reads the same.
    let output = std::process::Command::new("tar")
        .args(["-xf", "-", "-C"])
        .arg(target.path())
        .stdin({
            use std::io::{Seek, Write};
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&archive).unwrap();
            file.rewind().unwrap();
            file
        })
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(
        fs::read(target.path().join("sparse")).unwrap() == fs::read(directory.path().join("sparse")).unwrap()
    );
}

#[test]
fn sockets_are_left_out_and_large_numbers_fit() {
    let directory = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    fs::write(directory.path().join("f"), "").unwrap();
    fs::set_permissions(directory.path().join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut owners = Owners::default();
    let recorded =
        Recorded { uid: 4_000_000_000, gid: 3_000_000, mode: libc::S_IFREG | 0o600, device: (0, 0) };
    owners.put(b"f".to_vec(), owners::Line { recorded, xattrs: vec![] });
    let archive = packed(directory.path(), &owners, Kind::Layer);
    let target = tempfile::tempdir().unwrap();
    let root = fs::File::open(target.path()).unwrap().into();
    let unpacked = unpack(root, &mut archive.as_slice(), Keep::Index, &Limits::default()).unwrap();
    assert_eq!(unpacked.facts.entries, 1);
    assert_eq!(unpacked.owners, owners);
}

#[test]
fn an_archive_that_cannot_be_written_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "x").unwrap();
    let source = Source {
        root: directory.path(),
        kind: Kind::Root,
        owners: &Owners::default(),
        leave_out: &BTreeSet::new(),
        opaque: None,
        removed: &[],
        times: crate::layers::pack::Times::Kept,
    };
    let mut full = fs::File::options().write(true).open("/dev/full").unwrap();
    let error = pack(&source, &mut full).unwrap_err().to_string();
    assert!(error.contains("cannot write the archive") && error.contains("No space"), "{error}");
}

/// Such an archive would not be unpacked either.
#[test]
fn a_tree_deeper_than_layers_may_be_is_refused() {
    let refused = || {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("d/".repeat(1000))).unwrap();
        let (owners, leave_out) = (Owners::default(), BTreeSet::new());
        let source = Source {
            root: directory.path(),
            kind: Kind::Root,
            owners: &owners,
            leave_out: &leave_out,
            opaque: None,
            removed: &[],
            times: crate::layers::pack::Times::Kept,
        };
        pack(&source, &mut std::io::sink()).unwrap_err().to_string()
    };
    // As the stack of a process.
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(refused).unwrap();
    let error = thread.join().unwrap();
    assert!(error.contains("500 directories deep"), "{error}");
}

/// An archive that cuts off a file as soon as something is written to it.
struct Cutting {
    file: fs::File,
    bytes: Vec<u8>,
}

impl Write for Cutting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.set_len(1000)?;
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_loses_its_end_meanwhile_ends_with_zeros_or_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (path, owners, nothing) = (directory.path().join("f"), Owners::default(), BTreeSet::new());
    let parent: OwnedFd = fs::File::open(directory.path()).unwrap().into();
    let pack_with = |cut_off| {
        fs::write(&path, vec![b'x'; 10_000]).unwrap();
        let mut archive =
            Cutting { file: fs::File::options().write(true).open(&path).unwrap(), bytes: Vec::new() };
        let rules = Rules {
            kind: Kind::Root,
            owners: &owners,
            leave_out: &nothing,
            opaque: None,
            mounts: Mounts::Any,
            times: Times::Kept,
            cut_off,
        };
        let packed = Packer::new(rules, &mut archive).directory(&parent, b"");
        (packed, archive.bytes)
    };
    let (packed, archive) = pack_with(CutOff::Zeros);
    packed.unwrap();
    let mut data = vec![0; 10_000_usize.next_multiple_of(BLOCK)];
    data[..1000].fill(b'x');
    assert!(archive.ends_with(&data), "{} bytes", archive.len());
    let (packed, _) = pack_with(CutOff::Error);
    assert!(packed.unwrap_err().to_string().contains("it became shorter while it was being read"));
}
