//! `sbx login`, `logout` and `search`, against a registry with a password.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Message, Registry, Sbx, Server, sbx};

fn auth_file(world: &Sbx) -> std::path::PathBuf {
    world.runtime().join("containers/auth.json")
}

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file")).expect("JSON")
}

#[test]
fn a_password_from_standard_input_is_verified_and_kept() {
    let (world, registry) = (sbx(), Registry::with_auth("me", "secret"));
    let address = registry.address();
    let login = ["login", "-u", "me", "--password-stdin", address];
    world.sbx(login).stdin("secret\n").expect_code(0).stdout_is("Login Succeeded!\n").stderr_is("");
    let path = auth_file(&world);
    assert_eq!(json_of(&path)["auths"][address]["auth"], "bWU6c2VjcmV0");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    world.sbx(["login", "--get-login", address]).expect_code(0).stdout_is("me\n");
    world.sbx(["login", address]).expect_code(0).stdout_has("Already logged in to");

    world
        .sbx(login)
        .stdin("wrong")
        .expect_code(125)
        .stdout_is("")
        .stderr_has("refuses the password of the user `me`");
    world.sbx(["login", "--get-login", address]).expect_code(0).stdout_is("me\n");

    let removed = format!("Removed login credentials for {address}\n");
    world.sbx(["logout", address]).expect_code(0).stdout_is(&removed);
    world.sbx(["logout", address]).expect_code(125).stderr_has("nobody is logged in");
    world.sbx(["login", "--get-login", address]).expect_code(125).stderr_has("nobody is logged in");
}

#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let (world, registry) = (sbx(), Registry::with_auth("me", "secret"));
    let file = world.work().join("auth.json");
    world
        .sbx(["login", "-u", "me", "-p", "secret", "-v", "--authfile"])
        .arg(&file)
        .arg(registry.address())
        .expect_code(0)
        .stdout_has("Used: ")
        .stderr_has("others on this machine can see");
    assert!(!auth_file(&world).exists());
    world.sbx(["logout", "--all", "--authfile"]).arg(&file).expect_code(0).stdout_has("all registries");
    assert_eq!(json_of(&file), json!({ "auths": {} }));
}

#[test]
fn nobody_is_asked_where_there_is_no_terminal() {
    let world = sbx();
    let refused = world.sbx(["login", "127.0.0.1:1"]).expect_code(125);
    refused.stderr_has("standard input is no terminal").stderr_has("--password-stdin");
    world.sbx(["login", "--password-stdin", "127.0.0.1:1"]).expect_code(125);
}

#[test]
fn the_terminal_does_not_show_the_password() {
    let (world, registry) = (sbx(), Registry::with_auth("me", "secret"));
    let mut pty = world.pty(["login", registry.address()]);
    pty.expect("Username: ");
    pty.send("me\n");
    pty.expect("Password: ");
    pty.send("secrex\x7ft\n");
    pty.expect("Login Succeeded!");
    assert_eq!(pty.finish(), 0);
    let screen = pty.screen();
    assert!(!screen.contains("secre"), "{screen}");

    let mut pty = world.pty(["login", "-u", "me", registry.address()]);
    pty.expect("Password: ");
    pty.send("sec\x03");
    pty.expect("interrupted");
    assert_eq!(pty.finish(), 130);
}

#[test]
fn a_helper_keeps_what_the_configuration_says() {
    let (world, registry) = (sbx(), Registry::with_auth("me", "secret"));
    let address = registry.address();
    let kept = world.work().join("kept");
    let helper = format!(
        r#"#!/bin/sh
f={}
case $1 in
store) cat >$f ;;
get) [ -s $f ] && cat $f || {{ echo "credentials not found in native keychain"; exit 1; }} ;;
erase) rm -f $f ;;
list) echo '{{}}' ;;
esac
"#,
        kept.display()
    );
    world.script("bin/docker-credential-test", &helper);
    let path =
        std::env::join_paths([world.work().join("bin"), "/usr/bin".into(), "/bin".into()]).expect("a path");
    let config = world.file("docker/config.json", json!({ "credsStore": "test", "x": 1 }).to_string());
    let sbx = |args: &[&str]| {
        world.sbx(args).env("PATH", &path).env("DOCKER_CONFIG", config.parent().expect("a directory"))
    };
    sbx(&["login", "-u", "me", "--password-stdin", address]).stdin("secret").expect_code(0);
    assert_eq!(json_of(&kept), json!({ "ServerURL": address, "Username": "me", "Secret": "secret" }));
    assert_eq!(json_of(&config), json!({ "credsStore": "test", "x": 1 }));
    sbx(&["login", address]).expect_code(0).stdout_has("Already logged in");
    sbx(&["search", "--list-tags", &format!("{address}/missing")])
        .expect_code(125)
        .stderr_has("has no repository `missing`");
    sbx(&["logout", address]).expect_code(0);
    assert!(!kept.exists());

    let missing = world.file("other/config.json", r#"{"credHelpers":{"a.io":"missing"}}"#);
    world
        .sbx(["login", "--get-login", "a.io"])
        .env("DOCKER_CONFIG", missing.parent().expect("a directory"))
        .expect_code(125)
        .stderr_has("there is no program `docker-credential-missing`");
}

#[test]
fn tags_are_listed() {
    let (world, registry) = (sbx(), Registry::start());
    registry.put_image("a/b", "1");
    let name = format!("{}/a/b", registry.address());
    let table = world.sbx(["search", "--list-tags", &name]).succeed();
    assert_eq!(
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
        [vec!["NAME", "TAG"], vec![&name, "1"]]
    );
    assert_eq!(world.sbx(["search", "--list-tags", "--format", "{{.Tag}}", &name]).succeed(), "1");
    // Debian's registry has no search; its catalog is looked through.
    let found =
        world.sbx(["search", "--format", "{{.Name}}", &format!("{}/b", registry.address())]).succeed();
    assert_eq!(found, name);
}

#[test]
fn search_asks_every_registry_of_the_configuration() {
    let results = json!({ "results": [
        { "name": "debian", "description": "line one\nline two that is so long that it has to be cut off", "star_count": 7, "is_official": true },
        { "name": "me/debian", "star_count": 1, "is_automated": true },
    ]});
    let server = Server::answering(move |request| match request.target() {
        "/v1/search?q=debian&n=25" | "/v1/search?q=debian&n=1" => Message::answer(200, results.to_string()),
        _ => Message::answer(404, ""),
    });
    let address = server.address();
    let world = sbx();
    let config = world.file("registries.conf", format!("unqualified-search-registries = ['{address}']"));
    let world = world.env("CONTAINERS_REGISTRIES_CONF", &config);
    let table = world.sbx(["search", "debian"]).succeed();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("STARS   OFFICIAL"), "{table}");
    assert!(
        lines[1].contains("line one line two") && lines[1].contains('…') && lines[1].ends_with("[OK]"),
        "{table}"
    );
    assert_eq!(lines.len(), 3);
    let names =
        |filter: &str| world.sbx(["search", "-f", filter, "--format", "{{.Name}}", "debian"]).succeed();
    assert_eq!(names("stars=2"), format!("{address}/debian"));
    assert_eq!(names("is-official=false"), format!("{address}/me/debian"));
    assert_eq!(names("is-automated"), format!("{address}/me/debian"));
    let one = world.sbx(["search", "--limit", "1", "--no-trunc", "--format", "json", "debian"]).succeed();
    let one: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(one.as_array().expect("a list").len(), 1);
    assert!(one[0]["Description"].as_str().expect("text").ends_with("cut off"));
    for wrong in [&["--limit", "0"], &["-f", "stars=x"], &["-f", "color=red"]] {
        world.sbx(["search"]).args(wrong).arg("debian").expect_code(125);
    }
}

#[test]
fn a_wrong_configuration_is_named_by_file_and_line() {
    let world = sbx();
    let config = world.file("registries.conf", "\n[[registry]]\nlocation = 7\n");
    world
        .sbx(["search", "x"])
        .env("CONTAINERS_REGISTRIES_CONF", &config)
        .expect_code(125)
        .stderr_has("cannot use line 3 of")
        .stderr_has("registries.conf`");
}
