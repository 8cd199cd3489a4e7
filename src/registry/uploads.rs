//! Blobs on their way to a registry (distribution specification, Pushing blobs).

use std::io::{self, Read};
use std::time::Duration;

use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use ureq::http::{Method, StatusCode};

use super::endpoint::Endpoint;
use super::exchange::{Answer, Content, Request};
use super::failure::{Failure, Kind};
use super::retry::Again;
use super::{Client, Outcome, url};
use crate::error::Error;
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::reference::Reference;

/// A registry hashes and stores a blob before it answers.
const PATIENCE: Duration = Duration::from_secs(600);
const OCTETS: &str = "application/octet-stream";

/// How a blob is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    Monolithic,
    /// Pieces of so many bytes; a registry may ask for larger ones.
    Chunked(u64),
}

/// An upload that is under way.
struct Session {
    location: String,
    /// The shortest chunk that the registry takes, but for the last.
    shortest: u64,
}

impl Client {
    /// Has the registry take the blob from its repository `from` (`library/debian`); false where it does not.
    ///
    /// # Errors
    /// Every kind.
    pub fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Outcome<bool> {
        let what = format!("mount the blob {} into `{}`", digest.short(), reference.familiar_repository());
        let endpoint = self.origin(reference)?;
        let target =
            url::with_query(&endpoint.path("blobs/uploads/"), &[("mount", digest.as_str()), ("from", from)]);
        let scopes = [endpoint.scope("pull,push"), format!("repository:{from}:pull")];
        let mut request = Request::new(&what, Method::POST, &target, &scopes);
        request.body = Content::Bytes(b"");
        let answer = self.0.exchange.send(&endpoint, &mut request)?;
        if answer.status == StatusCode::CREATED {
            return Ok(true);
        }
        // It has begun an upload instead, which nobody wants: an ordinary one wants other rights.
        if let Ok(session) = session(&what, &endpoint, &answer) {
            let scopes = [endpoint.scope("pull,push")];
            let mut cancel = Request::new("cancel an upload", Method::DELETE, &session.location, &scopes);
            if let Err(failure) = self.0.exchange.send(&endpoint, &mut cancel) {
                log::debug!("{failure}");
            }
        }
        Ok(false)
    }

    /// Sends a blob. `open` gives its bytes from an offset on: it is called for each piece, and again where sending
    /// has to be resumed.
    ///
    /// # Errors
    /// Every kind; NotFound where `open` does not know the upload any more is tried anew.
    pub fn upload_blob<R: Read + 'static>(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        how: Upload,
        mut open: impl FnMut(u64) -> io::Result<R>,
    ) -> Outcome<()> {
        let what =
            format!("upload the blob {} to `{}`", blob.digest.short(), reference.familiar_repository());
        let endpoint = self.origin(reference)?;
        let scopes = [endpoint.scope("pull,push")];
        let transfer = Transfer { client: self, endpoint: &endpoint, what: &what, scopes: &scopes, blob };
        let mut session = transfer.begin()?;
        let mut sent = 0;
        let (mut attempts, mut furthest) = (0, 0);
        loop {
            let piece = transfer.send(&mut session, how, &mut sent, &mut open);
            let failure = match piece {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    // What was sent before and lost is no progress.
                    if sent > furthest {
                        (attempts, furthest) = (0, sent);
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            let again = if is_out_of_step(&failure) { Again::Soon } else { failure.again };
            let Some(pause) = self.0.exchange.policy.pause(attempts, again) else { return Err(failure) };
            log::info!("{failure}; again in {} ms", pause.as_millis());
            attempts += 1;
            std::thread::sleep(pause);
            match transfer.taken(&mut session)? {
                Some(taken) if taken <= blob.size => sent = taken,
                // The upload is gone, or holds what is not the blob.
                _ => {
                    session = transfer.begin()?;
                    sent = 0;
                }
            }
        }
    }
}

/// One blob on its way.
struct Transfer<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    what: &'a str,
    scopes: &'a [String],
    blob: &'a Descriptor,
}

impl Transfer<'_> {
    fn begin(&self) -> Outcome<Session> {
        let target = self.endpoint.path("blobs/uploads/");
        let mut request = Request::new(self.what, Method::POST, &target, self.scopes);
        request.body = Content::Bytes(b"");
        let answer = self.client.0.exchange.send(self.endpoint, &mut request)?;
        session(self.what, self.endpoint, &answer)
    }

    /// Sends the next piece, without another attempt; true once the registry has all and agrees on the digest.
    fn send<R: Read + 'static>(
        &self,
        session: &mut Session,
        how: Upload,
        sent: &mut u64,
        open: &mut impl FnMut(u64) -> io::Result<R>,
    ) -> Outcome<bool> {
        let left = self.blob.size - *sent;
        let length = match how {
            Upload::Chunked(length) => left.min(length.max(session.shortest).max(1)),
            // What was begun in one piece is resumed in one.
            Upload::Monolithic => left,
        };
        let offset = *sent;
        let mut stream = || Ok(Box::new(open(offset)?.take(length)) as Box<dyn Read>);
        if how == Upload::Monolithic && offset == 0 {
            let content = Content::Stream(length, &mut stream);
            self.finish(session, content)?;
            return Ok(true);
        }
        if length == 0 {
            self.finish(session, Content::Bytes(b""))?;
            return Ok(true);
        }
        let target = session.location.clone();
        let mut request = Request::new(self.what, Method::PATCH, &target, self.scopes);
        request.headers.push((CONTENT_TYPE.as_str(), OCTETS.to_owned()));
        request.headers.push((CONTENT_RANGE.as_str(), format!("{offset}-{}", offset + length - 1)));
        request.body = Content::Stream(length, &mut stream);
        let answer = self.client.0.exchange.send_once(self.endpoint, &mut request)?;
        session.location = self::session(self.what, self.endpoint, &answer)?.location;
        *sent = answer.header("range").and_then(end_of_range).unwrap_or(offset + length).min(self.blob.size);
        Ok(false)
    }

    fn finish(&self, session: &Session, content: Content<'_>) -> Outcome<()> {
        let target = url::with_query(&session.location, &[("digest", self.blob.digest.as_str())]);
        let mut request = Request::new(self.what, Method::PUT, &target, self.scopes);
        request.headers.push((CONTENT_TYPE.as_str(), OCTETS.to_owned()));
        request.body = content;
        request.patience = Some(PATIENCE);
        self.client.0.exchange.send_once(self.endpoint, &mut request).map_err(|mut failure| {
            if failure.code == "DIGEST_INVALID" {
                failure.kind = Kind::Damaged;
            }
            failure
        })?;
        Ok(())
    }

    /// How many bytes the registry has; None where it does not know the upload any more.
    fn taken(&self, session: &mut Session) -> Outcome<Option<u64>> {
        let target = session.location.clone();
        let mut request = Request::new(self.what, Method::GET, &target, self.scopes);
        // docker's registry keeps in the location how far an upload was, and gives it up where that is not so.
        let gone = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::RANGE_NOT_SATISFIABLE];
        request.accepted = &gone;
        let answer = self.client.0.exchange.send(self.endpoint, &mut request)?;
        if gone.contains(&answer.status) {
            return Ok(None);
        }
        let taken = answer.header("range").and_then(end_of_range).unwrap_or(0);
        if let Ok(next) = self::session(self.what, self.endpoint, &answer) {
            session.location = next.location;
        }
        Ok(Some(taken))
    }
}

/// Where the upload goes on.
fn session(what: &str, endpoint: &Endpoint, answer: &Answer) -> Outcome<Session> {
    let location = answer.header(LOCATION.as_str()).and_then(|location| url::resolve(&answer.url, location));
    let location = location.ok_or_else(|| {
        let error = Error::new(format!("cannot {what}"))
            .because(format!("`{}` does not say where the upload goes on", endpoint.host));
        Failure::new(Kind::Other, error)
    })?;
    let shortest = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok()).unwrap_or(1);
    Ok(Session { location: location.to_string(), shortest })
}

/// The bytes of `0-9`; `0-0` stands for none, too, and is asked for from the beginning.
fn end_of_range(header: &str) -> Option<u64> {
    let (_, end) = header.trim().trim_start_matches("bytes=").split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}

/// The registry has more or less than what was thought, or nothing at all.
fn is_out_of_step(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "BLOB_UPLOAD_INVALID" | "BLOB_UPLOAD_UNKNOWN" | "RANGE_INVALID")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_read() {
        for (header, wanted) in
            [("0-9", Some(10)), ("bytes=0-4", Some(5)), ("0-0", Some(0)), ("x", None), ("0-", None)]
        {
            assert_eq!(end_of_range(header), wanted, "{header}");
        }
    }
}
