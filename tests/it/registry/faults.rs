use std::io::Read;
use std::time::{Duration, Instant};

use sbx::image::digest::Digest;
use sbx::image::documents::{Descriptor, media_type};
use sbx::registry::{BlobReader, Kind, Options};

use super::{client, options, reference, says};
use crate::harness::{Fault, Faulty, Message, Registry, Server};

/// A registry with a blob of 300 kB in the repository `a`.
fn with_blob() -> (Registry, Descriptor, Vec<u8>) {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).take(300_000).collect();
    let digest = registry.put_blob("a", &bytes);
    let blob = Descriptor::new(media_type::OCI_LAYER, digest, bytes.len() as u64);
    (registry, blob, bytes)
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    let (registry, blob, bytes) = with_blob();
    for fault in
        [Fault::Truncate(100_000), Fault::Reset(100_000), Fault::Stall(100_000, Duration::from_secs(5))]
    {
        let spoilt = fault.clone();
        let faulty = Faulty::before(registry.address(), move |request, before| {
            if request.target().contains("/blobs/") && before < 2 { spoilt.clone() } else { Fault::None }
        });
        let options = Options { stalled: Some(Duration::from_millis(300)), ..options() };
        let mut got = Vec::new();
        let mut reader = client(options).blob(&reference(&faulty.address(), "a"), &blob, 0).expect("a blob");
        reader.read_to_end(&mut got).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(got == bytes, "{fault:?}");
        assert_eq!(faulty.count("/blobs/"), 3, "{fault:?}");
    }
}

#[test]
fn a_download_that_keeps_breaking_ends_with_the_reason() {
    let (registry, blob, _) = with_blob();
    let faulty = Faulty::before(registry.address(), |request, before| {
        match (request.target().contains("/blobs/"), before) {
            (true, 0) => Fault::Truncate(1000),
            (true, _) => Fault::Truncate(0),
            _ => Fault::None,
        }
    });
    let mut reader = client(options()).blob(&reference(&faulty.address(), "a"), &blob, 0).expect("a blob");
    let error = reader.read_to_end(&mut Vec::new()).expect_err("it is cut");
    let report = BlobReader::reason(error).report();
    assert!(report.contains("ended the connection") && report.contains("cannot get the blob"), "{report}");
    assert_eq!(faulty.count("/blobs/"), 1 + 3, "three more without a byte");
}

#[test]
fn a_registry_without_ranges_is_read_from_the_beginning() {
    let (registry, blob, bytes) = with_blob();
    let whole = Server::answering({
        let bytes = bytes.clone();
        move |_| Message::answer(200, bytes.clone())
    });
    let mut rest = Vec::new();
    let mut reader =
        client(options()).blob(&reference(&whole.address(), "a"), &blob, 200_000).expect("a blob");
    reader.read_to_end(&mut rest).expect("the rest");
    assert_eq!(rest, bytes[200_000..]);
    drop(registry);
}

#[test]
fn a_blob_of_another_length_is_refused() {
    let blob = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"x"), 10);
    for length in [9, 11] {
        let server = Server::answering(move |_| Message::answer(200, vec![0; length]));
        let failure = client(options())
            .blob(&reference(&server.address(), "a"), &blob, 0)
            .err()
            .expect("another length");
        assert_eq!(failure.kind, Kind::Damaged);
        says(&failure, &[&format!("a blob of {length} bytes, and the manifest says 10")]);
    }
}

#[test]
fn a_manifest_that_was_changed_on_the_way_is_refused() {
    let registry = Registry::start();
    let digest = registry.put_image("a", "1");
    let faulty = Faulty::before(registry.address(), |_, _| Fault::Corrupt);
    for name in ["a:1".to_owned(), format!("a@{digest}")] {
        let failure = client(options()).manifest(&reference(&faulty.address(), &name)).expect_err("changed");
        assert_eq!(failure.kind, Kind::Damaged);
        says(&failure, &["gave another document", digest.as_str()]);
    }
}

#[test]
fn a_manifest_that_is_cut_is_asked_for_again() {
    let registry = Registry::start();
    let digest = registry.put_image("a", "1");
    let faulty =
        Faulty::before(
            registry.address(),
            |_, before| if before == 0 { Fault::Truncate(20) } else { Fault::None },
        );
    let fetched = client(options()).manifest(&reference(&faulty.address(), "a:1")).expect("the manifest");
    assert_eq!(fetched.digest, digest);

    let always = Faulty::before(registry.address(), |_, _| Fault::Truncate(20));
    let failure = client(options()).manifest(&reference(&always.address(), "a:1")).expect_err("cut");
    assert_eq!(failure.kind, Kind::Damaged);
    says(&failure, &["ended the connection before all had come"]);
    assert_eq!(always.count("manifests/1"), 4);
}

#[test]
fn a_limit_of_requests_is_waited_for_where_that_is_short() {
    let registry = Registry::start();
    registry.put_image("a", "1");
    let once = |seconds: u64| {
        move |_: &Message, before: usize| {
            if before == 0 { Fault::too_many_requests(seconds) } else { Fault::None }
        }
    };
    let short = Faulty::before(registry.address(), once(1));
    let begun = Instant::now();
    client(options()).manifest(&reference(&short.address(), "a:1")).expect("the manifest");
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let long = Faulty::before(registry.address(), once(3600));
    let failure = client(options()).manifest(&reference(&long.address(), "a:1")).expect_err("limited");
    assert_eq!(failure.kind, Kind::RateLimited);
    says(&failure, &["takes no more requests", "in 3600 seconds", "slow down"]);
    assert_eq!(long.count("manifests"), 1);
}

#[test]
fn an_error_of_the_server_passes() {
    let registry = Registry::start();
    registry.put_image("a", "1");
    let faulty = Faulty::before(registry.address(), |_, before| match before {
        0 => Fault::Answer(Message::answer(503, "<html>busy</html>")),
        1 => Fault::Refuse,
        _ => Fault::None,
    });
    client(options()).manifest(&reference(&faulty.address(), "a:1")).expect("the manifest");
    let always = Faulty::before(registry.address(), |_, _| Fault::Answer(Message::answer(502, "")));
    let failure = client(Options { retries: Some(1), ..options() })
        .manifest(&reference(&always.address(), "a:1"))
        .expect_err("no answer");
    assert_eq!((failure.kind, always.count("manifests")), (Kind::Unreachable, 2));
    says(&failure, &["failed with the status 502"]);
}

#[test]
fn redirects_in_a_circle_end() {
    let registry = Registry::start();
    let faulty = Faulty::before(registry.address(), |request, _| Fault::redirect_to_itself(request));
    let failure = client(options()).manifest(&reference(&faulty.address(), "a:1")).expect_err("a circle");
    says(&failure, &["redirects in a circle"]);
    assert_eq!(faulty.requests().len(), 1);

    let endless = Server::answering(|request| {
        let next = request.target().len();
        Message::answer(307, "").header("Location", format!("/v2/{}", "x".repeat(next)))
    });
    let failure = client(options()).manifest(&reference(&endless.address(), "a:1")).expect_err("no end");
    says(&failure, &["redirects more than ten times"]);
    let nowhere = Server::answering(|_| Message::answer(307, "").header("Location", "file:///etc/passwd"));
    let failure = client(options()).manifest(&reference(&nowhere.address(), "a:1")).expect_err("nowhere");
    says(&failure, &["no http or https URL"]);
}

#[test]
fn a_document_without_end_is_refused() {
    let large = Server::answering(|_| {
        Message::answer(200, vec![b' '; 5 << 20]).header("Content-Type", media_type::OCI_MANIFEST)
    });
    let failure = client(options()).manifest(&reference(&large.address(), "a:1")).expect_err("too large");
    assert_eq!(failure.kind, Kind::Damaged);
    says(&failure, &["more than 4194304 bytes"]);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let gone = Server::answering(|_| Message::answer(200, "")).address();
    let begun = Instant::now();
    let failure = client(options()).manifest(&reference(&gone, "a:1")).expect_err("nobody listens");
    assert_eq!(failure.kind, Kind::Unreachable);
    says(&failure, &[&gone, "refused"]);
    let failure =
        client(options()).manifest(&reference("registry.invalid", "a:1")).expect_err("there is no such name");
    assert_eq!(failure.kind, Kind::Unreachable);
    says(&failure, &["no address is known for the host `registry.invalid`"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "it is not tried again");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = Server::start(|_, _| std::thread::sleep(Duration::from_secs(3)));
    let short = Options { stalled: Some(Duration::from_millis(200)), retries: Some(1), ..options() };
    let failure = client(short).manifest(&reference(&silent.address(), "a:1")).expect_err("silence");
    assert_eq!(failure.kind, Kind::Unreachable);
    says(&failure, &["has sent or taken nothing for too long"]);
}

#[test]
fn what_a_server_says_does_not_reach_the_terminal_raw() {
    let rude = Server::answering(|_| {
        Message::answer(400, "{\"errors\":[{\"code\":\"X\",\"message\":\"\\u001b[2Jgone\\nagain\"}]}")
    });
    let failure = client(options()).manifest(&reference(&rude.address(), "a:1")).expect_err("rude");
    says(&failure, &["gone again"]);
    assert!(!failure.error.report().contains('\u{1b}'));
}
