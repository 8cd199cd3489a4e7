use std::io::Read;

use sbx::image::digest::Digest;
use sbx::image::documents::{Descriptor, Manifest, media_type, parse};
use sbx::image::registries::{Registries, file};
use sbx::registry::{Client, Kind};
use serde_json::json;

use super::{client, options, reference, says};
use crate::harness::{Fault, Faulty, Message, Registry, Server};

#[test]
fn a_manifest_and_its_blobs_come_as_they_were_put() {
    let registry = Registry::start();
    let digest = registry.put_image("a/b", "1");
    let client = client(options());
    let name = reference(registry.address(), "a/b:1");
    let fetched = client.manifest(&name).expect("the manifest");
    assert_eq!((&fetched.digest, fetched.media_type.as_str()), (&digest, media_type::OCI_MANIFEST));
    assert_eq!(client.manifest_digest(&name).expect("an answer"), Some(digest.clone()));
    let pinned = reference(registry.address(), &format!("a/b@{digest}"));
    assert_eq!(client.manifest(&pinned).expect("the manifest").bytes, fetched.bytes);

    let manifest: Manifest = parse("the manifest", &fetched.bytes).expect("a manifest");
    let layer = &manifest.layers[0];
    let mut whole = Vec::new();
    client.blob(&name, layer, 0).expect("the blob").read_to_end(&mut whole).expect("all of it");
    assert_eq!(Digest::of(&whole), layer.digest);
    let mut rest = Vec::new();
    client.blob(&name, layer, 500).expect("the blob").read_to_end(&mut rest).expect("the rest");
    assert_eq!(rest, whole[500..]);
    let mut nothing = Vec::new();
    let end = client.blob(&name, layer, layer.size);
    if let Ok(mut end) = end {
        end.read_to_end(&mut nothing).expect("nothing");
    }
    assert!(nothing.is_empty());
}

#[test]
fn the_digest_of_a_tag_is_one_request() {
    let registry = Registry::start();
    registry.put_image("a", "1");
    let counting = Faulty::before(registry.address(), |_, _| Fault::None);
    let client = client(options());
    client.manifest_digest(&reference(&counting.address(), "a:1")).expect("a digest");
    assert_eq!(counting.requests(), ["HEAD /v2/a/manifests/1"]);
}

#[test]
fn what_is_not_there_is_told_apart() {
    let registry = Registry::start();
    registry.put_image("a/b", "1");
    let client = client(options());
    let get = |rest: &str| {
        let name = reference(registry.address(), rest);
        for failure in [client.manifest(&name).map(drop), client.manifest_digest(&name).map(drop)] {
            let failure = failure.expect_err("it is not there");
            assert_eq!(failure.kind, Kind::NotFound);
            if failure.error.message().contains("the manifest") {
                return failure;
            }
        }
        panic!("no failure is of the manifest")
    };
    says(&get("a/b:2"), &["has no tag `2`", "a/b:2`", "search --list-tags"]);
    says(&get("a/c:1"), &["has no repository `a/c`"]);
    let other = Digest::of(b"other");
    says(&get(&format!("a/b@{other}")), &["no image with the digest", other.as_str()]);

    let name = reference(registry.address(), "a/b:1");
    let blob = Descriptor::new(media_type::OCI_LAYER, other, 5);
    let failure = client.blob(&name, &blob, 0).err().expect("it is not there");
    assert_eq!(failure.kind, Kind::NotFound);
    says(&failure, &["cannot get the blob", registry.address()]);
}

#[test]
fn a_document_of_an_unknown_kind_is_refused_by_name() {
    let answer = |kind: &'static str, body: &'static str| {
        Server::answering(move |_| Message::answer(200, body).header("Content-Type", kind))
    };
    for (kind, body, part) in [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1}"#, "schema 1"),
        ("application/x-weird", "{}", "`application/x-weird`"),
        ("text/html", "<html></html>", "no JSON"),
        (media_type::OCI_INDEX, r#"{"manifests":[],"layers":[]}"#, "as an index and as a manifest"),
    ] {
        let server = answer(kind, body);
        let failure =
            client(options()).manifest(&reference(&server.address(), "a:1")).expect_err("an unknown kind");
        assert_eq!(failure.kind, Kind::UnknownType);
        says(&failure, &["cannot get the manifest", part]);
    }
}

#[test]
fn tags_are_listed_over_all_pages() {
    let registry = Registry::start();
    registry.put_image("many", "x");
    for number in 0..4 {
        registry.put_image("many", &format!("t{number}"));
    }
    // docker-registry 2.8 has one page; a proxy cuts it into several.
    let pages = Server::answering(|request| {
        let page =
            |tags: serde_json::Value| Message::answer(200, json!({ "name": "a", "tags": tags }).to_string());
        match request.target() {
            "/v2/a/tags/list?n=1000" | "/v2/a/tags/list?n=3" => {
                page(json!(["1", "2"])).header("Link", r#"</v2/a/tags/list?last=2>; rel="next""#)
            }
            "/v2/a/tags/list?last=2" => page(json!(["3", "4"])),
            "/v2/endless/tags/list?n=1000" => {
                page(json!(["1"])).header("Link", r#"</v2/endless/tags/list?n=1000>; rel="next""#)
            }
            "/v2/none/tags/list?n=1000" => page(json!(null)),
            _ => Message::answer(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        }
    });
    let client = client(options());
    let mut real = client.tags(&reference(registry.address(), "many"), None).expect("tags");
    real.sort();
    assert_eq!(real, ["t0", "t1", "t2", "t3", "x"]);
    let tags = |name: &str, limit| client.tags(&reference(&pages.address(), name), limit);
    assert_eq!(tags("a", None).expect("tags"), ["1", "2", "3", "4"]);
    assert_eq!(tags("a", Some(3)).expect("tags"), ["1", "2", "3"]);
    assert!(tags("none", None).expect("tags").is_empty());
    says(&tags("endless", None).expect_err("no end"), &["has no end"]);
    says(&tags("missing", None).expect_err("nothing"), &["has no repository `missing`"]);
}

fn configured(text: &str) -> Client {
    let mut registries = Registries::default();
    registries.override_with(file::parse(text, "test.conf").expect("a configuration"));
    Client::with(registries, options())
}

#[test]
fn a_mirror_is_asked_first_and_its_failure_is_made_up_for() {
    let (origin, mirror) = (Registry::start(), Registry::start());
    let digest = origin.put_image("a", "1");
    let asked = Faulty::before(mirror.address(), |_, _| Fault::None);
    let client = configured(&format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '127.0.0.1:1'\n[[registry.mirror]]\nlocation = '{}/cache'",
        origin.address(),
        asked.address()
    ));
    let name = reference(origin.address(), "a:1");
    // Neither mirror has it: one is not there, one is empty.
    assert_eq!(client.manifest(&name).expect("the manifest").digest, digest);
    assert!(asked.count("/v2/cache/a/manifests/1") > 0);
    let mirrored = mirror.put_image("cache/a", "1");
    assert_eq!(mirrored, digest);
    // It is the origin that served it last, and it is asked first from then on.
    let before = asked.requests().len();
    client.manifest_digest(&name).expect("an answer");
    assert_eq!(asked.requests().len(), before);
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let registry = Registry::start();
    registry.put_image("a", "1");
    let asked = Faulty::before(registry.address(), |_, _| Fault::None);
    let client = configured(&format!("[[registry]]\nlocation = '{}'\nblocked = true", asked.address()));
    let failure = client.manifest(&reference(&asked.address(), "a:1")).expect_err("it is blocked");
    assert_eq!(failure.kind, Kind::Refused);
    says(&failure, &["blocked by line 1 of `test.conf`"]);
    assert!(asked.requests().is_empty());
}
