//! The cache in a registry, a directory or an image: what one user has built another need not.

use std::fs;
use std::path::{Path, PathBuf};

use sbx::image::digest::Digest;
use serde_json::{Value, json};

use super::{Kitchen, kitchen};
use crate::harness::Registry;

const UUID: &str = "cat /proc/sys/kernel/random/uuid";

/// Two stages, a command that changes nothing, files, and the context mounted.
fn dockerfile(last: &str) -> String {
    format!(
        "FROM base AS one\nWORKDIR /w\nRUN {UUID} >/u && chown 3:4 /u\nFROM base\nRUN true\nCOPY f /f\n\
         COPY --from=one /u /u\nRUN --mount=target=/ctx {UUID} >/v && cat /ctx/f >>/v # {last}\n"
    )
}

/// A kitchen with the file `f`.
fn with_file() -> Kitchen {
    let kitchen = kitchen();
    kitchen.file("f", "content").file(".dockerignore", "Dockerfile\n");
    kitchen
}

/// Builds the image `made`; how many steps were found in a cache.
fn cached(kitchen: &Kitchen, last: &str, options: &[&str]) -> usize {
    let all = [&["-t", "made", "--tls-verify=false"], options].concat();
    kitchen.build(&dockerfile(last), &all).expect_code(0).stderr().matches("Using cache").count()
}

fn files(kitchen: &Kitchen) -> String {
    kitchen.shell("cat /u /v /f; stat -c %u:%g /u; ls -d /w 2>/dev/null")
}

#[test]
fn another_store_finds_all_steps_in_a_registry() {
    let (here, there, registry) = (with_file(), with_file(), Registry::start());
    let name = format!("{}/cache:1", registry.address());
    assert_eq!(cached(&here, "", &["--cache-to", &format!("type=registry,ref={name},mode=max")]), 0);
    // Also one that keeps owners otherwise; the time of a file is no content.
    there.file("f", "content");
    let from = format!("type=registry,ref={name}");
    assert_eq!(cached(&there, "", &["--cache-from", &from, "--id-tier", "single"]), 6);
    assert_eq!(files(&there), files(&here));
    // It has them now itself.
    assert_eq!(cached(&there, "", &[]), 6);
    // One step is another.
    let third = with_file();
    assert_eq!(cached(&third, "changed", &["--cache-from", &name]), 5);
    assert_eq!(cached(&third, "changed", &["--cache-from", &name, "--no-cache"]), 0);
}

#[test]
fn a_repository_has_a_tag_for_each_step_as_podman_has_it() {
    let (here, there, registry) = (with_file(), with_file(), Registry::start());
    let name = format!("{}/steps", registry.address());
    assert_eq!(cached(&here, "", &["--cache-to", &name, "--cache-from", &name]), 0);
    assert_eq!(cached(&there, "", &["--cache-from", &name, "--cache-to", &name]), 6);
    assert_eq!(files(&there), files(&here));
    assert_eq!(cached(&with_file(), "x", &["--cache-from", &name]), 5);
}

#[test]
fn an_image_brings_its_own_steps() {
    let (here, there, registry) = (with_file(), with_file(), Registry::start());
    let name = format!("{}/app:latest", registry.address());
    let options = ["-q", "-t", &name, "--push", "--cache-to", "type=inline", "--tls-verify=false"];
    here.build(&dockerfile(""), &options).succeed();
    let dockerfile = "FROM base\nRUN true\nCOPY f /f\nRUN echo more >/more\n";
    let from = format!("type=registry,ref={name}");
    let said =
        there.build(dockerfile, &["--tls-verify=false", "--cache-from", &from]).expect_code(0).stderr();
    assert_eq!(said.matches("Using cache").count(), 2, "{said}");
    // So BuildKit lets it be asked for, too.
    let by_argument = format!("{}/app:argument", registry.address());
    let argument = ["--build-arg", "BUILDKIT_INLINE_CACHE=1", "--push", "--tls-verify=false"];
    here.build(&self::dockerfile(""), &[&["-q", "-t", &by_argument], &argument[..]].concat()).succeed();
    let third = with_file();
    let from = format!("type=registry,ref={by_argument}");
    let said =
        third.build(dockerfile, &["--tls-verify=false", "--cache-from", &from]).expect_code(0).stderr();
    assert_eq!(said.matches("Using cache").count(), 2, "{said}");
    there.world.sbx(["pull", "--tls-verify=false", "-q", &name]).expect_code(0);
    // An image without is none.
    let plain = format!("{}/app:plain", registry.address());
    there.build("FROM base\n", &["-q", "-t", &plain, "--push", "--tls-verify=false"]).succeed();
    let said =
        there.build("FROM base\n", &["--tls-verify=false", "--cache-from", &plain]).expect_code(0).stderr();
    assert!(said.contains("holds no steps of a build"), "{said}");
}

#[test]
fn a_directory_takes_a_cache_too() {
    let (here, there) = (with_file(), with_file());
    let directory = here.world.directory().join("cache");
    let (to, from) = (
        format!("type=local,mode=max,dest={}", directory.display()),
        format!("type=local,src={}", directory.display()),
    );
    for last in ["first", "second"] {
        cached(&here, last, &["--cache-to", &to]);
    }
    assert_eq!(cached(&there, "second", &["--cache-from", &from]), 6);
    assert_eq!(files(&there), files(&here));
    let left = fs::read_dir(&directory).expect("a directory").count();
    assert_eq!(left, 3, "blobs, index.json and oci-layout");
    let old = with_file();
    assert_eq!(cached(&old, "second", &["--cache-from", &from, "--cache-ttl", "0s"]), 0);
    assert_eq!(cached(&old, "second", &["--cache-ttl", "1h"]), 6);
}

#[test]
fn a_cache_that_is_not_there_stops_nothing() {
    let (kitchen, registry) = (with_file(), Registry::start());
    let name = format!("{}/none:1", registry.address());
    let said =
        kitchen.build("FROM base\n", &["--tls-verify=false", "--cache-from", &name]).expect_code(0).stderr();
    assert!(said.contains("There is no cache yet: "), "{said}");
    for gone in ["127.0.0.1:9/x:1", "127.0.0.1:9/x"] {
        let options = ["--cache-from", gone, "--tls-verify=false", "--retry", "0"];
        let said = kitchen.build(&format!("FROM base\nRUN {UUID} >/u\nRUN {UUID} >/v # {gone}\n"), &options);
        let said = said.expect_code(0).stderr();
        assert_eq!(said.matches("Warning: ").count(), 1, "{said}");
    }
    let to = "type=registry,ref=127.0.0.1:9/x";
    let retry = ["--retry", "0", "--tls-verify=false"];
    kitchen
        .build("FROM base\n", &[&["--cache-to", to], &retry[..]].concat())
        .expect_code(125)
        .stderr_has("127.0.0.1:9");
    let ignored = format!("{to},ignore-error=true");
    kitchen
        .build("FROM base\n", &[&["--cache-to", &ignored], &retry[..]].concat())
        .expect_code(0)
        .stderr_has("Warning: ");
}

/// The documents of a cache in a directory, to be written anew.
fn forge(layout: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let blob = |digest: &Value| {
        layout.join("blobs/sha256").join(digest.as_str().expect("a digest").trim_start_matches("sha256:"))
    };
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).expect("a file")).expect("JSON");
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let mut config = read(&blob(&manifest["config"]["digest"]));
    change(&mut manifest, &mut config);
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).expect("JSON");
        let digest = json!(Digest::of(&bytes));
        fs::write(blob(&digest), &bytes).expect("cannot write a blob");
        (digest, bytes.len())
    };
    let (digest, size) = put(&config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest, size.into());
    let (digest, size) = put(&manifest);
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (digest, size.into());
    fs::write(layout.join("index.json"), index.to_string()).expect("cannot write the index");
}

#[test]
fn a_forged_cache_gives_no_wrong_files() {
    let here = kitchen();
    let text = format!("FROM base\nRUN {UUID} >/u\nRUN {UUID} >/v\n");
    let directory = here.world.directory().join("cache");
    let original = here.world.directory().join("original");
    here.build(&text, &["-q", "--cache-to", &format!("type=local,dest={}", original.display())]).succeed();
    let from = format!("type=local,src={}", directory.display());
    let swap = |list: &mut Value| list.as_array_mut().expect("a list").swap(0, 1);
    let forgeries: [(&str, &dyn Fn()); 6] = [
        ("diff IDs are those of others", &|| {
            forge(&directory, |_, config| swap(&mut config["rootfs"]["diff_ids"]));
        }),
        ("blobs are those of others", &|| forge(&directory, |manifest, _| swap(&mut manifest["layers"]))),
        ("sizes are wrong", &|| {
            forge(&directory, |manifest, _| {
                manifest["layers"][0]["size"] = 7.into();
                manifest["layers"][1]["size"] = 1_000_000_000_u64.into();
            });
        }),
        ("a blob was changed", &|| {
            for entry in fs::read_dir(directory.join("blobs/sha256")).expect("a directory") {
                let path = entry.expect("an entry").path();
                let mut bytes = fs::read(&path).expect("a blob");
                if !bytes.starts_with(b"{") {
                    bytes[0] ^= 1;
                    fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).expect("cannot write");
                }
            }
        }),
        ("keys are none", &|| {
            forge(&directory, |_, config| {
                config["sbx.build-cache"]["records"][0]["key"] = "sha256:../../x".into();
            });
        }),
        ("there are no such layers", &|| {
            forge(&directory, |_, config| {
                config["sbx.build-cache"]["records"][0]["layer"] = 99.into();
            });
        }),
    ];
    for (what, forge_it) in forgeries {
        let _ = fs::remove_dir_all(&directory);
        let copied = std::process::Command::new("cp").arg("-r").args([&original, &directory]).status();
        assert!(copied.expect("cp starts").success());
        forge_it();
        let there = kitchen();
        let said = there.build(&text, &["-t", "made", "--cache-from", &from]).expect_code(0).stderr();
        assert!(said.contains("Warning: ") && !said.contains("Using cache"), "{what}: {said}");
        // What was carried out instead is right, and stays.
        assert_eq!(there.shell("wc -c </u; wc -c </v; ls / | grep -c '^[uv]$'"), "37\n37\n2", "{what}");
        let again = there.build(&text, &["-t", "made", "--cache-from", &from]).expect_code(0).stderr();
        assert_eq!(again.matches("Using cache").count(), 2, "{what}: {again}");
    }
}

#[test]
fn no_cache_says_what_is_mounted() {
    let secret = kitchen();
    secret.file("secret/f", "of the host");
    let text = |last: &str| format!("FROM base\nRUN --mount=target=/m cat /m/f >/got # {last}\n");
    let here = with_file();
    let directory = here.world.directory().join("cache");
    here.build(&text(""), &["-q", "--cache-to", &format!("type=local,dest={}", directory.display())])
        .succeed();
    // What only an attacker offers: a layer for the key under which the mounted files are kept.
    let mut archive = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "mounted", secret.context().join("secret")).expect("a Vec takes all");
    let layer = archive.into_inner().expect("a Vec takes all");
    let digest = Digest::of(&layer);
    fs::write(directory.join("blobs/sha256").join(digest.hex()), &layer).expect("cannot write a blob");
    let mut added = 0;
    forge(&directory, |manifest, config| {
        let layers = manifest["layers"].as_array_mut().expect("a list");
        let kind = "application/vnd.oci.image.layer.v1.tar";
        layers.push(json!({ "mediaType": kind, "digest": digest, "size": layer.len() }));
        let at = layers.len() - 1;
        config["rootfs"]["diff_ids"].as_array_mut().expect("a list").push(json!(digest));
        let records = config["sbx.build-cache"]["records"].as_array_mut().expect("a list");
        for step in fs::read_dir(here.world.store().join("build/steps")).expect("a directory") {
            let name = step.expect("an entry").file_name();
            let key = format!("sha256:{}", name.to_str().expect("a digest"));
            if !records.iter().any(|record| record["key"] == key.as_str()) {
                records.push(json!({ "key": key, "layer": at }));
                added += 1;
            }
        }
    });
    assert_eq!(added, 1, "the files that are mounted have a key");
    let there = with_file();
    let from = format!("type=local,src={}", directory.display());
    there.build(&text("again"), &["-q", "-t", "made", "--cache-from", &from]).succeed();
    assert_eq!(there.shell("cat /got"), "content");
    // And one that came in nevertheless is not followed.
    let find = there.world.program("find").arg(there.world.store().join("layers"));
    let mounted = PathBuf::from(find.args(["-path", "*/fs/mounted", "-prune", "-print"]).succeed());
    fs::rename(&mounted, mounted.with_extension("away")).expect("cannot rename");
    std::os::unix::fs::symlink(secret.context().join("secret"), &mounted).expect("cannot link");
    let options = ["-t", "made", "--cache-from", &from];
    there.build(&text("once more"), &options).expect_code(125).stderr_has("sbx builder prune");
}

#[test]
fn a_cache_of_pipes_is_not_waited_for() {
    let (here, there) = (with_file(), with_file());
    let directory = here.world.directory().join("cache");
    let from = format!("type=local,src={}", directory.display());
    let mkfifo = |path: &Path| {
        let _ = fs::remove_file(path);
        here.world.program("mkfifo").arg(path).expect_code(0);
    };
    cached(&here, "", &["--cache-to", &format!("type=local,dest={}", directory.display())]);
    let index = fs::read(directory.join("index.json")).expect("a file");
    mkfifo(&directory.join("index.json"));
    let said = there.build("FROM base\n", &["--cache-from", &from]).expect_code(0).stderr();
    assert!(said.contains("Warning: ") && said.contains("it is not a file"), "{said}");
    fs::remove_file(directory.join("index.json")).expect("a pipe");
    fs::write(directory.join("index.json"), index).expect("cannot write the index");
    for blob in fs::read_dir(directory.join("blobs/sha256")).expect("a directory") {
        let path = blob.expect("an entry").path();
        if !fs::read(&path).expect("a blob").starts_with(b"{") {
            mkfifo(&path);
        }
    }
    assert_eq!(cached(&there, "", &["--cache-from", &from]), 1, "the step that changes nothing has no layer");
}
