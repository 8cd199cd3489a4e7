use std::io::Read;
use std::sync::{Arc, Mutex};

use sbx::image::auth::Credentials;
use sbx::image::documents::{Descriptor, media_type};
use sbx::registry::{Kind, Options, Upload};

use super::{client, options, reference, says, with_password};
use crate::harness::{Fault, Faulty, Message, Registry, Server};

fn blob_of(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, sbx::image::digest::Digest::of(bytes), bytes.len() as u64)
}

#[test]
fn a_password_is_given_where_it_is_wanted() {
    let registry = Registry::with_auth("me", "secret");
    let name = reference(registry.address(), "a");
    let right = client(with_password("me", "secret"));
    right.ping(registry.address()).expect("the password is right");
    right.upload_blob(&name, &blob_of(b"x"), Upload::Monolithic, |_| Ok(&b"x"[..])).expect("an upload");
    assert!(right.has_blob(&name, &blob_of(b"x").digest).expect("an answer"));

    let wrong = client(with_password("me", "wrong")).ping(registry.address()).expect_err("a wrong password");
    assert_eq!(wrong.kind, Kind::Denied);
    says(&wrong, &["refuses the password of the user `me`", "sbx login"]);
    let none = client(options()).ping(registry.address()).expect_err("no password");
    assert_eq!(none.kind, Kind::Denied);
    says(&none, &["nobody has logged in", "sbx login"]);
}

#[test]
fn tokens_are_asked_for_once() {
    let registry = Registry::builder().auth("me", "secret").tokens().start();
    let name = reference(registry.address(), "private/a");
    let client = client(with_password("me", "secret"));
    for bytes in [&b"x"[..], b"y", b"z"] {
        client
            .upload_blob(&name, &blob_of(bytes), Upload::Monolithic, move |_| Ok(bytes))
            .expect("an upload");
    }
    assert_eq!(registry.tokens().requests().len(), 1, "{:?}", registry.tokens().requests());
    let mut got = Vec::new();
    client.blob(&name, &blob_of(b"y"), 0).expect("the blob").read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"y");
    let requests = registry.tokens().requests();
    assert_eq!(requests.len(), 2, "one for pushing, one for pulling: {requests:?}");
    assert!(requests[0].contains("scope=repository%3Aprivate%2Fa%3Apull%2Cpush"), "{requests:?}");
    assert!(requests[0].contains("account=me"), "{requests:?}");
}

#[test]
fn a_token_that_has_ended_is_renewed_on_the_way() {
    let registry = Registry::builder().auth("me", "secret").tokens().start();
    // docker-registry takes tokens for a minute longer than they say; the first is refused after one use here.
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"{}\"",
        registry.tokens().address(),
        crate::harness::TokenServer::SERVICE
    );
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let faulty = Faulty::before(registry.address(), move |request, _| {
        let mut first = first.lock().expect("no panic");
        match request.get("Authorization") {
            Some(given) if first.as_deref().is_none_or(|known| known == given) => {
                let fresh = first.is_none();
                *first = Some(given.to_owned());
                if fresh {
                    return Fault::None;
                }
                Fault::Answer(Message::answer(401, "").header("WWW-Authenticate", realm.clone()))
            }
            _ => Fault::None,
        }
    });
    let name = reference(&faulty.address(), "private/a");
    let client = client(with_password("me", "secret"));
    client.has_blob(&name, &blob_of(b"x").digest).expect("the first token holds");
    client.has_blob(&name, &blob_of(b"x").digest).expect("the second is fetched when the first has ended");
    assert_eq!(registry.tokens().requests().len(), 2);
}

#[test]
fn what_is_public_needs_nobody() {
    let registry = Registry::builder().auth("me", "secret").tokens().start();
    let name = reference(registry.address(), "public/a");
    let owner = client(with_password("me", "secret"));
    owner.upload_blob(&name, &blob_of(b"x"), Upload::Monolithic, |_| Ok(&b"x"[..])).expect("an upload");
    let anybody = client(options());
    let mut got = Vec::new();
    anybody.blob(&name, &blob_of(b"x"), 0).expect("the blob").read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"x");
    let denied = anybody
        .upload_blob(&name, &blob_of(b"y"), Upload::Monolithic, |_| Ok(&b"y"[..]))
        .expect_err("not for everybody");
    assert_eq!(denied.kind, Kind::Denied);
    says(&denied, &["nobody has logged in"]);
    let hidden =
        anybody.manifest(&reference(registry.address(), "private/a:1")).expect_err("not for everybody");
    assert_eq!(hidden.kind, Kind::Denied);
    says(&hidden, &["sbx login", "does not exist"]);
}

#[test]
fn a_refresh_token_stands_for_a_password() {
    let registry = Registry::builder().auth("me", "secret").tokens().start();
    let token = |text: &str| Options { credentials: Some(Credentials::Token(text.to_owned())), ..options() };
    let name = reference(registry.address(), "private/a");
    let right = client(token(crate::harness::TokenServer::REFRESH_TOKEN));
    right.upload_blob(&name, &blob_of(b"x"), Upload::Monolithic, |_| Ok(&b"x"[..])).expect("an upload");
    let requests = registry.tokens().requests();
    assert!(
        requests[0].starts_with("POST /token") && requests[0].contains("grant_type=refresh_token"),
        "{requests:?}"
    );
    let wrong = client(token("wrong")).has_blob(&name, &blob_of(b"x").digest).expect_err("a wrong token");
    assert_eq!(wrong.kind, Kind::Denied);
    says(&wrong, &["cannot get a token", "wrong password"]);
}

#[test]
fn a_wrong_password_is_the_token_servers_to_refuse() {
    let registry = Registry::builder().auth("me", "secret").tokens().start();
    let failure =
        client(with_password("me", "wrong")).ping(registry.address()).expect_err("a wrong password");
    assert_eq!(failure.kind, Kind::Denied);
    says(&failure, &["wrong password", "sbx login"]);
}

#[test]
fn a_password_does_not_follow_to_another_host() {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let list = seen.clone();
    let other = Server::answering(move |request| {
        list.lock().expect("no panic").push(request.get("Authorization").map(str::to_owned));
        Message::answer(200, "blob")
    });
    let target = format!("http://{}/elsewhere", other.address());
    let registry = Server::answering(move |request| match request.get("Authorization") {
        None => Message::answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Message::answer(307, "").header("Location", target.clone()),
    });
    let client = client(with_password("me", "secret"));
    let mut got = Vec::new();
    let name = reference(&registry.address(), "a");
    client.blob(&name, &blob_of(b"blob"), 0).expect("the blob").read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"blob");
    assert_eq!(*seen.lock().expect("no panic"), [None]);
}
