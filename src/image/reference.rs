//! Names of images, as docker reads them (the distribution project's grammar of references).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;

pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
pub const DEFAULT_TAG: &str = "latest";
/// The longest repository name (distribution project, reference).
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A repository with the tag or digest of one image in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub domain: String,
    /// `library/ubuntu`, `a/b`.
    pub path: String,
    pub tag: Option<String>,
    /// Decides where there is a tag, too.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads `ubuntu`, `ubuntu:22.04`, `name@sha256:…`, `localhost:5000/a/b:tag`. Where neither tag nor digest is
    /// given, neither is set: see [`Reference::or_latest`].
    ///
    /// # Errors
    /// What is wrong with the name, and the name that was probably meant.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Err(Error::new(format!("cannot use `{}` as the name of an image", text.escape_debug()))
                .because(why)
                .hint("write `[REGISTRY[:PORT]/]NAME[:TAG][@sha256:DIGEST]`, such as `docker.io/library/debian:12`"))
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|error| {
                    error.while_doing(format!("cannot use `{}` as the name of an image", text.escape_debug()))
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return refused(
                "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            );
        }
        if rest.is_empty() {
            return refused("it has no name");
        }
        let (domain, path) = match rest.split_once('/') {
            Some((first, path)) if is_domain_like(first) => (first.to_owned(), path.to_owned()),
            _ => (DEFAULT_DOMAIN.to_owned(), rest.to_owned()),
        };
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN.to_owned() } else { domain };
        let path =
            if domain == DEFAULT_DOMAIN && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path };
        if !is_domain(&domain) {
            return refused("the name of the registry is not a host name with an optional port");
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return refused("the name of a repository must be lower-case");
        }
        if !path.split('/').all(is_component) {
            return refused(
                "each part of a repository's name has lower-case letters and digits, and single `.`, `_`, `__` or `-` between them",
            );
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return refused("the name of a repository has at most 255 characters");
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// Whether a name leaves its registry to be found: `ubuntu`, `me/tool`.
    pub fn is_short(text: &str) -> bool {
        let name = text.split('@').next().unwrap_or_default();
        name.split_once('/').is_none_or(|(first, _)| !is_domain_like(first))
    }

    /// With the tag `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Registry and repository: `docker.io/library/ubuntu`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as docker shows it: `ubuntu`.
    pub fn familiar_repository(&self) -> String {
        if self.domain == DEFAULT_DOMAIN {
            let official = self.path.strip_prefix(OFFICIAL).filter(|name| !name.contains('/'));
            let taken_for_a_registry =
                self.path.split_once('/').is_some_and(|(first, _)| is_domain_like(first));
            if !taken_for_a_registry {
                return official.unwrap_or(&self.path).to_owned();
            }
        }
        self.repository()
    }

    /// The whole as docker shows it: `ubuntu:22.04`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

/// The whole, with nothing left out: `docker.io/library/ubuntu:22.04`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

/// What stands before the first slash is a registry where it could not be a repository of docker.io.
fn is_domain_like(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':').unwrap_or("none"))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_is_right = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if text.starts_with('[') {
        return port_is_right && host.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_is_right && host.split('.').all(label)
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    // Between letters and digits: one dot, one or two underscores, or any number of dashes.
    bytes.split(|byte| alphanumeric(byte)).all(|between| match between {
        [] | [b'.' | b'_'] | [b'_', b'_'] => true,
        dashes => dashes.iter().all(|byte| *byte == b'-'),
    })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        Reference::parse(text).unwrap().or_latest().to_string()
    }

    #[test]
    fn short_names_are_those_of_docker_hub() {
        assert_eq!(whole("ubuntu"), "docker.io/library/ubuntu:latest");
        assert_eq!(whole("ubuntu:22.04"), "docker.io/library/ubuntu:22.04");
        assert_eq!(whole("me/tool"), "docker.io/me/tool:latest");
        assert_eq!(whole("index.docker.io/ubuntu"), "docker.io/library/ubuntu:latest");
    }

    #[test]
    fn short_names_are_those_without_a_registry() {
        for (text, short) in
            [("ubuntu:1", true), ("me/tool@sha256:x/y", true), ("localhost/a", false), ("a.b/c", false)]
        {
            assert_eq!(Reference::is_short(text), short, "{text}");
        }
    }

    #[test]
    fn a_registry_is_told_from_a_repository() {
        assert_eq!(whole("localhost:5000/a/b:tag"), "localhost:5000/a/b:tag");
        assert_eq!(whole("localhost/a"), "localhost/a:latest");
        assert_eq!(whole("quay.io/a"), "quay.io/a:latest");
        assert_eq!(whole("[::1]:5000/a"), "[::1]:5000/a:latest");
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"");
        assert_eq!(whole(&format!("a@{digest}")), format!("docker.io/library/a@{digest}"));
        assert_eq!(whole(&format!("a:1@{digest}")), format!("docker.io/library/a:1@{digest}"));
    }

    #[test]
    fn familiar_names_leave_out_what_docker_leaves_out() {
        for (long, short) in [
            ("docker.io/library/ubuntu:1", "ubuntu:1"),
            ("docker.io/me/tool", "me/tool"),
            ("docker.io/library/a/b", "library/a/b"),
            ("docker.io/quay.io/a", "docker.io/quay.io/a"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
        ] {
            assert_eq!(Reference::parse(long).unwrap().familiar(), short);
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for text in [
            "",
            ":tag",
            "Ubuntu",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:.x",
            "a@sha256:12",
            "a b",
            "a..b",
            "a___b",
            "../a",
            "quay.io:x/a",
            "-a",
            "a\n",
            "quay.io/../b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
