//! ADD of archives: what is in them goes where it belongs, whatever they say.

use std::fs;

use flate2::Crc;
use tar::{Builder, EntryType, Header};

use super::{Kitchen, kitchen};
use crate::harness::require;

/// An entry as it is written: name, kind, mode, owner, link and content.
pub struct Entry<'e>(pub &'e str, pub EntryType, pub u32, pub (u64, u64), pub &'e str, pub &'e str);

/// An archive with names as they are given, hostile ones, too.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for Entry(name, kind, mode, (uid, gid), link, content) in entries {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*gid);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).expect("a Vec takes all");
    }
    tar.into_inner().expect("a Vec takes all")
}

pub fn file<'e>(name: &'e str, content: &'e str) -> Entry<'e> {
    Entry(name, EntryType::Regular, 0o640, (12, 34), "", content)
}

fn link<'e>(name: &'e str, target: &'e str) -> Entry<'e> {
    Entry(name, EntryType::Symlink, 0o777, (0, 0), target, "")
}

fn directory(name: &str, mode: u32) -> Entry<'_> {
    Entry(name, EntryType::Directory, mode, (5, 6), "", "")
}

impl Kitchen {
    /// A file of the context, of any bytes.
    pub fn bytes(&self, name: &str, bytes: &[u8]) -> &Self {
        fs::write(self.context().join(name), bytes).expect("cannot write a file");
        self
    }
}

#[test]
fn an_archive_is_unpacked_however_it_is_packed_and_named() {
    let kitchen = kitchen();
    kitchen.bytes("plain", &tar(&[directory("d/", 0o750), file("d/f", "x"), file("g", "y")]));
    for packer in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = fs::File::create(kitchen.context().join(packer)).expect("a file");
        let plain = kitchen.context().join("plain");
        kitchen.world.program(require(packer)).arg("-c").arg(plain).stdout_to(packed).expect_code(0);
    }
    kitchen.made(
        "FROM base\nADD plain /plain\nADD gzip /gzip/\nADD bzip2 /bzip2\nADD xz /xz\nADD zstd /zstd\n\
         ADD --unpack=false plain /whole\nCOPY gzip /copied\n",
    );
    let found = kitchen.shell(
        "for p in plain gzip bzip2 xz zstd; do cd /$p && stat -c '%n %a %u:%g %Y' d d/f g | md5sum; cat d/f g; done; \
         cd /plain; stat -c '%n %a %u:%g' .; stat -c '%n %a %u:%g %Y' d d/f; test -f /whole && test -f /copied && echo files",
    );
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[1..5].iter().all(|line| line.strip_prefix("xy") == Some(lines[0])), "{found}");
    assert_eq!(lines[5..], ["xy. 755 0:0", "d 750 5:6 1000000000", "d/f 640 12:34 1000000000", "files"]);
}

#[test]
fn what_is_packed_but_no_archive_is_a_file_and_so_is_one_in_a_directory() {
    let kitchen = kitchen();
    kitchen.file("text", "hello");
    let packed = fs::File::create(kitchen.context().join("text.gz")).expect("a file");
    let text = kitchen.context().join("text");
    kitchen.world.program(require("gzip")).arg("-c").arg(text).stdout_to(packed).expect_code(0);
    fs::create_dir(kitchen.context().join("d")).expect("a directory");
    kitchen.bytes("d/in.tar", &tar(&[file("f", "x")])).bytes("zeros.tar", &[0; 10240]);
    kitchen.made("FROM base\nADD text.gz /\nADD d /d\nADD zeros.tar /\n");
    assert_eq!(kitchen.shell("zcat /text.gz; echo; tar tf /d/in.tar; wc -c </zeros.tar"), "hello\nf\n10240");
}

#[test]
fn owners_and_modes_are_the_archives_or_the_instructions() {
    let kitchen = kitchen();
    kitchen.bytes("a.tar", &tar(&[directory("d", 0o711), file("d/f", "x"), link("d/l", "f")]));
    kitchen.made(
        "FROM base\nADD a.tar /one\nADD --chown=7:8 --chmod=u=rwX,go=r a.tar /two\nWORKDIR /w\nADD a.tar .\n",
    );
    let found =
        kitchen.shell("cd /; stat -c '%n %a %u:%g' one/d one/d/f two two/d two/d/f w/d; readlink two/d/l");
    assert_eq!(
        found,
        "one/d 711 5:6\none/d/f 640 12:34\ntwo 755 7:8\ntwo/d 744 7:8\ntwo/d/f 644 7:8\nw/d 711 5:6\nf"
    );
}

#[test]
fn an_archive_becomes_one_with_what_is_there_and_wins() {
    let kitchen = kitchen();
    let archive = tar(&[
        directory("./", 0o700),
        file("old/file", "new"),
        directory("there", 0o700),
        file("there/more", "more"),
        file("implied/by/name", "n"),
        file("link/in", "through the link"),
        directory("made-directory", 0o755),
        file("made-directory/x", "x"),
        file("was-directory", "now a file"),
        file("twice", "first"),
        file("twice", "second"),
        Entry("hard", EntryType::Link, 0o640, (12, 34), "there/more", ""),
    ]);
    kitchen.bytes("a.tar", &archive);
    kitchen.made(
        "FROM base\nRUN mkdir -p /t/old /t/there /t/real /t/was-directory /t/implied && chmod 1777 /t /t/implied && \
         echo old >/t/old/file && echo kept >/t/old/kept && echo kept >/t/there/kept && ln -s real /t/link && \
         ln -s real /t/made-directory && echo gone >/t/was-directory/x\nADD a.tar /t\n",
    );
    let found = kitchen.shell(
        "cd /t; stat -c '%n %a' . implied implied/by there; cat old/* there/*; echo; cat real/in was-directory twice; \
         echo; ls real made-directory; readlink link; stat -c %h hard",
    );
    assert_eq!(
        found,
        ". 1777\nimplied 1777\nimplied/by 755\nthere 700\nnewkept\nkept\nmore\nthrough the linknow a filesecond\n\
         made-directory:\nx\n\nreal:\nin\nreal\n2"
    );
}

#[test]
fn nothing_of_an_archive_leads_out() {
    let kitchen = kitchen();
    let outside = kitchen.world.directory().join("outside");
    let there = outside.display().to_string();
    fs::create_dir(&outside).expect("a directory");
    // In the image, links lead as far as its root.
    kitchen.bytes(
        "links.tar",
        &tar(&[
            link("absolute", &there),
            file("absolute/f", "a"),
            link("up", "../../../../../../../../tmp"),
            file("up/g", "b"),
            file("/rooted", "c"),
        ]),
    );
    kitchen.made("FROM base\nADD links.tar /t\n");
    assert_eq!(kitchen.shell(&format!("cat {there}/f /tmp/g /t/rooted")), "abc");
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0);
    for (entries, said) in [
        (&[file("../f", "x")][..], "out of"),
        (&[file("a/../../f", "x")], "out of"),
        (&[file("a/.wh.f", "x")], ".wh."),
        (&[Entry("h", EntryType::Link, 0o644, (0, 0), "etc/passwd", "")], "no such file before it"),
        (&[Entry("h", EntryType::Link, 0o644, (0, 0), "../../etc/passwd", "")], "out of"),
        (&[link("loop", "loop"), file("loop/f", "x")], "too many symlinks"),
        (&[file("f", "x"), file("f/g", "x")], "in the way"),
        (&[link("empty", "")], "symlink to nothing"),
    ] {
        kitchen.bytes("bad.tar", &tar(entries));
        let finished = kitchen.build("FROM base\nADD bad.tar /t\n", &[]).expect_code(125);
        assert!(finished.stderr().contains(said), "{said}: {}", finished.stderr());
        assert!(finished.stderr().contains("Dockerfile:2:1: "), "{}", finished.stderr());
    }
    kitchen.build("FROM base\nADD bad.tar /etc/passwd\n", &[]).expect_code(125).stderr_has("no directory");
}

#[test]
fn an_archive_that_is_cut_or_claims_too_much_is_refused() {
    let kitchen = kitchen();
    let whole = tar(&[file("f", &"x".repeat(5000)), file("g", "y")]);
    kitchen.bytes("cut.tar", &whole[..3000]);
    kitchen.build("FROM base\nADD cut.tar /t\n", &[]).expect_code(125).stderr_has("ends early");
    // A file of many terabytes without data is no larger than its header, in the layer, too.
    let holes = fs::File::create(kitchen.context().join("holes")).expect("a file");
    holes.set_len(4 << 40).expect("a file with a hole");
    let program = kitchen.world.program("tar").args(["-cSf", "holes.tar", "holes"]);
    program.directory(kitchen.context()).expect_code(0);
    fs::remove_file(kitchen.context().join("holes")).expect("a file");
    kitchen.made("FROM base\nADD holes.tar /\n");
    assert_eq!(kitchen.shell("stat -c '%s %b' /holes"), format!("{} 0", 4_u64 << 40));
}

#[test]
fn the_cache_goes_by_what_the_archive_holds() {
    let kitchen = kitchen();
    kitchen.bytes("a.tar", &tar(&[file("f", "1")]));
    let dockerfile = "FROM base\nADD a.tar /t\n";
    let cached =
        || kitchen.build(dockerfile, &["-t", "made"]).expect_code(0).stderr().contains("Using cache");
    assert!(!cached() && cached());
    kitchen.bytes("a.tar", &tar(&[file("f", "2")]));
    assert!(!cached());
    assert_eq!(kitchen.shell("cat /t/f"), "2");
}

/// The first block of an .xz says that its dictionary has 512 MiB (The .xz File Format 1.2.1, 3.1 and 5.3.1): to pack with
/// one takes gigabytes.
fn with_large_dictionary(mut xz: Vec<u8>) -> Vec<u8> {
    const HEADER: usize = 12;
    assert_eq!(xz[HEADER + 1..HEADER + 4], [0, 0x21, 1], "LZMA2 alone, of no known size");
    let end = HEADER + usize::from(xz[HEADER]) * 4;
    xz[HEADER + 4] = 34;
    let mut sum = Crc::new();
    sum.update(&xz[HEADER..end]);
    xz[end..end + 4].copy_from_slice(&sum.sum().to_le_bytes());
    xz
}

/// One block as it is, after a header that asks for a window of 1 GiB (RFC 8878, 3.1.1.1.2).
fn with_large_window(content: &[u8]) -> Vec<u8> {
    let block = (content.len() as u32) << 3 | 1;
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3];
    [&header[..], &block.to_le_bytes()[..3], content].concat()
}

#[test]
fn an_archive_that_takes_too_much_memory_is_no_file_like_any_other() {
    let kitchen = kitchen();
    let archive = tar(&[file("f", "x")]);
    kitchen.bytes("a.tar", &archive);
    kitchen.world.program(require("xz")).args(["-0", "a.tar"]).directory(kitchen.context()).expect_code(0);
    let small = fs::read(kitchen.context().join("a.tar.xz")).expect("what xz made");
    for (name, packed) in [("xz", with_large_dictionary(small)), ("zstd", with_large_window(&archive))] {
        kitchen.bytes(name, &packed);
        let finished = kitchen.build(&format!("FROM base\nADD {name} /t\n"), &[]).expect_code(125);
        finished.stderr_has(&format!("cannot read `{name}`")).stderr_has("memory");
        kitchen.build(&format!("FROM base\nCOPY {name} /t\n"), &["-q"]).succeed();
    }
}
