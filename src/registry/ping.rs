//! Whether a registry is there, and lets these credentials in.

use ureq::http::Method;

use super::endpoint::Endpoint;
use super::exchange::Request;
use super::failure::{Failure, Kind};
use super::{Client, Outcome};
use crate::error::Error;
use crate::image::registries::Place;

impl Client {
    /// Asks the registry `domain` for nothing but an answer (distribution specification, Determining Support), with
    /// the credentials of the options or those that are kept.
    ///
    /// # Errors
    /// Every kind.
    pub fn ping(&self, domain: &str) -> Outcome<()> {
        let insecure = self.registries().is_insecure(domain).map_err(Failure::refused)?;
        let place = Place { domain: domain.to_owned(), path: String::new(), insecure };
        let endpoint = Endpoint::of(place, false);
        let what = format!("log in to `{domain}`");
        let mut request = Request::new(&what, Method::GET, "/v2/", &[]);
        match self.0.exchange.send(&endpoint, &mut request) {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == Kind::NotFound => {
                let error = Error::new(format!("cannot {what}"))
                    .because(format!("`{}` is there, and is no registry of images", endpoint.host));
                Err(Failure::new(Kind::NotFound, error))
            }
            Err(failure) => Err(failure),
        }
    }
}
