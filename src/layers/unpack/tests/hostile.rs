//! Archives that somebody made to do harm, or that are broken.

use super::*;

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["..", "../outside/file", "a/../../outside/file", "/../outside/new", "a/b/../../../x"] {
        let refusal = Place::new().refusal([file("before", ""), file(name, "evil")]);
        assert!(refusal.contains(name) && refusal.contains("leads out of the layer"), "{refusal}");
        let refusal = Place::new().refusal([directory(name)]);
        assert!(refusal.contains("leads out"), "{refusal}");
        let refusal = Place::new().refusal([hard_link("h", name)]);
        assert!(refusal.contains("leads out"), "{refusal}");
    }
}

#[test]
fn symlinks_on_the_way_are_followed_inside_the_layer_alone() {
    for target in
        ["../outside", "/outside", "../../../../outside", "./x/../../outside", "/proc/self/root/outside"]
    {
        let place = Place::new();
        place.facts([symlink("l", target), file("l/file", "mine"), directory("l/d/e")]);
        assert!(place.stat("l").is_symlink());
        let inside = match target {
            "/proc/self/root/outside" => "proc/self/root/outside/file",
            _ => "outside/file",
        };
        assert_eq!(place.read(inside), "mine", "{target}");
    }
    let place = Place::new();
    place.facts([
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("usr/loop", "../lib"),
        file("usr/loop/f", "1"),
        file("lib/../f", "by text"),
    ]);
    assert_eq!(place.read("usr/lib/f"), "1");
    assert_eq!(place.read("f"), "by text");
    let refusal = Place::new().refusal([symlink("a", "b"), symlink("b", "a"), file("a/f", "")]);
    assert!(refusal.contains("too many symlinks"), "{refusal}");
}

#[test]
fn a_symlink_is_replaced_and_never_written_through() {
    let place = Place::new();
    let absolute = place.outside().join("file").display().to_string();
    place.facts([
        symlink("a", "../outside/file"),
        file("a", "new"),
        symlink("b", &absolute),
        file("b", "new"),
        symlink("c", "../outside"),
        directory("c").mode(0o7777).time(5),
        file("c/file", "mine"),
        symlink("d", "../outside/file"),
        symlink("d", "elsewhere"),
        symlink("e", "../outside"),
        entry(EntryType::Fifo, "e"),
        symlink("f", "../outside/file"),
        entry(EntryType::Char, "f").device(1, 3),
    ]);
    for name in ["a", "b"] {
        assert!(place.stat(name).is_file());
        assert_eq!(place.read(name), "new");
    }
    assert!(place.stat("c").is_dir());
    assert_eq!(place.read("c/file"), "mine");
    assert_eq!(fs::read_link(place.path("d")).unwrap(), Path::new("elsewhere"));
}

#[test]
fn a_directory_that_becomes_a_symlink_takes_nothing_out() {
    let place = Place::new();
    // The way to `d` is known from its first file when it turns into a link.
    place.facts([
        file("d/e/first", "1"),
        symlink("d", "../outside"),
        file("d/file", "mine"),
        file("d/e/second", "2"),
    ]);
    assert_eq!(place.read("outside/file"), "mine");
    assert_eq!(place.read("outside/e/second"), "2");
    assert!(!place.path("outside/e/first").exists());
}

#[test]
fn hard_links_stay_inside_and_say_what_they_miss() {
    let place = Place::new();
    let refusal = place.refusal([hard_link("h", "missing")]);
    assert!(refusal.contains("`h`") && refusal.contains("`missing`"), "{refusal}");
    let absolute = place.outside().join("file").display().to_string();
    assert!(Place::new().refusal([hard_link("h", absolute)]).contains("hard link"));
    let refusal = Place::new().refusal([symlink("l", "../outside"), hard_link("h", "l/file")]);
    assert!(refusal.contains("hard link"), "{refusal}");
    assert!(Place::new().refusal([directory("d"), hard_link("h", "d")]).contains("directory"));
    assert!(Place::new().refusal([hard_link("h", "/")]).contains("root of the layer"));
    assert!(Place::new().refusal([file(".wh.x", ""), hard_link("h", "x")]).contains("removes"));
    // A link to a symlink is one more name of the symlink, and is replaced as one.
    let place = Place::new();
    place.facts([symlink("l", "../outside/file"), hard_link("h", "l"), file("h", "mine").mode(0o4777)]);
    assert!(place.stat("l").is_symlink());
    assert_eq!(place.read("h"), "mine");
}

#[test]
fn limits_are_kept() {
    let place = Place::new();
    let entries: Vec<u8> = (0..11).fold(Forge::new(), |forge, n| forge.add(file(n.to_string(), ""))).end();
    let few = Limits { entries: 10, ..Limits::default() };
    let error = place.unpack_with(&entries, Keep::Index, &few).err().unwrap();
    assert!(error.to_string().contains("more than 10 entries"), "{error}");
    let small = Limits { bytes: 4096, ..Limits::default() };
    let error = place.unpack_with(&entries, Keep::Index, &small).err().unwrap();
    assert!(error.to_string().contains("more than 4096 bytes"), "{error}");
    let names = Limits { names: 200, ..Limits::default() };
    let directories = (0..9).fold(Forge::new(), |forge, n| forge.add(directory(n.to_string()))).end();
    let error = place.unpack_with(&directories, Keep::Index, &names).err().unwrap();
    assert!(error.to_string().contains("too much memory"), "{error}");
    assert!(Limits::for_compressed(10).bytes >= 1 << 30);
    assert_eq!(Limits::for_compressed(100 << 30).bytes, 25_000 << 30);
}

#[test]
fn malformed_archives_are_refused_with_the_reason() {
    let header = |kind: u8, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.as_old_mut().name[..4].copy_from_slice(b"name");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header
    };
    let mut no_mode = header(b'0', 0);
    no_mode.as_old_mut().mode = *b"rwxrwxrw";
    let mut negative = header(b'0', 0);
    negative.as_old_mut().size = [0xff; 12];
    let mut huge = header(b'0', 0);
    huge.set_size(1 << 62);
    let x =
        |record: &[u8]| Forge::new().raw(header(b'x', record.len() as u64), record).add(file("f", "")).end();
    let mut wrong = Forge::new().add(file("f", "")).end();
    wrong[0] ^= 1;
    for (archive, reason) in [
        (wrong, "checksum"),
        (vec![b'x'; 512], "checksum"),
        (Forge::new().raw(header(b'?', 0), b"").end(), "unknown type `?`"),
        (Forge::new().raw(no_mode, b"").end(), "the mode of `name`"),
        (Forge::new().raw(negative, b"").end(), "without a size"),
        (Forge::new().raw(huge, b"").end(), "ends early"),
        (Forge::new().raw(header(b'L', 1 << 40), b"").end(), "longer than any"),
        (Forge::new().raw(header(b'x', 1 << 40), b"").end(), "longer than any"),
        (x(b"99 path=x\n"), "wrong length"),
        (x(b"9 path=xy"), "wrong length"),
        (x(b"path=x\n"), "wrong length"),
        (x(b"8 path\n\n"), "without `=`"),
        (x(b"10 uid=-1\n"), "`uid`"),
        (x(b"11 size=1x\n"), "`size`"),
        (x(b"13 mtime=now\n"), "`mtime`"),
        ([vec![0; 512], Forge::new().add(file("f", "")).end()].concat(), "follows the mark of the end"),
    ] {
        let place = Place::new();
        let error =
            place.unpack_with(&archive, Keep::Index, &Limits::default()).err().expect(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn maps_of_sparse_files_are_checked() {
    let sparse = |size: &str, map: &str, data: &str| {
        file("s", data).record("GNU.sparse.size", size).record("GNU.sparse.map", map)
    };
    for (entry, reason) in [
        (sparse("10", "0,5,3,3", "12345678"), "overlap"),
        (sparse("10", "8,5", "12345"), "beyond its end"),
        (sparse("10", "0,4", "12345"), "other data"),
        (sparse("18446744073709551615", "0,1", "1"), "beyond its end"),
        (sparse("10", "18446744073709551615,5", "12345"), "longer than any file"),
        (sparse("10", "0,5,7", "12345"), "GNU.sparse.map"),
        (file("s", [b'9'; 512]).record("GNU.sparse.major", "1").record("GNU.sparse.realsize", "1"), "sparse"),
        (file("s", "").record("GNU.sparse.major", "1").record("GNU.sparse.realsize", "1"), "sparse"),
    ] {
        let refusal = Place::new().refusal([entry]);
        assert!(refusal.contains(reason), "{reason}: {refusal}");
    }
}

#[test]
fn trees_are_no_deeper_than_tools_can_walk() {
    let deep = |levels: usize| "d/".repeat(levels);
    Place::new().facts([directory(deep(500))]);
    let refusal = Place::new().refusal([directory(deep(502))]);
    assert!(refusal.contains("500 directories deep"), "{refusal}");
    // By links names stay short.
    let first = deep(400);
    let refusal = Place::new().refusal([
        directory(&first),
        symlink("l", &first),
        directory(format!("l/{}", deep(300))),
    ]);
    assert!(refusal.contains("500 directories deep"), "{refusal}");
}

/// Archives of a few hostile names in every order: none reaches out, and none ends in a panic.
#[test]
fn no_mixture_of_entries_leaves_the_layer() {
    let names = [
        "a",
        "b",
        "a/b",
        "b/a",
        "a/b/c",
        "../outside/file",
        "a/../../outside",
        ".",
        "/",
        "a/.wh.b",
        ".wh.a",
        "b/.wh..wh..opq",
        "outside",
        "outside/file",
        "./a",
        "a/",
        "l/file",
        "l",
        "..",
    ];
    let targets =
        ["../outside", "../outside/file", "/outside", "a", "b", ".", "..", "l", "../fs/a", "/", "a/b"];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |most: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % most as u64) as usize
    };
    let mut taken = 0;
    for _ in 0..800 {
        let place = Place::new();
        let count = 1 + below(9);
        let entries: Vec<Forged> = (0..count)
            .map(|_| {
                let (name, target) = (names[below(names.len())], targets[below(targets.len())]);
                let entry = match below(7) {
                    0 | 1 => file(name, "evil"),
                    2 => directory(name),
                    3 => symlink(name, target),
                    4 => hard_link(name, target),
                    5 => entry(EntryType::Fifo, name),
                    _ => entry(EntryType::Char, name).device(1, 3),
                };
                entry.mode(0o4755).owner(below(2) as u64, 0).time(below(2) as u64)
            })
            .collect();
        taken += usize::from(place.unpack(entries).is_ok());
    }
    assert!(taken > 50, "only {taken} archives were sound");
}

#[test]
fn what_is_kept_in_memory_is_bounded() {
    // No symlink takes such an attribute: it is kept for the index, and again for each hard link.
    let place = Place::new();
    let link = symlink("l", "x").record("SCHILY.xattr.user.big", vec![b'x'; 60 << 10]);
    let links = (0..20).map(|number| hard_link(format!("l{number}"), "l"));
    let archive = std::iter::once(link).chain(links).fold(Forge::new(), Forge::add).end();
    let limits = Limits { names: 1 << 20, ..Limits::default() };
    let refused = place.unpack_with(&archive, Keep::Index, &limits).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("too much memory"), "{refused}");
    // One header after another, all of them for one file.
    let mut forge = Forge::new();
    for number in 0..10 {
        let name = format!("SCHILY.xattr.user.{number}");
        let data = crate::layers::pack::header::record(name.as_bytes(), &vec![b'x'; 900 << 10]);
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(data.len() as u64);
        forge = forge.raw(header, &data);
    }
    let archive = forge.add(file("f", "")).end();
    let place = Place::new();
    let refused =
        place.unpack_with(&archive, Keep::Index, &Limits::default()).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("more extension headers"), "{refused}");
    let many = (0..5000)
        .fold(file("f", ""), |file, number| file.record(&format!("SCHILY.xattr.user.{number}"), "x"));
    let refused = Place::new().refusal([many]);
    assert!(refused.contains("more extended attributes"), "{refused}");
}

#[test]
fn nobody_has_the_number_that_stands_for_no_id() {
    for (field, number) in
        [("uid", "4294967295"), ("gid", "4294967295"), ("uid", "-1"), ("uid", "4294967296")]
    {
        let refused = Place::new().refusal([file("f", "").record(field, number)]);
        assert!(
            refused.contains("no value that fits") || refused.contains("no number that fits"),
            "{refused}"
        );
    }
    let place = Place::new();
    let refused = place.refusal([file("f", "").owner(u64::from(u32::MAX), 0)]);
    assert!(refused.contains("user ID of `f` is no number that fits"), "{refused}");
}

#[test]
fn sizes_beyond_all_files_are_added_up() {
    let place = Place::in_memory();
    let sparse = |name: &str| {
        let size = i64::MAX.to_string();
        file(name, "").record("GNU.sparse.realsize", &size).record("GNU.sparse.map", format!("{size},0"))
    };
    assert_eq!(place.facts(["a", "b", "c"].map(sparse)).size, u64::MAX);
}
