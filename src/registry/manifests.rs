//! Manifests and indexes: what a name stands for at this moment (distribution specification, Pulling manifests).

use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};

use super::endpoint::Endpoint;
use super::exchange::{Content, Request};
use super::failure::{Failure, Kind};
use super::{Client, Outcome};
use crate::error::Error;
use crate::image::digest::Digest;
use crate::image::documents::{LARGEST_MANIFEST, media_type};
use crate::image::reference::{DEFAULT_TAG, Reference};

const DIGEST: &str = "docker-content-digest";
/// The kinds of docker's first image format.
const SCHEMA_1: &[&str] = &[
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest or index, byte for byte.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

impl Client {
    /// The manifest or index of the reference: of its digest, where it has one, else of its tag.
    ///
    /// # Errors
    /// Every kind.
    pub fn manifest(&self, reference: &Reference) -> Outcome<Fetched> {
        let what = format!("get the manifest of `{}`", reference.familiar());
        let found = self.first(reference, |endpoint| self.manifest_from(endpoint, reference, &what))?;
        Ok(found.1)
    }

    fn manifest_from(&self, endpoint: &Endpoint, reference: &Reference, what: &str) -> Outcome<Fetched> {
        let target = endpoint.path(&format!("manifests/{}", name_of(reference)));
        let scopes = [endpoint.scope("pull")];
        let mut request = Request::new(what, Method::GET, &target, &scopes);
        request.headers.push((ACCEPT.as_str(), accepted()));
        let got = self.0.exchange.fetch(endpoint, &mut request, LARGEST_MANIFEST);
        let (headers, _, bytes) = got.map_err(|failure| self.not_found(endpoint, reference, failure))?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let digest = Digest::of(&bytes);
        let announced = header(DIGEST).and_then(|text| text.parse::<Digest>().ok());
        for wanted in reference.digest.iter().chain(&announced) {
            if *wanted != digest {
                return Err(other_digest(what, endpoint, wanted, &digest));
            }
        }
        let media_type = kind_of(header(CONTENT_TYPE.as_str()), &bytes).map_err(|why| {
            let error = Error::new(format!("cannot {what}")).because(why);
            Failure::new(Kind::UnknownType, error)
        })?;
        Ok(Fetched { bytes, media_type, digest })
    }

    /// The digest that the reference's tag has now, by one HEAD request; None where the registry does not say.
    ///
    /// # Errors
    /// Every kind.
    pub fn manifest_digest(&self, reference: &Reference) -> Outcome<Option<Digest>> {
        let what = format!("get the digest of `{}`", reference.familiar());
        let found = self.first(reference, |endpoint| {
            let target = endpoint.path(&format!("manifests/{}", name_of(reference)));
            let scopes = [endpoint.scope("pull")];
            let mut request = Request::new(&what, Method::HEAD, &target, &scopes);
            request.headers.push((ACCEPT.as_str(), accepted()));
            let answer = self.0.exchange.send(endpoint, &mut request);
            answer.map_err(|failure| self.not_found(endpoint, reference, failure))
        })?;
        Ok(found.1.header(DIGEST).and_then(|digest| digest.parse().ok()))
    }

    /// Puts the manifest or index under the reference's tag, or under its own digest where it has none.
    ///
    /// # Errors
    /// Every kind.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Outcome<Digest> {
        let what = format!("put the manifest of `{}`", reference.familiar());
        let digest = Digest::of(bytes);
        let endpoint = self.origin(reference)?;
        let name = reference.tag.as_deref().unwrap_or(digest.as_str());
        let target = endpoint.path(&format!("manifests/{name}"));
        let scopes = [endpoint.scope("pull,push")];
        let mut request = Request::new(&what, Method::PUT, &target, &scopes);
        request.headers.push((CONTENT_TYPE.as_str(), media_type.to_owned()));
        request.body = Content::Bytes(bytes);
        let answer = self.0.exchange.send(&endpoint, &mut request)?;
        let kept = answer.header(DIGEST).and_then(|text| text.parse::<Digest>().ok());
        match kept {
            Some(kept) if kept != digest => Err(other_digest(&what, &endpoint, &digest, &kept)),
            _ => Ok(digest),
        }
    }

    /// Tells a tag that is not there from a repository that is not: registries say one word for both, and to HEAD
    /// none at all.
    fn not_found(&self, endpoint: &Endpoint, reference: &Reference, failure: Failure) -> Failure {
        if failure.kind != Kind::NotFound {
            return failure;
        }
        let (host, repository) = (&endpoint.host, &endpoint.repository);
        let error = Error::new(failure.error.message());
        let there_is_none =
            match self.page_of_tags(endpoint, &endpoint.path("tags/list?n=1"), "ask for its tags") {
                Err(tags) => tags.kind == Kind::NotFound,
                // An empty list is that of a repository whose last tag is gone, or that never was.
                Ok(page) => page.tags.is_empty(),
            };
        let error = if there_is_none {
            error
                .because(format!("`{host}` has no repository `{repository}`"))
                .hint("check the name; one that is not public may need `sbx login`")
        } else if let Some(digest) = &reference.digest {
            error.because(format!(
                "the repository `{repository}` of `{host}` has no image with the digest {digest}"
            ))
        } else {
            let tag = reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
            error.because(format!("the repository `{repository}` of `{host}` has no tag `{tag}`")).hint(
                format!(
                    "`sbx search --list-tags {}` lists those that it has",
                    reference.familiar_repository()
                ),
            )
        };
        Failure::new(Kind::NotFound, error)
    }
}

fn name_of(reference: &Reference) -> &str {
    match &reference.digest {
        Some(digest) => digest.as_str(),
        None => reference.tag.as_deref().unwrap_or(DEFAULT_TAG),
    }
}

fn accepted() -> String {
    use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ")
}

fn other_digest(what: &str, endpoint: &Endpoint, wanted: &Digest, got: &Digest) -> Failure {
    let error = Error::new(format!("cannot {what}"))
        .because(format!("`{}` gave another document: it has the digest {got}, not {wanted}", endpoint.host))
        .hint("something on the way to the registry has changed it, or the registry is damaged");
    Failure::new(Kind::Damaged, error)
}

/// What kind of document it is, from what the registry and the document itself say.
///
/// # Errors
/// It is of no kind that sbx knows, or the two say different things: a document that can be read in two ways may
/// stand for two images (CVE-2021-41190).
pub fn kind_of(header: Option<&str>, bytes: &[u8]) -> Result<String, String> {
    let header = header.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let known = |text: &str| media_type::is_index(text) || media_type::is_manifest(text);
    let shown = |text: &str| text.chars().take(100).collect::<String>().escape_debug().to_string();
    if let Some(header) = header.as_deref().filter(|header| SCHEMA_1.contains(header)) {
        return Err(format!(
            "it is of docker's old format schema 1 (`{header}`), which sbx does not read; it has to be pushed anew"
        ));
    }
    let document: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    let said = document.get("mediaType").and_then(|said| said.as_str());
    let has = |field: &str| document.get(field).is_some_and(|value| !value.is_null());
    if document.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return Err("it is of docker's old format schema 1, which sbx does not read".to_owned());
    }
    let kind = match (header.as_deref().filter(|header| known(header)), said) {
        (Some(header), Some(said)) if header != said => {
            return Err(format!("the registry calls it `{header}`, and it calls itself `{}`", shown(said)));
        }
        (Some(kind), _) => kind.to_owned(),
        (None, Some(said)) if known(said) => said.to_owned(),
        (None, Some(said)) => return Err(format!("sbx does not know its media type `{}`", shown(said))),
        // Servers of plain files say nothing useful.
        (None, None) => match header.as_deref() {
            None | Some("" | "application/json" | "application/octet-stream" | "text/plain") => {
                let index = has("manifests");
                if index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST }.to_owned()
            }
            Some(other) => return Err(format!("sbx does not know its media type `{}`", shown(other))),
        },
    };
    let (as_index, as_manifest) = (has("manifests"), has("config") || has("layers"));
    if as_index && as_manifest {
        return Err("it can be read as an index and as a manifest".to_owned());
    }
    if media_type::is_index(&kind) != as_index {
        return Err(format!("it is called `{kind}`, and has not its shape"));
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_all_say_that_it_is() {
        use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        for (header, text, wanted) in [
            (Some(OCI_MANIFEST), manifest, Ok(OCI_MANIFEST)),
            (
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                manifest,
                Ok(DOCKER_MANIFEST),
            ),
            (Some("application/json"), index, Ok(OCI_INDEX)),
            (None, manifest, Ok(OCI_MANIFEST)),
            (
                Some("text/plain"),
                r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#,
                Ok(DOCKER_INDEX),
            ),
            (Some(OCI_MANIFEST), index, Err("not its shape")),
            (
                Some(OCI_INDEX),
                r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
                Err("calls itself"),
            ),
            (Some(OCI_INDEX), r#"{"manifests":[],"layers":[]}"#, Err("as an index and as a manifest")),
            (Some(SCHEMA_1[1]), r#"{"schemaVersion":1}"#, Err("schema 1")),
            (None, r#"{"schemaVersion":1}"#, Err("schema 1")),
            (Some("application/vnd.cncf.helm"), manifest, Err("`application/vnd.cncf.helm`")),
            (None, r#"{"mediaType":"x/y","config":{}}"#, Err("`x/y`")),
            (Some("text/html"), "<html>", Err("no JSON")),
        ] {
            match (kind_of(header, text.as_bytes()), wanted) {
                (Ok(kind), Ok(wanted)) => assert_eq!(kind, wanted),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (kind, wanted) => panic!("{header:?} {text}: {kind:?}, not {wanted:?}"),
            }
        }
    }
}
