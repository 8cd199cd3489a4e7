use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sbx::image::digest::Digest;
use sbx::image::documents::{Descriptor, media_type};
use sbx::registry::{Kind, Upload};

use super::{client, options, reference, says};
use crate::harness::{Fault, Faulty, Message, Registry, Server};

fn bytes() -> Vec<u8> {
    (0..250_000_u32).flat_map(u32::to_be_bytes).collect()
}

fn blob_of(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// As a caller gives a file: from any place on.
fn from(bytes: &[u8]) -> impl FnMut(u64) -> std::io::Result<Cursor<Vec<u8>>> {
    let bytes = bytes.to_vec();
    move |offset| {
        let mut reader = Cursor::new(bytes.clone());
        reader.set_position(offset);
        Ok(reader)
    }
}

#[test]
fn a_blob_arrives_whole_in_one_piece_and_in_many() {
    let registry = Registry::start();
    let client = client(options());
    let bytes = bytes();
    for (repository, how) in [
        ("one", Upload::Monolithic),
        ("many", Upload::Chunked(300_000)),
        ("exactly", Upload::Chunked(500_000)),
        ("larger", Upload::Chunked(5_000_000)),
    ] {
        let name = reference(registry.address(), repository);
        let blob = blob_of(&bytes);
        assert!(!client.has_blob(&name, &blob.digest).expect("an answer"));
        client
            .upload_blob(&name, &blob, how, from(&bytes))
            .unwrap_or_else(|failure| panic!("{how:?}: {failure}"));
        assert!(client.has_blob(&name, &blob.digest).expect("an answer"), "{how:?}");
        let mut got = Vec::new();
        client.blob(&name, &blob, 0).expect("the blob").read_to_end(&mut got).expect("all of it");
        assert!(got == bytes, "{how:?}");
    }
    let empty = blob_of(b"");
    for how in [Upload::Monolithic, Upload::Chunked(10)] {
        client.upload_blob(&reference(registry.address(), "empty"), &empty, how, from(b"")).expect("nothing");
    }
}

#[test]
fn an_upload_that_breaks_goes_on_or_is_begun_anew() {
    let registry = Registry::start();
    let bytes = bytes();
    for how in [Upload::Monolithic, Upload::Chunked(300_000)] {
        let lost = AtomicBool::new(false);
        let faulty = Faulty::before(registry.address(), move |request, _| {
            // The answer to one piece is lost, after the registry has taken it.
            let a_piece = request.body.len() > 1000;
            if a_piece && !lost.swap(true, Ordering::SeqCst) { Fault::Lose } else { Fault::None }
        });
        let name = reference(&faulty.address(), how_named(how));
        let blob = blob_of(&bytes);
        let client = client(options());
        client
            .upload_blob(&name, &blob, how, from(&bytes))
            .unwrap_or_else(|failure| panic!("{how:?}: {failure}"));
        assert!(client.has_blob(&name, &blob.digest).expect("an answer"));
        assert_eq!(faulty.count("GET"), 1, "it asks what was taken: {:?}", faulty.requests());
    }
}

fn how_named(how: Upload) -> &'static str {
    if how == Upload::Monolithic { "one" } else { "many" }
}

/// A registry that keeps to the specification, and loses the answer to one PATCH in the middle of it.
#[test]
fn an_upload_goes_on_behind_what_was_taken() {
    let bytes = bytes();
    let taken: Arc<Mutex<Vec<u8>>> = Arc::default();
    let held = taken.clone();
    let server = Server::start(move |request, stream| {
        let mut held = held.lock().expect("no panic");
        let here = |status, held: &[u8]| {
            Message::answer(status, "")
                .header("Location", "/v2/a/blobs/uploads/1")
                .header("Range", format!("0-{}", held.len().saturating_sub(1)))
        };
        let answer = match request.method() {
            "POST" => here(202, &held),
            "PATCH" => {
                let begin = format!("{}-", held.len());
                assert!(request.get("Content-Range").is_some_and(|range| range.starts_with(&begin)));
                let first = held.len() == 300_000;
                let half = request.body.len() / if first { 2 } else { 1 };
                held.extend_from_slice(&request.body[..half]);
                if first {
                    return;
                }
                here(202, &held)
            }
            "GET" => here(204, &held),
            _ => Message::answer(201, ""),
        };
        let _ = answer.write(stream, usize::MAX);
    });
    let name = reference(&server.address(), "a");
    client(options())
        .upload_blob(&name, &blob_of(&bytes), Upload::Chunked(300_000), from(&bytes))
        .expect("it goes on");
    assert!(*taken.lock().expect("no panic") == bytes);
}

#[test]
fn an_upload_that_nobody_takes_ends() {
    let registry = Registry::start();
    let bytes = bytes();
    let faulty = Faulty::before(registry.address(), |request, _| {
        if request.body.len() > 1000 { Fault::Refuse } else { Fault::None }
    });
    for how in [Upload::Monolithic, Upload::Chunked(300_000)] {
        let failure = client(options())
            .upload_blob(&reference(&faulty.address(), "a"), &blob_of(&bytes), how, from(&bytes))
            .expect_err("nobody takes it");
        assert_eq!(failure.kind, Kind::Unreachable);
    }
    assert_eq!(
        faulty.requests().iter().filter(|line| line.starts_with('P') && !line.starts_with("POST")).count(),
        8
    );
}

#[test]
fn an_upload_that_the_registry_forgot_is_begun_anew() {
    let registry = Registry::start();
    let bytes = bytes();
    let faulty = Faulty::before(registry.address(), |request, before| {
        let gone = || Fault::Answer(Message::answer(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#));
        match request.method() {
            "PATCH" if request.get("Content-Range").is_some_and(|range| range.starts_with("600000")) => {
                gone()
            }
            "GET" if request.target().contains("/uploads/") && before == 0 => gone(),
            _ => Fault::None,
        }
    });
    let failure = client(options())
        .upload_blob(
            &reference(&faulty.address(), "a"),
            &blob_of(&bytes),
            Upload::Chunked(300_000),
            from(&bytes),
        )
        .expect_err("it is forgotten each time");
    says(&failure, &["cannot upload the blob"]);
    assert_eq!(faulty.count("POST"), 4, "{:?}", faulty.requests());
}

#[test]
fn what_is_not_the_blob_is_refused() {
    let registry = Registry::start();
    let name = reference(registry.address(), "a");
    let mut blob = blob_of(b"right");
    let failure = client(options())
        .upload_blob(&name, &blob, Upload::Monolithic, from(b"wrong"))
        .expect_err("another digest");
    assert_eq!(failure.kind, Kind::Damaged);
    says(&failure, &["cannot upload the blob", "digest"]);
    blob.size = 3;
    assert!(!client(options()).has_blob(&name, &blob.digest).expect("an answer"));
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let registry = Registry::start();
    let digest = registry.put_blob("from/here", b"layer");
    let client = client(options());
    let name = reference(registry.address(), "to/there");
    assert!(client.mount_blob(&name, &digest, "from/here").expect("an answer"));
    assert!(client.has_blob(&name, &digest).expect("an answer"));
    assert!(!client.mount_blob(&name, &Digest::of(b"nowhere"), "from/here").expect("an answer"));
    let uploads = registry.storage().join("docker/registry/v2/repositories/to/there/_uploads");
    // docker-registry 2.8 forgets an upload, and leaves its empty directory.
    let open = std::fs::read_dir(uploads).into_iter().flatten().flatten();
    let open = open.filter(|upload| upload.path().join("data").exists()).count();
    assert_eq!(open, 0, "the upload that it began instead is cancelled");
}

#[test]
fn a_manifest_is_put_and_comes_back() {
    let registry = Registry::start();
    registry.put_image("a", "1");
    let client = client(options());
    let old = client.manifest(&reference(registry.address(), "a:1")).expect("the manifest");
    let name = reference(registry.address(), "a:2");
    assert_eq!(client.put_manifest(&name, &old.media_type, &old.bytes).expect("it is put"), old.digest);
    assert_eq!(client.manifest_digest(&name).expect("an answer"), Some(old.digest));
    let failure = client
        .put_manifest(&reference(registry.address(), "b:1"), &old.media_type, &old.bytes)
        .expect_err("its blobs are not there");
    says(&failure, &["cannot put the manifest", "blob unknown"]);
}

/// What is uploaded is the user's own, and a registry of https that sends it elsewhere in the clear is not obeyed.
#[test]
fn an_upload_does_not_go_on_over_http_where_it_began_over_https() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let elsewhere = format!("http://{}", listener.local_addr().expect("an address"));
    let registry = Registry::builder().tls().sends_to(&elsewhere).start();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::copy(registry.ca(), directory.path().join("ca.crt")).expect("a copy");
    let strict = sbx::registry::Options {
        tls_verify: Some(true),
        cert_dir: Some(directory.path().to_owned()),
        ..options()
    };
    let blob = blob_of(b"private");
    let name = reference(registry.address(), "tool");
    let failure =
        client(strict).upload_blob(&name, &blob, Upload::Monolithic, from(b"private")).expect_err("refused");
    assert_eq!(failure.kind, Kind::Untrusted);
    says(&failure, &["goes on over http"]);
    assert!(listener.accept().is_err(), "somebody was asked");
}
