//! What a registry has: tags (distribution specification, Listing Tags), and repositories that fit a word (docker's
//! search of version 1; where a registry has none, its catalog).

use serde::Deserialize;
use ureq::http::Method;

use super::endpoint::Endpoint;
use super::exchange::Request;
use super::failure::{Failure, Kind};
use super::{Client, Outcome, url};
use crate::error::Error;
use crate::image::reference::Reference;
use crate::image::registries::Place;

/// The longest page of a listing that is read, in bytes.
const LARGEST_PAGE: u64 = 16 << 20;
/// Entries that are asked for at once.
const PAGE: usize = 1000;
/// Pages that are read; a registry without end has more.
const MOST_PAGES: usize = 10_000;
/// Tags that are kept.
const MOST_TAGS: usize = 1_000_000;
/// docker's search has a host of its own.
const HUB_SEARCH: &str = "index.docker.io";

/// A repository that fits what was searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Without the registry: `library/debian`.
    pub name: String,
    pub description: String,
    pub stars: u64,
    pub official: bool,
    pub automated: bool,
}

/// A page of tags, and where the next one is.
pub(super) struct Page {
    pub tags: Vec<String>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

impl Client {
    /// All tags of the reference's repository, at most `limit`.
    ///
    /// # Errors
    /// Every kind.
    pub fn tags(&self, reference: &Reference, limit: Option<usize>) -> Outcome<Vec<String>> {
        let what = format!("list the tags of `{}`", reference.familiar_repository());
        let limit = limit.unwrap_or(usize::MAX);
        let found = self.first(reference, |endpoint| {
            let mut target = endpoint.path(&format!("tags/list?n={}", limit.min(PAGE)));
            let mut tags = Vec::new();
            let mut seen = Vec::new();
            loop {
                let page = self.page_of_tags(endpoint, &target, &what).map_err(|failure| {
                    if failure.kind != Kind::NotFound {
                        return failure;
                    }
                    let error = Error::new(failure.error.message())
                        .because(format!("`{}` has no repository `{}`", endpoint.host, endpoint.repository))
                        .hint("check the name; one that is not public may need `sbx login`");
                    Failure::new(Kind::NotFound, error)
                })?;
                tags.extend(page.tags);
                let Some(next) = page.next.filter(|_| tags.len() < limit) else { break };
                seen.push(std::mem::replace(&mut target, next));
                if seen.len() > MOST_PAGES || tags.len() > MOST_TAGS || seen.contains(&target) {
                    let error = Error::new(format!("cannot {what}"))
                        .because(format!("the list of `{}` has no end", endpoint.host));
                    return Err(Failure::new(Kind::Other, error));
                }
            }
            tags.truncate(limit);
            Ok(tags)
        })?;
        Ok(found.1)
    }

    pub(super) fn page_of_tags(&self, endpoint: &Endpoint, target: &str, what: &str) -> Outcome<Page> {
        let scopes = [endpoint.scope("pull")];
        let (next, page) = self.page::<Tags>(endpoint, target, what, &scopes)?;
        Ok(Page { tags: page.tags.unwrap_or_default(), next })
    }

    /// A page of any listing, and the target of the next.
    fn page<T: serde::de::DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        target: &str,
        what: &str,
        scopes: &[String],
    ) -> Outcome<(Option<String>, T)> {
        let mut request = Request::new(what, Method::GET, target, scopes);
        let (headers, base, bytes) = self.0.exchange.fetch(endpoint, &mut request, LARGEST_PAGE)?;
        let page = serde_json::from_slice(&bytes).map_err(|error| {
            let error = Error::new(format!("cannot {what}"))
                .because(format!("`{}` answers in what cannot be understood: {error}", endpoint.host));
            Failure::new(Kind::Other, error)
        })?;
        let link = headers.get("link").and_then(|value| value.to_str().ok()).and_then(url::next_link);
        let next = link.and_then(|link| url::resolve(&base, link)).map(|next| next.to_string());
        Ok((next, page))
    }

    /// Repositories of the registry `domain` that fit the word, at most `limit`.
    ///
    /// # Errors
    /// Every kind.
    pub fn search(&self, domain: &str, word: &str, limit: usize) -> Outcome<Vec<Hit>> {
        let what = format!("search `{domain}` for `{}`", word.escape_debug());
        let insecure = self.registries().is_insecure(domain).map_err(Failure::refused)?;
        let place = Place { domain: domain.to_owned(), path: String::new(), insecure };
        let mut endpoint = Endpoint::of(place, false);
        if domain == "docker.io" {
            endpoint.host = HUB_SEARCH.to_owned();
        }
        let target = url::with_query("/v1/search", &[("q", word), ("n", &limit.to_string())]);
        let hits = match self.page::<Search>(&endpoint, &target, &what, &[]) {
            Ok((_, page)) => page.results.into_iter().map(hit).collect(),
            Err(failure) if failure.kind == Kind::NotFound && domain != "docker.io" => {
                self.search_catalog(&endpoint, word, limit, &what)?
            }
            Err(failure) => return Err(failure),
        };
        let mut hits: Vec<Hit> = hits;
        hits.truncate(limit);
        Ok(hits)
    }

    /// The names of all repositories, looked through here.
    fn search_catalog(&self, endpoint: &Endpoint, word: &str, limit: usize, what: &str) -> Outcome<Vec<Hit>> {
        let scopes = ["registry:catalog:*".to_owned()];
        let mut target = format!("/v2/_catalog?n={PAGE}");
        let mut hits = Vec::new();
        for _ in 0..MOST_PAGES {
            let (next, page) = self.page::<Catalog>(endpoint, &target, what, &scopes)?;
            for name in page.repositories.unwrap_or_default() {
                if name.contains(word) {
                    hits.push(hit(Found {
                        name,
                        description: None,
                        star_count: 0,
                        is_official: false,
                        is_automated: false,
                    }));
                }
            }
            match next.filter(|next| *next != target && hits.len() < limit) {
                Some(next) => target = next,
                None => break,
            }
        }
        Ok(hits)
    }
}

fn hit(found: Found) -> Hit {
    Hit {
        name: found.name,
        description: found.description.unwrap_or_default(),
        stars: found.star_count,
        official: found.is_official,
        automated: found.is_automated,
    }
}
