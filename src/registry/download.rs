//! What a plain URL names: `sbx import URL`.

use std::io::Read;

use ureq::http::Uri;
use ureq::http::header::LOCATION;

use super::agents::Agents;
use super::failure::of_transport;
use super::tls::Trust;
use super::url;
use crate::error::{Error, Result};

/// Redirects that are followed.
const MOST_HOPS: usize = 10;

/// Opens what the URL names; redirects are followed.
///
/// # Errors
/// It is no URL, the server cannot be reached, or has no such thing.
pub fn download(text: &str) -> Result<Box<dyn Read + Send>> {
    let what = format!("download `{text}`");
    let failed = || Error::new(format!("cannot {what}"));
    let agents = Agents::new(Trust::new(None), None);
    let mut target: Uri = text.parse().map_err(|error| failed().because(error))?;
    for _ in 0..MOST_HOPS {
        let host = target.authority().map(ToString::to_string).unwrap_or_default();
        let agent = agents.agent(&target, &host, true)?;
        let answer = agent.get(target.clone()).call();
        let answer = answer.map_err(|error| Error::from(of_transport(&what, &host, error)))?;
        let status = answer.status();
        if status.is_redirection() {
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url::resolve(&target, location));
            target = next.ok_or_else(|| failed().because(format!("`{host}` redirects to nowhere")))?;
            continue;
        }
        if !status.is_success() {
            return Err(failed().because(format!("`{host}` answers {status}")));
        }
        return Ok(Box::new(answer.into_body().into_reader()));
    }
    Err(failed().because("it is redirected again and again"))
}
