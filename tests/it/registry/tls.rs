use std::fs;
use std::path::PathBuf;

use sbx::registry::{Kind, Options};
use tempfile::TempDir;

use super::{client, options, says};
use crate::harness::Registry;

/// A directory as `--cert-dir` takes it.
fn certificates(files: &[(&str, PathBuf)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, from) in files {
        fs::copy(from, directory.path().join(name)).expect("a copy");
    }
    directory
}

fn strict(directory: Option<&TempDir>) -> Options {
    Options {
        tls_verify: Some(true),
        cert_dir: directory.map(|directory| directory.path().to_owned()),
        ..options()
    }
}

#[test]
fn a_certificate_is_trusted_by_its_authority() {
    let registry = Registry::with_tls();
    let trusted = certificates(&[("ca.crt", registry.ca())]);
    client(strict(Some(&trusted))).ping(registry.address()).expect("its authority is known");

    let stranger = Registry::with_tls();
    let wrong = certificates(&[("ca.crt", stranger.ca())]);
    for options in [strict(None), strict(Some(&wrong))] {
        let failure = client(options).ping(registry.address()).expect_err("nobody vouches for it");
        assert_eq!(failure.kind, Kind::Untrusted);
        says(&failure, &["nobody whom this machine trusts", "certs.d", "--tls-verify=false"]);
    }
    client(Options { tls_verify: Some(false), ..options() }).ping(registry.address()).expect("unverified");
    client(options()).ping(registry.address()).expect("loopback is this very machine");
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_where_it_lies_in_the_directory() {
    // As docker's manual makes them: an authority for itself.
    let registry = Registry::builder().self_signed().start();
    let pinned = certificates(&[("ca.crt", registry.certificate())]);
    client(strict(Some(&pinned))).ping(registry.address()).expect("it was put there by hand");
    let port = registry.address().rsplit(':').next().expect("a port").to_owned();
    let failure =
        client(strict(Some(&pinned))).ping(&format!("[::1]:{port}")).expect_err("nobody listens there");
    assert_eq!(failure.kind, Kind::Unreachable);
    let other = Registry::builder().self_signed().start();
    let failure = client(strict(Some(&pinned))).ping(other.address()).expect_err("another certificate");
    assert_eq!(failure.kind, Kind::Untrusted);
}

#[test]
fn a_certificate_for_another_host_is_not_trusted() {
    let registry = Registry::with_tls();
    let trusted = certificates(&[("ca.crt", registry.ca())]);
    // The certificate is for 127.0.0.1, not for its neighbour; the registry listens on the one alone.
    let backend = registry.address().to_owned();
    let relay = relay_on("127.0.0.2", &backend);
    let failure = client(strict(Some(&trusted))).ping(&relay).expect_err("another host");
    assert_eq!(failure.kind, Kind::Untrusted);
    says(&failure, &["it is for another host"]);
}

/// Passes one connection on, byte for byte.
fn relay_on(address: &str, backend: &str) -> String {
    let listener = std::net::TcpListener::bind((address, 0)).expect("another address of loopback");
    let here = listener.local_addr().expect("an address").to_string();
    let backend = backend.to_owned();
    std::thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let Ok(server) = std::net::TcpStream::connect(backend) else { return };
        let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { return };
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut &server, &mut &client);
    });
    here
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    let registry = Registry::builder().client_certificates().start();
    let (certificate, key) = registry.client_certificate();
    let whole =
        certificates(&[("ca.crt", registry.ca()), ("client.cert", certificate.clone()), ("client.key", key)]);
    client(strict(Some(&whole))).ping(registry.address()).expect("the certificate is known");
    let without = certificates(&[("ca.crt", registry.ca())]);
    let failure = client(strict(Some(&without))).ping(registry.address()).expect_err("no certificate");
    says(&failure, &["client.cert"]);
    let half = certificates(&[("ca.crt", registry.ca()), ("client.cert", certificate)]);
    let failure = client(strict(Some(&half))).ping(registry.address()).expect_err("no key");
    assert_eq!(failure.kind, Kind::Refused);
    says(&failure, &["client.key` is missing"]);
}

#[test]
fn http_is_spoken_on_this_machine_and_where_it_is_allowed() {
    let registry = Registry::start();
    client(options()).ping(registry.address()).expect("loopback");
    client(Options { tls_verify: Some(false), ..options() })
        .ping(registry.address())
        .expect("it was allowed");
    let failure = client(strict(None)).ping(registry.address()).expect_err("https was wanted");
    assert_eq!(failure.kind, Kind::Untrusted);
    says(&failure, &["speaks http", "insecure = true"]);
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let registry = Registry::with_tls();
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("ca.crt"), "hello").expect("a file");
    let failure = client(strict(Some(&directory))).ping(registry.address()).expect_err("no certificate");
    assert_eq!(failure.kind, Kind::Refused);
    says(&failure, &["ca.crt", "no certificate"]);
}
