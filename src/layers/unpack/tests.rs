//! What archives become, and what they do not reach. All owners are in the index here, so that the tests hold
//! for every user; inodes of other owners need a user namespace (tests/it/unpacking.rs).

mod hostile;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::forge::{Forge, Forged, directory, entry, file, hard_link, symlink};
use super::{Keep, LayerFacts, Limits, Unpacked, unpack};
use crate::error::Result;
use crate::image::digest::Digest;

/// A directory with a layer's root in it and a file beside that nobody may touch.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self::filled(tempfile::tempdir().unwrap())
    }

    fn filled(directory: tempfile::TempDir) -> Self {
        let place = Self(directory);
        fs::create_dir(place.root()).unwrap();
        fs::create_dir(place.outside()).unwrap();
        fs::write(place.outside().join("file"), "untouched").unwrap();
        place
    }

    /// On a file system whose files may have any size.
    fn in_memory() -> Self {
        Self::filled(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("fs")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn unpack_with(&self, archive: &[u8], keep: Keep, limits: &Limits) -> Result<Unpacked> {
        let root = fs::File::open(self.root()).unwrap().into();
        unpack(root, &mut { archive }, keep, limits)
    }

    fn unpack(&self, entries: impl IntoIterator<Item = Forged>) -> Result<Unpacked> {
        let archive = entries.into_iter().fold(Forge::new(), Forge::add).end();
        let result = self.unpack_with(&archive, Keep::Index, &Limits::default());
        self.nothing_left_the_layer();
        result
    }

    fn facts(&self, entries: impl IntoIterator<Item = Forged>) -> LayerFacts {
        self.unpack(entries).unwrap_or_else(|error| panic!("{error}")).facts
    }

    fn refusal(&self, entries: impl IntoIterator<Item = Forged>) -> String {
        match self.unpack(entries) {
            Ok(_) => panic!("it was unpacked"),
            Err(error) => error.to_string(),
        }
    }

    fn nothing_left_the_layer(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.0.path()), ["fs", "outside"]);
        assert_eq!(names(&self.outside()), ["file"]);
        let file = self.outside().join("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "untouched");
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7000), (1, 0));
        assert!(metadata.mtime() > 1_000_000, "its time was set");
        assert_eq!(fs::metadata(self.outside()).unwrap().mode() & 0o7000, 0);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        self.path(name).symlink_metadata().unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let metadata = self.stat(name);
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    fn is_opaque(&self, name: &str) -> bool {
        super::whiteouts::OPAQUE_MARKS.iter().all(|mark| {
            let mut value = [0; 8];
            rustix::fs::getxattr(self.path(name), *mark, &mut value[..])
                .is_ok_and(|length| &value[..length] == b"y")
        })
    }
}

#[test]
fn files_have_their_content_mode_and_time() {
    let place = Place::new();
    let facts = place.facts([
        directory("d/").mode(0o2750).time(1000),
        file("d/f", "hello").mode(0o4711).record("mtime", "1600000000.123456789"),
        file("d/old", "").record("mtime", "-1.5"),
        symlink("d/l", "../../../../etc/passwd").time(2000),
        hard_link("d/h", "d/f"),
        entry(EntryType::Fifo, "d/p").mode(0o622).time(3000),
        directory(".").mode(0o711).time(4000),
    ]);
    assert_eq!(facts, LayerFacts { size: 5, entries: 7, ..LayerFacts::default() });
    assert_eq!(place.read("d/f"), "hello");
    let f = place.stat("d/f");
    assert_eq!((f.mode() & 0o7777, f.mtime(), f.mtime_nsec()), (0o4711, 1_600_000_000, 123_456_789));
    assert_eq!((f.nlink(), f.ino()), (2, place.stat("d/h").ino()));
    let old = place.stat("d/old");
    assert_eq!((old.mtime(), old.mtime_nsec()), (-2, 500_000_000));
    assert_eq!((place.stat("d").mode() & 0o7777, place.stat("d").mtime()), (0o2750, 1000));
    assert_eq!(fs::read_link(place.path("d/l")).unwrap(), Path::new("../../../../etc/passwd"));
    assert_eq!(place.stat("d/l").mtime(), 2000);
    let fifo = place.stat("d/p");
    assert!(fifo.file_type().is_fifo());
    assert_eq!((fifo.mode() & 0o7777, fifo.mtime()), (0o622, 3000));
    assert_eq!((place.stat(".").mode() & 0o7777, place.stat(".").mtime()), (0o711, 4000));
}

#[test]
fn large_files_come_through_pieces_unharmed() {
    let place = Place::new();
    let content: Vec<u8> = (0_u64..700_001).map(|n| ((n * n) >> 7) as u8).collect();
    let unpacked = place.unpack([file("big", &content), file("next", "n")]).unwrap();
    assert_eq!(Digest::of(&fs::read(place.path("big")).unwrap()), Digest::of(&content));
    assert_eq!(place.read("next"), "n");
    assert_eq!(unpacked.facts.size, 700_002);
}

#[test]
fn the_digest_is_that_of_all_bytes_also_behind_the_end() {
    let place = Place::new();
    let mut archive = Forge::new().add(file("f", "1")).end();
    archive.extend_from_slice(&[7; 3000]);
    let unpacked = place.unpack_with(&archive, Keep::Index, &Limits::default()).unwrap();
    assert_eq!((unpacked.digest, unpacked.bytes), (Digest::of(&archive), archive.len() as u64));
}

#[test]
fn an_archive_without_end_marks_is_whole_and_a_cut_one_is_not() {
    let archive = Forge::new().add(file("f", "12345")).end();
    for whole in [512 + 5, 1024, 1536, 2048] {
        let place = Place::new();
        place.unpack_with(&archive[..whole], Keep::Index, &Limits::default()).unwrap();
        assert_eq!(place.read("f"), "12345");
    }
    for cut in [1, 100, 511, 512, 516, 1025] {
        let place = Place::new();
        let error = place.unpack_with(&archive[..cut], Keep::Index, &Limits::default()).err().unwrap();
        assert!(error.to_string().contains("ends early"), "{cut}: {error}");
    }
    assert_eq!(Place::new().facts([]), LayerFacts::default());
}

#[test]
fn names_of_every_length_and_byte() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let strange = b"\xff\xfe \n*\\\"";
    let mut gnu = tar::Header::new_gnu();
    gnu.set_entry_type(EntryType::GNULongName);
    let gnu_name = format!("g/{}\0", "n".repeat(180));
    gnu.set_size(gnu_name.len() as u64);
    let archive = Forge::new()
        .add(file(&long, "long"))
        .add(file(strange, "strange"))
        .raw(gnu, gnu_name.as_bytes())
        .add(file("short", "gnu"))
        .add(symlink("l", "t".repeat(3000)))
        .end();
    place.unpack_with(&archive, Keep::Index, &Limits::default()).unwrap();
    assert_eq!(place.read(&long), "long");
    use std::os::unix::ffi::OsStrExt;
    assert!(place.root().join(std::ffi::OsStr::from_bytes(strange)).is_file());
    assert_eq!(place.read(&format!("g/{}", "n".repeat(180))), "gnu");
    assert!(!place.path("short").exists());
    assert_eq!(fs::read_link(place.path("l")).unwrap().as_os_str().len(), 3000);
    assert!(place.refusal([file("x".repeat(256), "")]).contains("File name too long"));
    assert!(place.refusal([file("x/".repeat(3000), "")]).contains("longer than 4095"));
    assert!(place.refusal([file("x", "").record("path", "a\0b")]).contains("NUL"));
}

#[test]
fn missing_parents_are_made_and_dots_mean_nothing() {
    let place = Place::new();
    place.facts([file("./a//b/./c/../f", "1"), file("/abs/f", "2"), directory("a/").time(77)]);
    assert_eq!(place.read("a/b/f"), "1");
    assert_eq!(place.read("abs/f"), "2");
    assert_eq!(place.stat("a/b").permissions().mode() & 0o7777, 0o755);
    assert_eq!(place.stat("a").mtime(), 77);
}

#[test]
fn a_hard_link_to_itself_loses_nothing() {
    let place = Place::new();
    place.facts([
        file("f", "1"),
        hard_link("f", "f"),
        hard_link("g", "f"),
        hard_link("g", "./f"),
        symlink("d", "."),
        hard_link("d/f", "g"),
        file("other", "2"),
        hard_link("other", "f"),
    ]);
    assert_eq!((place.read("f"), place.read("other")), ("1".into(), "1".into()));
    assert_eq!(place.stat("f").nlink(), 3);
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let place = Place::new();
    place.facts([
        file("f", "first, and longer"),
        file("f", "second"),
        file("d/deep/er", "1"),
        file("d", "file now"),
        file("e", "was a file"),
        directory("e").mode(0o700),
        file("e/in", "1"),
        directory("k").mode(0o700).time(5),
        file("k/in", "1"),
        directory("k").mode(0o1777).time(6),
        entry(EntryType::Fifo, "x"),
        file("x", "no fifo"),
    ]);
    assert_eq!(place.read("f"), "second");
    assert_eq!(place.read("d"), "file now");
    assert_eq!(place.read("e/in"), "1");
    assert_eq!(place.read("k/in"), "1");
    assert_eq!((place.stat("k").mode() & 0o7777, place.stat("k").mtime()), (0o1777, 6));
    assert_eq!(place.read("x"), "no fifo");
    let refusal = place.refusal([file("p", ""), file("p/q", "")]);
    assert!(refusal.contains("`p/q`") && refusal.contains("`p`") && refusal.contains("file"), "{refusal}");
    assert!(place.refusal([file(".", "")]).contains("root of a layer"));
    assert!(place.refusal([symlink("/", "x")]).contains("root of a layer"));
}

#[test]
fn a_removed_directory_leaves_neither_times_nor_owners() {
    let place = Place::new();
    let unpacked = place.unpack([
        directory("d").owner(5, 5).time(9),
        symlink("d/l", "x").owner(6, 6),
        file("d", "now a file").time(10),
        directory("e").mode(0o500).time(9),
        symlink("e", "d"),
    ]);
    assert!(unpacked.unwrap().owners.is_empty());
    assert_eq!((place.stat("d").mtime(), place.stat("d").mode() & 0o777), (10, 0o644));
    assert!(place.stat("e").is_symlink());
}

#[test]
fn whiteouts_hide_what_is_below() {
    let place = Place::new();
    let facts = place.facts([
        file(".wh.gone", ""),
        file("d/.wh.gone", ""),
        file("kept", "1"),
        file(".wh.kept", ""),
        file("dir/f", "1"),
        file(".wh.dir", ""),
        file("late/f", "1"),
        file("late/.wh..wh..opq", ""),
        file("early/.wh..wh..opq", ""),
        file("early/f", "1"),
        file(".wh.again", ""),
        directory("again"),
        file(".wh.through", ""),
        file("through/f", "1"),
        file(".wh.file", ""),
        file("file", "1"),
    ]);
    assert!(!facts.opaque && !facts.whiteout_files);
    assert!(place.is_whiteout("gone") && place.is_whiteout("d/gone"));
    for (name, content) in [("kept", "1"), ("dir/f", "1"), ("late/f", "1"), ("through/f", "1"), ("file", "1")]
    {
        assert_eq!(place.read(name), content);
    }
    for opaque in ["dir", "late", "early", "again", "through"] {
        assert!(place.is_opaque(opaque), "{opaque}");
    }
    assert!(!place.is_opaque("d"));
    assert!(place.facts([file(".wh..wh..opq", "")]).opaque);
    assert!(place.is_opaque("."));
}

#[test]
fn whiteouts_of_nothing_are_refused_and_those_of_aufs_left_out() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        let refusal = Place::new().refusal([file(name, "")]);
        assert!(refusal.contains("whiteout of nothing") && refusal.contains(name), "{refusal}");
    }
    let refusal = Place::new().refusal([file(".wh.d/f", "")]);
    assert!(refusal.contains("name of a whiteout"), "{refusal}");
    let place = Place::new();
    place.facts([
        directory(".wh..wh.plnk"),
        file(".wh..wh.plnk/12.34", "data"),
        file(".wh..wh.aufs", "data"),
        file("d/.wh..wh.x", "data"),
        file("f", "1"),
    ]);
    assert_eq!(place.read("f"), "1");
    let names: Vec<_> = fs::read_dir(place.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".wh")), "{names:?}");
}

#[test]
fn devices_are_recorded_and_none_is_made() {
    let place = Place::new();
    let unpacked = place
        .unpack([
            entry(EntryType::Char, "null").device(1, 3).mode(0o666),
            entry(EntryType::Block, "sda").device(8, 0).mode(0o660).owner(0, 6),
            // It would hide what is below.
            entry(EntryType::Char, "zero").device(0, 0),
            file("plain", ""),
        ])
        .unwrap();
    for (name, text) in
        [("null", "0:0:0666:char-1-3"), ("sda", "0:6:0660:block-8-0"), ("zero", "0:0:0644:char-0-0")]
    {
        assert!(place.stat(name).is_file() && place.stat(name).len() == 0, "{name}");
        assert_eq!(unpacked.owners.get(name.as_bytes()).unwrap().recorded.text(), text);
    }
    assert!(unpacked.owners.get(b"plain").is_none());
}

#[test]
fn owners_are_recorded_in_attributes_where_files_take_them() {
    let place = Place::new();
    let archive = [
        file("f", "").owner(33, 34).mode(0o4755),
        directory("d").owner(8, 8),
        symlink("l", "f").owner(33, 33),
        symlink("d/m", "f"),
        entry(EntryType::Fifo, "p").owner(1, 2).mode(0o600),
        entry(EntryType::Char, "c").device(5, 1).owner(0, 5),
        hard_link("k", "l"),
        file("i/f", ""),
    ];
    let archive = archive.into_iter().fold(Forge::new(), Forge::add).end();
    let unpacked = place.unpack_with(&archive, Keep::Attributes, &Limits::default()).unwrap();
    let lines: Vec<String> = unpacked
        .owners
        .iter()
        .map(|(path, line)| format!("{} {}", String::from_utf8_lossy(path), line.recorded.text()))
        .collect();
    assert_eq!(lines, ["k 33:33:0644:symlink", "l 33:33:0644:symlink", "p 1:2:0600:pipe"]);
    for (name, text) in [
        ("f", "33:34:4755:file"),
        ("d", "8:8:0755:dir"),
        ("c", "0:5:0644:char-5-1"),
        ("i", "0:0:0755:dir"),
        (".", "0:0:0755:dir"),
    ] {
        let file = fs::File::open(place.path(name)).unwrap();
        use std::os::fd::AsFd;
        assert_eq!(unpacked.owners.of(Path::new(name), file.as_fd()).unwrap().text(), text, "{name}");
    }
}

#[test]
fn attributes_are_set_and_those_of_the_drivers_are_not() {
    let place = Place::new();
    let value = b"binary\n\0=\xff 12 x=y\n";
    let unpacked = place
        .unpack([
            file("f", "1").record("SCHILY.xattr.user.test", value).record("SCHILY.xattr.trusted.x", "1"),
            directory("d")
                .record("SCHILY.xattr.user.test", value)
                .record("SCHILY.xattr.user.overlay.opaque", "y")
                .record("SCHILY.xattr.user.fuseoverlayfs.opaque", "y")
                .record("SCHILY.xattr.user.containers.override_stat", "0:0:0777"),
            symlink("l", "f").record("SCHILY.xattr.user.test", "refused"),
        ])
        .unwrap();
    for name in ["f", "d"] {
        let mut found = [0; 64];
        let length = rustix::fs::getxattr(place.path(name), "user.test", &mut found[..]).unwrap();
        assert_eq!(&found[..length], value);
    }
    assert!(!place.is_opaque("d"));
    let mut found = [0; 64];
    assert!(rustix::fs::getxattr(place.path("d"), crate::layers::owners::XATTR, &mut found[..]).is_err());
    let kept = &unpacked.owners.get(b"l").unwrap().xattrs;
    assert_eq!(kept, &[(b"user.test".to_vec(), b"refused".to_vec())]);
}

#[test]
fn what_no_engine_minds_is_taken() {
    let place = Place::new();
    let mut blank = tar::Header::new_old();
    blank.as_old_mut().name[..6].copy_from_slice(b"blank/");
    let mut binary = tar::Header::new_gnu();
    binary.set_entry_type(EntryType::Regular);
    binary.as_old_mut().name[..6].copy_from_slice(b"binary");
    binary.set_mode(0o600);
    binary.as_old_mut().uid = [0x80, 0, 0, 0, 0, 1, 0, 0];
    binary.as_old_mut().mtime = [0xff; 12];
    let mut global = tar::Header::new_ustar();
    global.set_entry_type(EntryType::XGlobalHeader);
    let comment = b"52 comment=0123456789012345678901234567890123456789\n";
    global.set_size(comment.len() as u64);
    let archive = Forge::new().raw(global, comment).raw(blank, b"").raw(binary, b"").end();
    let unpacked = place.unpack_with(&archive, Keep::Index, &Limits::default()).unwrap();
    assert!(place.stat("blank").is_dir());
    assert_eq!(unpacked.owners.get(b"binary").unwrap().recorded.uid, 65536);
    assert_eq!(place.stat("binary").mtime(), -1);
}

#[test]
fn holes_stay_holes() {
    let map = "2\n4096\n5\n1048576\n3\n";
    let mut data = map.as_bytes().to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"helloend");
    let version_1 = file("GNUSparseFile.1/one", data)
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.name", "one")
        .record("GNU.sparse.realsize", "2097152");
    let version_01 = file("zero-one", b"helloend")
        .record("GNU.sparse.size", "2097152")
        .record("GNU.sparse.numblocks", "2")
        .record("GNU.sparse.map", "4096,5,1048576,3");
    let version_00 = file("zero-zero", b"helloend")
        .record("GNU.sparse.size", "2097152")
        .record("GNU.sparse.numblocks", "2")
        .record("GNU.sparse.offset", "4096")
        .record("GNU.sparse.numbytes", "5")
        .record("GNU.sparse.offset", "1048576")
        .record("GNU.sparse.numbytes", "3");
    let mut old = tar::Header::new_gnu();
    old.set_entry_type(EntryType::GNUSparse);
    old.as_old_mut().name[..3].copy_from_slice(b"old");
    old.set_mode(0o644);
    old.set_size(8);
    let gnu = old.as_gnu_mut().unwrap();
    gnu.set_real_size(2_097_152);
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(5);
    gnu.set_is_extended(true);
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(1_048_576);
    more.sparse_mut()[0].set_length(3);
    let data = [more.as_bytes().as_slice(), b"helloend"].concat();
    let archive = Forge::new()
        .add(version_1)
        .add(version_01)
        .add(version_00)
        .raw(old, &data)
        .add(file("last", "1"))
        .end();
    let place = Place::new();
    let unpacked = place.unpack_with(&archive, Keep::Index, &Limits::default()).unwrap();
    for name in ["one", "zero-one", "zero-zero", "old"] {
        let content = fs::read(place.path(name)).unwrap();
        assert_eq!(content.len(), 2_097_152, "{name}");
        assert_eq!(
            (&content[4096..4101], &content[1_048_576..1_048_579]),
            (b"hello".as_slice(), b"end".as_slice())
        );
        assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 8, "{name}");
        assert!(place.stat(name).blocks() < 100, "{name} has no holes");
    }
    assert_eq!(place.read("last"), "1");
    assert_eq!(unpacked.facts.size, 4 * 2_097_152 + 1);
}
