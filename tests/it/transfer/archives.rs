//! `sbx load` and `sbx save`

use std::fs;
use std::path::{Path, PathBuf};

use super::{layers, partial};
use crate::harness::{Sbx, TestImage, images, require, sbx};

fn skopeo(world: &Sbx, from: &str, to: &str) {
    world.program(require("skopeo")).args(["--insecure-policy", "copy", "--quiet", from, to]).expect_code(0);
}

/// The image as an archive that skopeo has written.
fn archive(world: &Sbx, image: &TestImage, kind: &str) -> PathBuf {
    let path = world.work().join(format!("{kind}.tar"));
    skopeo(world, &image.skopeo(), &format!("{kind}:{}:test:1", path.display()));
    path
}

fn load(world: &Sbx, path: &Path) -> String {
    world.sbx(["load", "-q", "-i"]).arg(path).succeed()
}

#[test]
fn archives_of_both_kinds_are_recognised_and_give_the_same_image() {
    let mut ids = Vec::new();
    for kind in ["docker-archive", "oci-archive"] {
        let world = sbx();
        let path = archive(&world, &images().busybox_of("odd"), kind);
        assert_eq!(load(&world, &path), "Loaded image: test:1");
        ids.push(world.sbx(["images", "-q", "--no-trunc", "test:1"]).succeed());
        assert_eq!(layers(&world).len(), 2);
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn packed_archives_load_from_files_and_pipes() {
    for kind in ["docker-archive", "oci-archive"] {
        let world = sbx();
        let path = archive(&world, &images().busybox(), kind);
        for packer in ["gzip", "zstd", "xz", "bzip2", "cat"] {
            let packed = world.work().join(format!("{kind}.{packer}"));
            let arguments: &[&str] = if packer == "cat" { &[] } else { &["-c", "-1"] };
            let out = fs::File::create(&packed).unwrap();
            world.program(require(packer)).args(arguments).arg(&path).stdout_to(out).expect_code(0);
            assert_eq!(load(&world, &packed), "Loaded image: test:1", "{packer}");
            let pipe = "cat \"$1\" | \"$2\" load -q";
            let shell = world.program("sh").args(["-c", pipe, "sh"]).arg(&packed);
            let said = shell.arg(crate::harness::sbx_binary()).succeed();
            assert_eq!(said, "Loaded image: test:1", "{packer}, through a pipe");
        }
        assert_eq!(partial(&world), Vec::<String>::new());
    }
}

#[test]
fn directories_load() {
    let world = sbx();
    assert!(load(&world, &images().busybox().layout).contains("Loaded image: latest:latest\n"));
    let directory = world.work().join("dir");
    skopeo(&world, &images().busybox().skopeo(), &format!("dir:{}", directory.display()));
    assert!(load(&world, &directory).starts_with("Loaded image ID: sha256:"));
}

#[test]
fn what_was_saved_loads_again_and_is_the_same() {
    let world = sbx();
    let path = archive(&world, &images().busybox_of("odd"), "oci-archive");
    load(&world, &path);
    let digest =
        |world: &Sbx| world.sbx(["images", "--digests", "--format", "{{.ID}} {{.Digest}}"]).succeed();
    let before = digest(&world);
    for format in ["docker-archive", "oci-archive", "oci-dir", "docker-dir"] {
        let saved = world.work().join(format!("saved-{format}"));
        world.sbx(["save", "--format", format, "-o"]).arg(&saved).arg("test:1").expect_code(0);
        let other = sbx();
        let loaded = load(&other, &saved);
        if format == "docker-dir" {
            // It has no names, and a manifest of docker's.
            assert!(loaded.starts_with("Loaded image ID:"), "{loaded}");
            continue;
        }
        assert_eq!(loaded, "Loaded image: test:1", "{format}");
        assert_eq!(digest(&other), before, "{format}");
    }
}

#[test]
fn the_same_image_gives_the_same_archive() {
    let world = sbx();
    load(&world, &archive(&world, &images().busybox_of("odd"), "oci-archive"));
    let first = world.sbx(["save", "test:1"]).expect_code(0);
    let second = world.sbx(["save", "-m", "test:1"]).expect_code(0);
    assert!(first.stdout_bytes().len() > 100_000);
    assert!(first.stdout_bytes() == second.stdout_bytes());
}

#[test]
fn skopeo_reads_every_format() {
    let world = sbx();
    load(&world, &archive(&world, &images().busybox_of("odd"), "oci-archive"));
    for (format, prefix, suffix) in [
        ("docker-archive", "docker-archive", ":test:1"),
        ("docker-archive", "oci-archive", ":docker.io/library/test:1"),
        ("oci-archive", "oci-archive", ":docker.io/library/test:1"),
        ("oci-dir", "oci", ":docker.io/library/test:1"),
        ("docker-dir", "dir", ""),
    ] {
        let saved = world.work().join(format!("{format}-{prefix}"));
        world.sbx(["save", "--format", format, "-o"]).arg(&saved).arg("test:1").expect_code(0);
        let copy = world.work().join(format!("copy-{format}-{prefix}"));
        skopeo(
            &world,
            &format!("{prefix}:{}{suffix}", saved.display()),
            &format!("oci:{}:x", copy.display()),
        );
    }
}

#[test]
fn podman_loads_what_was_saved_and_saves_what_loads() {
    let mut world = sbx();
    // podman keeps a process that holds its user namespace.
    world.allow_leftovers();
    load(&world, &archive(&world, &images().busybox_of("odd"), "oci-archive"));
    let id = world.sbx(["images", "-q", "--no-trunc", "test:1"]).succeed();
    let id = id.trim_start_matches("sha256:");
    let home = world.home().join(".config/containers");
    fs::create_dir_all(&home).unwrap();
    let storage = world.directory().join("podman");
    let config = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
        storage.display()
    );
    fs::write(home.join("storage.conf"), config).unwrap();
    fs::write(home.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let podman =
        |arguments: &[&str]| world.program(require("podman")).args(arguments).expect_code(0).stdout();
    for format in ["docker-archive", "oci-archive"] {
        let saved = world.work().join(format!("for-podman-{format}.tar"));
        let saved_text = saved.display().to_string();
        world.sbx(["save", "--format", format, "-o", &saved_text, "test:1"]).expect_code(0);
        podman(&["load", "-q", "-i", &saved_text]);
        assert_eq!(
            podman(&["images", "-q", "--no-trunc", "test:1"]).trim(),
            format!("sha256:{id}"),
            "{format}"
        );
        let back = world.work().join(format!("from-podman-{format}.tar"));
        podman(&["save", "-q", "--format", format, "-o", &back.display().to_string(), "test:1"]);
        podman(&["rmi", "-a", "-f"]);
        let other = sbx();
        assert_eq!(load(&other, &back), "Loaded image: test:1", "{format}");
        let loaded = other.sbx(["images", "-q", "--no-trunc", "test:1"]).succeed();
        assert_eq!(loaded.trim_start_matches("sha256:"), id, "{format}");
    }
}

#[test]
fn docker_of_old_links_layers_that_it_has_written_already() {
    let world = sbx();
    let path = archive(&world, &images().busybox(), "docker-archive");
    let tree = world.work().join("tree");
    fs::create_dir(&tree).unwrap();
    world.program("tar").arg("-C").arg(&tree).arg("-xf").arg(&path).expect_code(0);
    let list: serde_json::Value =
        serde_json::from_slice(&fs::read(tree.join("manifest.json")).unwrap()).unwrap();
    let layer = list[0]["Layers"][0].as_str().unwrap().to_owned();
    for name in ["first", "second"] {
        fs::create_dir(tree.join(name)).unwrap();
    }
    let _ = fs::remove_file(tree.join("first/layer.tar"));
    fs::rename(tree.join(&layer), tree.join("first/layer.tar")).unwrap();
    std::os::unix::fs::symlink("../first/layer.tar", tree.join("second/layer.tar")).unwrap();
    let mut list = list;
    list[0]["Layers"] = serde_json::json!(["second/layer.tar"]);
    fs::remove_file(tree.join("manifest.json")).unwrap();
    fs::write(tree.join("manifest.json"), list.to_string()).unwrap();
    let again = world.work().join("again.tar");
    let members = ["manifest.json", "first", "second", list[0]["Config"].as_str().unwrap()];
    world.program("tar").arg("-C").arg(&tree).arg("-cf").arg(&again).args(members).expect_code(0);
    assert_eq!(load(&world, &again), "Loaded image: test:1");
}

/// Names and contents, in the order in which they stand in the archive.
type Members<'m> = &'m [(&'m str, &'m [u8])];

/// An archive with these members.
fn forged(world: &Sbx, members: Members<'_>) -> PathBuf {
    let path = world.work().join("forged.tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As it stands, also where the library would refuse it.
        let field = &mut header.as_gnu_mut().unwrap().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.finish().unwrap();
    path
}

#[test]
fn hostile_archives_are_refused_with_the_reason() {
    let world = sbx();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;
    let secret = world.file("secret", "[]");
    let outside = format!("[{{\"Config\":\"{}\",\"RepoTags\":null,\"Layers\":[]}}]", secret.display());
    let climbing = br#"[{"Config":"../../../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
    let list = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
    let claimed = format!("[{{\"Config\":\"{}.json\",\"Layers\":[\"l.tar\"]}}]", "0".repeat(64));
    let claimed_name = format!("{}.json", "0".repeat(64));
    let oci = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2}]}"#;
    let blob = "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let cases: &[(Members<'_>, &str)] = &[
        (&[("file", b"x")], "cannot find an image in the archive"),
        (&[("repositories", b"{}")], "docker before version 1.10"),
        (&[("manifest.json", b"nonsense")], "cannot understand the `manifest.json`"),
        (&[("manifest.json", outside.as_bytes())], "and it is not there"),
        (&[("manifest.json", climbing)], "and it is not there"),
        (&[("manifest.json", list)], "cannot find `c.json` in the archive"),
        (&[("manifest.json", list), ("c.json", config)], "cannot find `l.tar` in the archive"),
        (&[("manifest.json", list), ("c.json", config), ("l.tar", b"no tar at all")], "l.tar"),
        (&[("manifest.json", list), ("manifest.json", list)], "two files of the name"),
        (&[("manifest.json", claimed.as_bytes()), (&claimed_name, config)], "its content has another digest"),
        (&[("oci-layout", oci), ("index.json", index)], "and it is not there"),
        (&[("oci-layout", oci), ("index.json", index), (blob, b"{}")], "its content has another digest"),
        (&[("oci-layout", oci), ("index.json", br#"{"schemaVersion":2}"#)], "names none"),
    ];
    for (members, said) in cases {
        let path = forged(&world, members);
        let refused = world.sbx(["load", "-i"]).arg(&path).expect_code(125);
        let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        if *said != "l.tar" {
            assert!(refused.stderr().contains(said), "{names:?}: {}", refused.stderr());
        }
        // The same through a pipe.
        world.sbx(["load"]).stdin_from(fs::File::open(&path).unwrap()).expect_code(125);
        assert_eq!(layers(&world), Vec::<String>::new(), "{names:?}");
    }
    world.sbx(["images", "-aq"]).expect_code(0).stdout_is("");
}

#[test]
fn an_archive_that_ends_early_loads_nothing() {
    let world = sbx();
    for kind in ["docker-archive", "oci-archive"] {
        let path = archive(&world, &images().busybox(), kind);
        let whole = fs::read(&path).unwrap();
        let half = world.file("half.tar", &whole[..whole.len() / 2]);
        world.sbx(["load", "-i"]).arg(&half).expect_code(125);
        world.sbx(["load"]).stdin(&whole[..whole.len() / 2]).expect_code(125);
        assert_eq!(layers(&world), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn terminals_are_refused() {
    let world = sbx();
    load(&world, &archive(&world, &images().busybox(), "oci-archive"));
    world.pty(["save", "test:1"]).expect("cowardly refusing to save to a terminal");
    world.pty(["load"]).expect("cannot load an archive from a terminal");
}

#[test]
fn a_file_is_whole_or_not_there() {
    let world = sbx();
    load(&world, &archive(&world, &images().busybox(), "oci-archive"));
    let blob = fs::read_dir(world.store().join("oci/blobs/sha256")).unwrap().flatten();
    let largest = blob.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path();
    let size = fs::metadata(&largest).unwrap().len();
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, vec![1; size as usize]).unwrap();
    let out = world.work().join("out.tar");
    world.sbx(["save", "-o"]).arg(&out).arg("test:1").expect_code(125).stderr_has("another digest");
    assert!(!out.exists());
    assert!(
        fs::read_dir(world.work())
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    );
    world
        .sbx(["save", "-o"])
        .arg(&out)
        .arg("nothing")
        .expect_code(125)
        .stderr_has("there is no image `nothing`");
}

#[test]
fn layers_unpack_in_the_single_tier_too() {
    let world = sbx();
    let path = archive(&world, &images().debian(), "oci-archive");
    world.sbx(["load", "-q", "--id-tier", "single", "-i"]).arg(&path).expect_code(0);
    assert_eq!(layers(&world).len(), 1);
}

#[test]
fn what_is_no_archive_is_named_and_not_quoted() {
    let world = sbx();
    let text = "root:x:0:0:root:/root:/bin/bash\n".repeat(64);
    let file = world.file("passwd", text);
    let refused = world.sbx(["load", "-i"]).arg(&file).expect_code(125);
    refused.stderr_has(&format!("cannot load from `{}`", file.display())).stderr_has("no tar archive");
    let refused = world.sbx(["load", "-i"]).arg(&file).expect_code(125);
    assert!(!refused.stderr().contains("bash"), "{}", refused.stderr());
    world.sbx(["load", "x.tar"]).expect_code(125).stderr_has("`sbx load` does not take `x.tar`");
}

#[test]
fn an_image_with_another_manifest_is_listed_once() {
    let world = sbx();
    let (busybox, name) = (images().busybox(), "docker.io/library/tool:1");
    world.put_image(&busybox, name);
    let archive = world.work().join("tool.tar");
    let target = format!("docker-archive:{}:{name}", archive.display());
    let skopeo = world.program(require("skopeo")).args(["--insecure-policy", "copy", "--quiet"]);
    skopeo.arg(busybox.skopeo()).arg(target).expect_code(0);
    world.sbx(["load", "-q", "-i"]).arg(&archive).expect_code(0).stdout_is("Loaded image: tool:1\n");
    let list =
        |options: &[&str]| world.sbx(["images", "--noheading"]).args(options).succeed().lines().count();
    assert_eq!((list(&[]), list(&["-f", "dangling=true"]), list(&["--digests"])), (1, 0, 2));
}
