//! `sbx secret`, and `--secret` of `sbx run`

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Run, Sbx, rootfs, sbx};

fn run<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none", "--rootfs"]).arg(rootfs()).args(words)
}

/// A world with the secret `key`.
fn with_key() -> Sbx {
    let world = sbx();
    world.sbx(["secret", "create", "key", "-"]).stdin("0pen sesame").expect_code(0);
    world
}

#[test]
fn a_secret_is_made_listed_looked_at_and_removed() {
    let world = sbx();
    assert_eq!(world.sbx(["secret", "ls"]).succeed(), "ID   NAME   DRIVER   CREATED   UPDATED");
    let file = world.file("data", "from a file");
    let id = world.sbx(["secret", "create", "-l", "a=b", "one"]).arg(file).succeed();
    assert!(id.len() == 25 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let other = world.sbx(["secret", "create", "two", "-"]).stdin("from standard input").succeed();
    world.sbx(["secret", "create", "--env", "three", "DATA"]).env("DATA", "from a variable").expect_code(0);
    let shown = |name: &str| {
        world.sbx(["secret", "inspect", "--showsecret", "-f", "{{.SecretData}}", name]).succeed()
    };
    assert_eq!(
        (&*shown("one"), &*shown("two"), &*shown("three")),
        ("from a file", "from standard input", "from a variable")
    );
    assert_eq!(shown(&id[..6]), "from a file");
    let listed = world.sbx(["secret", "ls", "--format", "{{.Name}} {{.Driver}}"]).succeed();
    assert_eq!(listed, "one file\nthree file\ntwo file");
    assert_eq!(world.sbx(["secret", "ls", "-q", "--filter", "label=a"]).succeed(), id);
    assert!(world.sbx(["secret", "list", "--noheading"]).succeed().starts_with(&id));
    let document: Value =
        serde_json::from_str(&world.sbx(["secret", "inspect", "one"]).succeed()).expect("JSON");
    assert_eq!(document[0]["ID"], id.as_str());
    assert_eq!(document[0]["Spec"]["Name"], "one");
    assert_eq!(document[0]["Spec"]["Labels"]["a"], "b");
    assert!(document[0].get("SecretData").is_none(), "nobody asked for the data");
    world.sbx(["secret", "exists", "one"]).expect_code(0);
    assert_eq!(world.sbx(["secret", "rm", "one", "two"]).succeed(), format!("{id}\n{other}"));
    world.sbx(["secret", "exists", "one"]).expect_code(1);
    world.sbx(["secret", "rm", "one"]).expect_code(1).stderr_has("no secret `one`");
    world.sbx(["secret", "rm", "-i", "one"]).expect_code(0);
    world.sbx(["secret", "inspect", "one"]).expect_code(1).stdout_is("[]\n");
    world.sbx(["secret", "rm", "--all"]).expect_code(0);
    assert_eq!(world.sbx(["secret", "ls", "-q"]).succeed(), "");
    let told = world.sbx([
        "events",
        "--stream=false",
        "--filter",
        "type=secret",
        "--format",
        "{{.Status}} {{.Name}}",
    ]);
    assert_eq!(told.succeed(), "create one\ncreate two\ncreate three\nremove one\nremove two\nremove three");
}

#[test]
fn what_can_be_no_secret_is_refused() {
    let world = with_key();
    let create = |words: &[&str]| world.sbx(["secret", "create"]).args(words).stdin("x");
    create(&["key", "-"]).expect_code(125).stderr_has("the name is in use").stderr_has("Hint: ");
    create(&["--replace", "key", "-"]).expect_code(0);
    create(&["a/b", "-"]).expect_code(125).stderr_has("`/` cannot be in it");
    create(&["x", "/no/such"]).expect_code(125).stderr_has("/no/such");
    create(&["--env", "x", "NOT_SET"]).expect_code(125).stderr_has("not set");
    create(&["--driver", "pass", "x", "-"]).expect_code(125);
    create(&["--label", "=b", "x", "-"]).expect_code(125).stderr_has("--label");
    world.sbx(["secret", "create", "x", "-"]).stdin("").expect_code(125).stderr_has("0 bytes");
    world.sbx(["secret", "create", "x", "-"]).stdin(vec![0; 512_001]).expect_code(125).stderr_has("512000");
    assert_eq!(world.sbx(["secret", "ls", "--format", "{{.Name}}"]).succeed(), "key");
}

#[test]
fn a_container_finds_its_secrets_in_files() {
    let world = with_key();
    world.sbx(["secret", "create", "binary", "-"]).stdin(b"\0\xff\n").expect_code(0);
    run(
        &world,
        &["--secret", "key", "sh", "-c", "cat /run/secrets/key; stat -c ' %a %u:%g' /run/secrets/key"],
    )
    .expect_code(0)
    .stdout_is("0pen sesame 444 0:0\n");
    let bytes = run(&world, &["--secret", "binary", "cat", "/run/secrets/binary"]).expect_code(0);
    assert_eq!(bytes.stdout_bytes(), b"\0\xff\n");
    let options =
        ["--secret", "key,target=a/b,uid=33,gid=34,mode=0440", "--secret", "source=key,target=/etc/app/key"];
    let script = "cat /run/secrets/a/b /etc/app/key; stat -c ' %a %u:%g' /run/secrets/a/b; ls -A /run/secrets /etc/app";
    run(&world, &[&options[..], &["sh", "-c", script]].concat())
        .expect_code(0)
        .stdout_is("0pen sesame0pen sesame 440 33:34\n/etc/app:\nkey\n\n/run/secrets:\na\n");
    // By the beginning of its ID the file has what was typed as its name.
    let id = world.sbx(["secret", "inspect", "-f", "{{.ID}}", "key"]).succeed();
    run(&world, &["--secret", &id, "cat", &format!("/run/secrets/{id}")])
        .expect_code(0)
        .stdout_is("0pen sesame");
    world.assert_clean();
}

#[test]
fn nobody_changes_them_and_other_mounts_find_their_places() {
    let world = with_key();
    let more = world.file("more", "bound");
    let bound = format!("{}:/run/secrets/more", more.display());
    let script =
        "cat /run/secrets/key /run/secrets/more; ! echo x > /run/secrets/new && ! rm /run/secrets/key";
    for options in [&["--read-only"][..], &["--tmpfs", "/run"], &[]] {
        run(&world, &[&["--secret", "key", "-v", &bound], options, &["sh", "-c", script]].concat())
            .expect_code(0)
            .stdout_is("0pen sesamebound");
    }
    let mounted =
        run(&world, &["--secret", "key,target=/key", "--secret", "key", "cat", "/proc/mounts"]).succeed();
    for target in ["/key", "/run/secrets"] {
        let line = mounted.lines().find(|line| line.split(' ').nth(1) == Some(target)).expect(target);
        let options: Vec<&str> = line.split(' ').nth(3).expect("options").split(',').collect();
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(options.contains(&option), "{line}");
        }
    }
}

#[test]
fn every_map_of_users_gets_them() {
    let world = with_key();
    for userns in ["keep-id", "auto", "nomap", "host"] {
        let options = ["--userns", userns, "--secret", "key", "--secret", "key,type=env,target=KEY"];
        let script = "cat /run/secrets/key; echo \" $KEY\"";
        run(&world, &[&options[..], &["sh", "-c", script]].concat())
            .expect_code(0)
            .stdout_is("0pen sesame 0pen sesame\n");
    }
    run(&world, &["--id-tier", "single", "--secret", "key", "cat", "/run/secrets/key"])
        .expect_code(0)
        .stdout_is("0pen sesame");
    run(&world, &["--id-tier", "single", "--secret", "key,uid=33", "true"])
        .expect_code(125)
        .stderr_has("owner cannot be 33:0");
}

#[test]
fn a_secret_is_a_variable_that_no_record_has() {
    let world = with_key();
    let script = "echo \"$KEY|$key|$OTHER\"";
    run(
        &world,
        &[
            "-e",
            "KEY=from an option",
            "--secret",
            "key,type=env,target=KEY",
            "-e",
            "OTHER=x",
            "sh",
            "-c",
            script,
        ],
    )
    .expect_code(0)
    .stdout_is("0pen sesame||x\n");
    world.sbx(["secret", "create", "binary", "-"]).stdin(b"a\0b").expect_code(0);
    run(&world, &["--secret", "binary,type=env", "true"]).expect_code(125).stderr_has("NUL byte");
    world
        .run([
            "--name",
            "kept",
            "--secret",
            "key,type=env,target=KEY",
            "--secret",
            "key",
            "--net",
            "none",
            "--rootfs",
        ])
        .arg(rootfs())
        .arg("true")
        .expect_code(0);
    let shown = world.sbx(["inspect", "kept"]).succeed();
    assert!(shown.contains("KEY=*******") && !shown.contains("sesame"), "{shown}");
    let secrets =
        world.sbx(["inspect", "-f", "{{range .Config.Secrets}}{{.Name}} {{.Mode}}{{end}}", "kept"]).succeed();
    assert_eq!(secrets, "key 292");
    let mounts = world.sbx(["inspect", "-f", "{{len .Mounts}}", "kept"]).succeed();
    assert_eq!(mounts, "0");
}

#[test]
fn the_data_is_in_files_of_the_owner_alone_and_in_no_layer() {
    let world = with_key();
    world
        .run([
            "--name",
            "kept",
            "--secret",
            "key",
            "--secret",
            "key,target=/etc/key",
            "--net",
            "none",
            "--rootfs",
        ])
        .arg(rootfs())
        .args(["sh", "-c", "cat /run/secrets/key > /dev/null; touch /written"])
        .expect_code(0);
    let mut found = Vec::new();
    files_with(&world.store(), &["0pen sesame", "MHBlbiBzZXNhbWU"], &mut found);
    found.sort();
    let names: Vec<&str> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["secrets.json", "s.key"], "{found:?}");
    for path in &found {
        let mode = fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    world.sbx(["rm", "kept"]).expect_code(0);
    world.sbx(["secret", "rm", "key"]).expect_code(0);
    let mut found = Vec::new();
    files_with(&world.store(), &["0pen sesame", "MHBlbiBzZXNhbWU"], &mut found);
    assert!(found.is_empty(), "{found:?}");
}

fn files_with(directory: &Path, texts: &[&str], found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            files_with(&entry.path(), texts, found);
        } else if kind.is_file()
            && let Ok(content) = fs::read(entry.path())
        {
            let content = String::from_utf8_lossy(&content).into_owned();
            if texts.iter().any(|text| content.contains(text)) {
                found.push(entry.path());
            }
        }
    }
}

#[test]
fn a_secret_that_is_not_there_is_told_before_anything_is_made() {
    let world = with_key();
    run(&world, &["--secret", "nothing", "true"]).expect_code(125).stderr_has("no secret `nothing`");
    run(&world, &["--secret", "key", "--secret", "key", "true"]).expect_code(125).stderr_has("same target");
    run(&world, &["--secret", "key,mode=abc", "true"]).expect_code(125).stderr_has("octal digits");
    world.assert_clean();
}

#[test]
fn a_link_of_the_image_leads_nowhere_outside() {
    let world = with_key();
    let root = world.own_rootfs();
    let outside = world.file("outside", "untouched");
    std::os::unix::fs::symlink("../../../../../../../../tmp", root.join("up")).expect("a link");
    std::os::unix::fs::symlink(&outside, root.join("file")).expect("a link");
    let targets = ["key,target=/up/key", "key,target=/file"];
    world
        .run(["--rm", "--net", "none", "--secret", targets[0], "--secret", targets[1], "--rootfs"])
        .arg(&root)
        .args(["cat", "/tmp/key", "/file"])
        .expect_code(0)
        .stdout_is("0pen sesame0pen sesame");
    assert_eq!(fs::read_to_string(outside).expect("the file"), "untouched");
}
