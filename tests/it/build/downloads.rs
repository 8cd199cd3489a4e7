//! ADD of what is on http and https servers.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sbx::build::fetch::download::Downloads;
use sha2::{Digest as _, Sha256, Sha384};

use super::archives::{file, tar};
use super::{Kitchen, kitchen};
use crate::harness::{Message, Registry, Server};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Kitchen {
    /// Files of builds that nobody needs any more.
    fn left_behind(&self) -> Vec<String> {
        let work = fs::read_dir(self.world.store().join("build/work")).into_iter().flatten().flatten();
        work.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

#[test]
fn a_download_has_its_name_its_time_and_mode_600() {
    let kitchen = kitchen();
    let server = Server::answering(|request| {
        let answer = Message::answer(200, "hello");
        match request.target() {
            "/d/a%20b?x=y" => answer.header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
            "/get" => answer.header("Content-Disposition", "attachment; filename=\"named\""),
            "/moved" => Message::answer(302, "").header("Location", "/d/a%20b?x=y"),
            "/" => answer,
            _ => Message::answer(404, "nothing"),
        }
    });
    let url = format!("http://{}", server.address());
    kitchen.made(&format!(
        "FROM base\nADD {url}/d/a%20b?x=y /in/\nADD {url}/get /in/\nADD {url}/moved /file\n\
         ADD --chown=7:8 --chmod=640 {url}/get /mine\nADD {url}/ /root-of-server\n"
    ));
    let found = kitchen.shell("cd /; stat -c '%n %a %u:%g %Y' in/* file mine; cat in/* root-of-server");
    assert_eq!(
        found,
        "in/a b 600 0:0 1445412480\nin/named 600 0:0 0\nfile 600 0:0 1445412480\nmine 640 7:8 0\nhellohellohello"
    );
    for (add, said) in [("/ /in/", "has none at its end"), ("/none /x", "404")] {
        kitchen.build(&format!("FROM base\nADD {url}{add}\n"), &[]).expect_code(125).stderr_has(said);
    }
    assert_eq!(kitchen.left_behind(), Vec::<String>::new());
}

#[test]
fn an_archive_from_a_server_is_unpacked_where_that_is_said() {
    let kitchen = kitchen();
    let server = Server::answering(|_| Message::answer(200, tar(&[file("f", "x")])));
    let url = format!("http://{}/a.tar", server.address());
    kitchen.made(&format!("FROM base\nADD {url} /whole/\nADD --unpack=true {url} /unpacked\n"));
    assert_eq!(
        kitchen.shell("ls /whole /unpacked; stat -c '%a %u' /unpacked/f"),
        "/unpacked:\nf\n\n/whole:\na.tar\n640 12"
    );
}

#[test]
fn a_checksum_holds_and_spares_the_way() {
    let kitchen = kitchen();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Message::answer(200, "content")
    });
    let url = format!("http://{}/f", server.address());
    let build = |sum: &str, options: &[&str]| {
        kitchen.build(&format!("FROM base\nLABEL x={sum}\nADD --checksum={sum} {url} /f\n"), options)
    };
    let wrong = format!("sha256:{}", sha256(b"other"));
    build(&wrong, &[])
        .expect_code(125)
        .stderr_has("not what `--checksum` says")
        .stderr_has(&sha256(b"content"));
    assert_eq!(kitchen.left_behind(), Vec::<String>::new());
    let right = format!("sha256:{}", sha256(b"content"));
    build(&right, &["-q", "-t", "made"]).succeed();
    assert_eq!(kitchen.shell("cat /f"), "content");
    let before = asked.load(Ordering::SeqCst);
    drop(server);
    // A layer of its own is made of what is here, without the server.
    kitchen.made(&format!("FROM base\nADD --checksum={right} {url} /other\n"));
    assert_eq!((kitchen.shell("cat /other"), asked.load(Ordering::SeqCst)), ("content".to_owned(), before));
}

#[test]
fn a_checksum_may_be_longer() {
    let kitchen = kitchen();
    let server = Server::answering(|_| Message::answer(200, "content"));
    let hex =
        |bytes: &[u8]| Sha384::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (bytes, code) in [(&b"content"[..], 0), (b"other", 125)] {
        let add = format!("ADD --checksum=sha384:{} http://{}/f /f", hex(bytes), server.address());
        kitchen.build(&format!("FROM base\n{add}\n"), &[]).expect_code(code);
    }
}

#[test]
fn what_a_server_has_still_is_not_sent_again_and_what_is_new_is() {
    let kitchen = kitchen();
    let (asked, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let version = Arc::new(AtomicUsize::new(1));
    let (counted, given, current) = (asked.clone(), sent.clone(), version.clone());
    let server = Server::answering(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        let version = format!("\"v{}\"", current.load(Ordering::SeqCst));
        if request.get("If-None-Match") == Some(version.as_str()) {
            return Message::answer(304, "");
        }
        given.fetch_add(1, Ordering::SeqCst);
        Message::answer(200, version.clone()).header("ETag", version)
    });
    let dockerfile = format!("FROM base\nADD http://{}/f /f\n", server.address());
    let numbers = || (asked.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
    let cached =
        || kitchen.build(&dockerfile, &["-t", "made"]).expect_code(0).stderr().contains("Using cache");
    assert!(!cached() && cached() && cached());
    assert_eq!(numbers(), (3, 1));
    version.store(2, Ordering::SeqCst);
    assert!(!cached());
    assert_eq!((kitchen.shell("cat /f"), numbers()), ("\"v2\"".to_owned(), (4, 2)));
    kitchen.build(&dockerfile, &["--no-cache"]).expect_code(0);
    assert_eq!(numbers(), (5, 3));
    // What is pruned comes again.
    kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
    assert!(!cached());
    assert_eq!(numbers(), (6, 4));
}

#[test]
fn a_server_that_does_not_keep_its_word_is_an_error() {
    let kitchen = kitchen();
    let server = Server::start(|request, stream| {
        let _ = match request.target() {
            "/circle" => Message::answer(302, "").header("Location", "/circle").write(stream, usize::MAX),
            "/file" => {
                Message::answer(302, "").header("Location", "file:///etc/passwd").write(stream, usize::MAX)
            }
            "/not-modified" => Message::answer(304, "").write(stream, usize::MAX),
            "/cut" => Message::answer(200, "x".repeat(1000)).write(stream, 100),
            path => {
                let next = format!("{path}x");
                Message::answer(302, "").header("Location", next).write(stream, usize::MAX)
            }
        };
    });
    for (path, said) in [
        ("circle", "in a circle"),
        ("endless", "more than ten times"),
        ("file", "no http or https URL"),
        ("not-modified", "304"),
        ("cut", "before all had come"),
    ] {
        let dockerfile = format!("FROM base\nADD http://{}/{path} /f\n", server.address());
        let finished = kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("Dockerfile:2:1: ");
        assert!(finished.stderr().contains(said), "{path}: {}", finished.stderr());
    }
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    kitchen
        .build(&format!("FROM base\nADD http://{closed}/x /f\n"), &[])
        .expect_code(125)
        .stderr_has("refused");
    assert_eq!(kitchen.left_behind(), Vec::<String>::new());
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::start(|_, _| thread::sleep(Duration::from_secs(3)));
    let store = tempfile::tempdir().expect("a directory");
    let downloads = Downloads::new(store.path(), false).stalled_after(Duration::from_millis(100));
    let error = downloads.get(&format!("http://{}/x", server.address()), None).expect_err("nothing comes");
    assert!(error.report().contains("for too long"), "{}", error.report());
}

#[test]
fn https_is_trusted_by_its_authority() {
    let kitchen = kitchen();
    let registry = Registry::with_tls();
    let dockerfile = format!("FROM base\nADD https://{}/v2/ /f\n", registry.address());
    kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("nobody whom this machine trusts");
    let trusted = kitchen.world.home().join(".config/containers/certs.d").join(registry.address());
    fs::create_dir_all(&trusted).expect("a directory");
    fs::copy(registry.ca(), trusted.join("ca.crt")).expect("a certificate");
    kitchen.made(&dockerfile);
    assert_eq!(kitchen.shell("cat /f"), "{}");
}

#[test]
fn a_password_in_a_url_is_for_its_host_alone_and_is_not_shown() {
    let kitchen = kitchen();
    let other = Server::answering(|request| match request.get("Authorization") {
        None => Message::answer(200, "moved"),
        Some(_) => Message::answer(500, "a password"),
    });
    let elsewhere = format!("http://{}/x", other.address());
    let server = Server::answering(move |request| match (request.get("Authorization"), request.target()) {
        (Some("Basic bWU6cEBzcw=="), "/moved") => {
            Message::answer(302, "").header("Location", elsewhere.clone())
        }
        (Some("Basic bWU6cEBzcw=="), "/f") => Message::answer(200, "mine"),
        _ => Message::answer(401, ""),
    });
    let url = format!("http://me:p%40ss@{}", server.address());
    kitchen.made(&format!("FROM base\nADD {url}/f /f\nADD {url}/moved /g\n"));
    assert_eq!(kitchen.shell("cat /f /g"), "minemoved");
    let told = kitchen.world.sbx(["history", "--no-trunc", "made"]).succeed()
        + &kitchen.build(&format!("FROM base\nADD {url}/f /f\n"), &[]).expect_code(0).stderr();
    assert!(
        told.contains(&format!("ADD http://{}/f /f", server.address())) && !told.contains("p%40ss"),
        "{told}"
    );
    let wrong = format!("FROM base\nARG PASSWORD\nADD http://me:${{PASSWORD}}@{}/f /f\n", server.address());
    let finished = kitchen.build(&wrong, &["--build-arg", "PASSWORD=verysecret"]).expect_code(125);
    assert!(
        finished.stderr().contains("401") && !finished.stderr().contains("verysecret"),
        "{}",
        finished.stderr()
    );
}
