//! ADD of git repositories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Kitchen, kitchen};
use crate::harness::{Message, Repository, Server, backend, git_daemon, git_over_http};

impl Kitchen {
    fn repositories(&self) -> std::path::PathBuf {
        self.world.directory().join("git")
    }
}

#[test]
fn the_files_of_a_branch_tag_or_commit_are_added() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    repository.file("README", "first").file("docs/a", "a").file("tool", "#!");
    let tool = fs::Permissions::from_mode(0o755);
    fs::set_permissions(repository.directory.join("tool"), tool).expect("a mode");
    symlink("docs/a", repository.directory.join("link")).expect("a symlink");
    let first = repository.commit();
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    repository.file("README", "second").commit();
    repository.git(&["checkout", "-q", "-b", "topic/x", "v1"]);
    repository.file("README", "topic").commit();
    repository.git(&["checkout", "-q", "main"]);
    let server = git_over_http(&kitchen.repositories());
    let url = format!("http://{}/one/.git", server.address());
    kitchen.made(&format!(
        "FROM base\nADD {url} /head\nADD {url}#v1 /tag\nADD {url}#{first}:docs /docs\nADD {url}#topic/x /topic/\n\
         ADD {url}#{} /short\nADD --chown=7:8 --exclude=docs {url} /mine\n",
        &first[..10]
    ));
    let found = kitchen.shell(
        "cat /head/README /tag/README /topic/README /short/README; cd /head; \
         stat -c '%n %a %u:%g %Y' README tool docs; readlink link; ls -a /docs /mine; stat -c '%u:%g' /mine/README",
    );
    assert_eq!(
        found,
        "secondfirsttopicfirstREADME 644 0:0 1500000000\ntool 755 0:0 1500000000\ndocs 755 0:0 1500000000\ndocs/a\n\
         /docs:\n.\n..\na\n\n/mine:\n.\n..\nREADME\nlink\ntool\n7:8"
    );
    for (rest, said) in
        [("#nothing", "no branch, tag or commit"), (":none", "none such"), ("#1234567", "no branch")]
    {
        let rest = if rest.starts_with(':') { format!("#main{rest}") } else { rest.to_owned() };
        let finished = kitchen.build(&format!("FROM base\nADD {url}{rest} /x\n"), &[]).expect_code(125);
        assert!(finished.stderr().contains(said), "{rest}: {}", finished.stderr());
    }
    let none = format!("FROM base\nADD http://{}/none/.git /x\n", server.address());
    kitchen.build(&none, &[]).expect_code(125).stderr_has("git says: ");
}

#[test]
fn a_checksum_is_the_commits() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    let commit = repository.file("f", "x").commit();
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    let server = git_over_http(&kitchen.repositories());
    let add = |sum: &str, rest: &str| {
        let url = format!("http://{}/one/.git{rest}", server.address());
        kitchen.build(&format!("FROM base\nADD --checksum={sum} {url} /x\n"), &["-q"])
    };
    for (sum, rest) in
        [(commit.as_str(), ""), (&commit[..12], "#v1"), (&commit.to_ascii_uppercase()[..9], "#main")]
    {
        add(sum, rest).expect_code(0);
    }
    let wrong = "0123456789012345678901234567890123456789";
    for rest in ["", "#v1", &format!("#{}", &commit[..8])] {
        add(wrong, rest).expect_code(125).stderr_has(&format!("at the commit {commit}"));
    }
}

#[test]
fn a_commit_that_is_known_is_not_fetched_again() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    let commit = repository.file("f", "1").commit();
    let fetches = Arc::new(AtomicUsize::new(0));
    let (count, root) = (fetches.clone(), kitchen.repositories());
    let server = Server::answering(move |request| {
        if String::from_utf8_lossy(&request.body).contains("command=fetch") {
            count.fetch_add(1, Ordering::SeqCst);
        }
        backend(&root, request)
    });
    let dockerfile = format!("FROM base\nADD http://{}/one/.git /f\n", server.address());
    let cached =
        || kitchen.build(&dockerfile, &["-t", "made"]).expect_code(0).stderr().contains("Using cache");
    assert!(!cached() && cached());
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    repository.file("f", "2").commit();
    assert!(!cached());
    assert_eq!(kitchen.shell("cat /f/f"), "2");
    // A whole commit needs no server at all, once it is known.
    let pinned = format!("FROM base\nADD http://{}/one/.git#{commit} /f\n", server.address());
    kitchen.made(&pinned);
    drop(server);
    kitchen.build(&pinned, &[]).expect_code(0).stderr_has("Using cache");
}

#[test]
fn the_git_directory_is_kept_where_it_is_wanted_and_has_no_password() {
    let kitchen = kitchen();
    let commit = Repository::new(&kitchen.world, "one").file("f", "x").commit();
    let root = kitchen.repositories();
    let server = Server::answering(move |request| match request.get("Authorization") {
        Some("Basic bWU6c2VjcmV0cGFzcw==") => backend(&root, request),
        _ => Message::answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let address = server.address();
    kitchen.made(&format!("FROM base\nADD --keep-git-dir=true http://me:secretpass@{address}/one/.git /r\n"));
    let found = kitchen.shell("cat /r/.git/HEAD; ls /r/.git/hooks /r/.git/logs 2>/dev/null; grep -r secretpass /r; grep url /r/.git/config");
    assert_eq!(
        found.lines().map(str::trim).collect::<Vec<_>>(),
        [commit.as_str(), &format!("url = http://{address}/one/.git")]
    );
    // Nobody is asked for a password.
    let plain = format!("FROM base\nADD http://{address}/one/.git /r\n");
    kitchen.build(&plain, &[]).expect_code(125).stderr_has("terminal prompts disabled");
    // A secret of the build is one, too: as BuildKit sends it.
    let token = Server::answering({
        let root = kitchen.repositories();
        move |request| match request.get("Authorization") {
            Some("Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=") => backend(&root, request),
            _ => Message::answer(401, ""),
        }
    });
    kitchen.file("token", "t0ken\n");
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", kitchen.context().join("token").display());
    let dockerfile = format!("FROM base\nADD http://{}/one/.git /r\n", token.address());
    kitchen.build(&dockerfile, &["--secret", &secret]).expect_code(0);
}

#[test]
fn gits_own_protocol_is_spoken() {
    let kitchen = kitchen();
    Repository::new(&kitchen.world, "one").file("f", "x").commit();
    let daemon = git_daemon(&kitchen.repositories());
    kitchen.made(&format!("FROM base\nADD git://{}/one/.git#main /r\n", daemon.address()));
    assert_eq!(kitchen.shell("cat /r/f; ls -a /r"), "x.\n..\nf");
}

#[test]
fn submodules_come_along_but_never_from_this_machine() {
    let kitchen = kitchen();
    let inner = Repository::new(&kitchen.world, "inner");
    inner.file("deep", "d").commit();
    let outer = Repository::new(&kitchen.world, "outer");
    outer.file("f", "x").commit();
    let server = git_over_http(&kitchen.repositories());
    let add = |url: &str, path: &str| {
        outer.git(&["submodule", "--quiet", "add", "--", url, path]);
        outer.commit();
    };
    add(&format!("http://{}/inner/.git", server.address()), "sub");
    let dockerfile = format!("FROM base\nADD http://{}/outer/.git /r\n", server.address());
    kitchen.made(&dockerfile);
    assert_eq!(kitchen.shell("cat /r/sub/deep; find /r -name .git"), "d");
    add(&inner.directory.display().to_string(), "local");
    kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("not allowed");
}

#[test]
fn nothing_of_the_callers_configuration_or_of_the_repository_is_executed() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    repository.file("f", "x").file(".gitattributes", "* filter=evil\n").commit();
    let server = git_over_http(&kitchen.repositories());
    let mark = kitchen.world.directory().join("executed");
    let hooks = kitchen.world.directory().join("hooks");
    fs::create_dir(&hooks).expect("a directory");
    let script = hooks.join("post-checkout");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\n", mark.display())).expect("a hook");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    let configuration = format!(
        "[core]\n\thooksPath = {}\n[filter \"evil\"]\n\tsmudge = touch {}; cat\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://\n",
        hooks.display(),
        mark.display()
    );
    fs::write(kitchen.world.home().join(".gitconfig"), configuration).expect("a configuration");
    let build = kitchen
        .build(&format!("FROM base\nADD http://{}/one/.git /r\n", server.address()), &[])
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.hooksPath")
        .env("GIT_CONFIG_VALUE_0", &hooks)
        .env("GIT_DIR", "/nowhere")
        .env("GIT_EXTERNAL_DIFF", "false");
    build.expect_code(0);
    assert!(!mark.exists());
    // No address leads to this machine's files, or is an option.
    for address in ["file:///etc/x.git", "ext::sh% -c% x.git", "ssh://-oProxyCommand=x/y.git"] {
        kitchen.build(&format!("FROM base\nADD [\"{address}\", \"/r\"]\n"), &[]).expect_code(125);
    }
    assert!(!mark.exists());
}
