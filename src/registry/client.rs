//! The client that pull, push, login and search share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::agents::Agents;
use super::authorizer::Authorizer;
use super::endpoint::Endpoint;
use super::exchange::Exchange;
use super::failure::Failure;
use super::retry::Policy;
use super::tls::Trust;
use super::{Kind, Outcome};
use crate::error::Result;
use crate::image::auth::{AuthStore, Credentials};
use crate::image::reference::Reference;
use crate::image::registries::Registries;

/// What the command line says of registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--tls-verify`
    pub tls_verify: Option<bool>,
    /// `--creds`
    pub credentials: Option<Credentials>,
    /// `--authfile`
    pub authfile: Option<PathBuf>,
    /// `--cert-dir`
    pub cert_dir: Option<PathBuf>,
    /// `--retry`
    pub retries: Option<u32>,
    /// `--retry-delay`
    pub retry_delay: Option<Duration>,
    /// Time without a byte after which a connection is given up.
    pub stalled: Option<Duration>,
}

/// Cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    registries: Registries,
    pub exchange: Exchange,
    /// Which endpoint served a repository last: its blobs are there, too.
    served: Mutex<HashMap<String, Endpoint>>,
}

impl Client {
    /// Reads registries.conf(5); nothing is connected and no credentials are read yet.
    ///
    /// # Errors
    /// A file of the configuration cannot be read or understood.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self::with(Registries::load()?, options))
    }

    /// A client for this configuration.
    pub fn with(registries: Registries, options: Options) -> Self {
        let store = AuthStore::find(options.authfile.as_deref(), registries.credential_helpers());
        let exchange = Exchange::new(
            Agents::new(Trust::new(options.cert_dir), options.stalled),
            Authorizer::new(store, options.credentials),
            Policy { retries: options.retries, delay: options.retry_delay },
            options.tls_verify,
        );
        Self(Arc::new(Inner { registries, exchange, served: Mutex::default() }))
    }

    pub fn registries(&self) -> &Registries {
        &self.0.registries
    }

    /// Where the reference may be had: mirrors in order, then the registry itself.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn candidates(&self, reference: &Reference) -> Outcome<Vec<Endpoint>> {
        let places = self.0.registries.places(reference).map_err(Failure::refused)?;
        let mirrors = places.len().saturating_sub(1);
        Ok(places.into_iter().enumerate().map(|(at, place)| Endpoint::of(place, at < mirrors)).collect())
    }

    /// The registry itself, where the reference is pushed to.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn origin(&self, reference: &Reference) -> Outcome<Endpoint> {
        let place = self.0.registries.origin(reference).map_err(Failure::refused)?;
        Ok(Endpoint::of(place, false))
    }

    /// Looks up now what a registry may want to know of who asks, so that it is at hand where no helper can be
    /// started any more: in another user namespace.
    ///
    /// # Errors
    /// A file or helper of credentials fails, or the registry is blocked.
    pub fn look_up_credentials(&self, reference: &Reference) -> Outcome<()> {
        for endpoint in self.candidates(reference)? {
            self.0.exchange.authorizer.credentials(&endpoint)?;
        }
        Ok(())
    }

    /// Asks each endpoint until one gives an answer; the registry's own refusal is the one that counts.
    pub(super) fn first<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Endpoint) -> Outcome<T>,
    ) -> Outcome<(Endpoint, T)> {
        let mut last = None;
        for endpoint in self.in_order(reference)? {
            match ask(&endpoint) {
                Ok(answer) => {
                    self.remember(reference, &endpoint);
                    return Ok((endpoint, answer));
                }
                Err(failure) => {
                    if endpoint.mirror {
                        log::info!("the mirror `{}` does not help: {failure}", endpoint.host);
                    }
                    last = Some(failure);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            let error = crate::error::Error::new(format!("there is no registry for `{reference}`"));
            Failure::new(Kind::Other, error)
        }))
    }

    /// The candidates, with the one first that has served the repository before.
    fn in_order(&self, reference: &Reference) -> Outcome<Vec<Endpoint>> {
        let mut endpoints = self.candidates(reference)?;
        let served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = served.get(&reference.repository())
            && let Some(at) = endpoints.iter().position(|endpoint| endpoint == known)
        {
            endpoints[..=at].rotate_right(1);
        }
        Ok(endpoints)
    }

    fn remember(&self, reference: &Reference, endpoint: &Endpoint) {
        let mut served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert(reference.repository(), endpoint.clone());
    }
}
