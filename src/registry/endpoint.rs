//! Where requests go.

use crate::image::registries::Place;

const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// A place that a repository is fetched from: a mirror, or the registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What stands in front of references: `docker.io`.
    pub domain: String,
    /// `registry-1.docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository there; empty where a registry is named alone.
    pub repository: String,
    /// http, and certificates that nobody vouches for, are allowed.
    pub insecure: bool,
    pub mirror: bool,
}

impl Endpoint {
    pub fn of(place: Place, mirror: bool) -> Self {
        let host = if place.domain == HUB { HUB_HOST.to_owned() } else { place.domain.clone() };
        Self { domain: place.domain, host, repository: place.path, insecure: place.insecure, mirror }
    }

    /// Under which name credentials are looked for.
    pub fn credentials_name(&self) -> String {
        if self.repository.is_empty() {
            return self.domain.clone();
        }
        format!("{}/{}", self.domain, self.repository)
    }

    /// What a token has to allow: `pull` or `pull,push`.
    pub fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.repository)
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }
}
