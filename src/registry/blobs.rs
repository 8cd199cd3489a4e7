//! Blobs on their way here (distribution specification, Pulling blobs).

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Method, StatusCode};

use super::endpoint::Endpoint;
use super::exchange::Request;
use super::failure::{Failure, Kind, of_transport};
use super::retry::Again;
use super::{Client, Outcome};
use crate::error::Error;
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::reference::Reference;

impl Client {
    /// The bytes of a blob of the reference's repository from `offset` on. A connection that breaks is made again
    /// where it broke off.
    ///
    /// # Errors
    /// Every kind, before the first byte; later an [`io::Error`] of the reader, see [`BlobReader::reason`].
    pub fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Outcome<BlobReader> {
        let what = format!("get the blob {} of `{}`", blob.digest.short(), reference.familiar_repository());
        let (endpoint, body) = self.first(reference, |endpoint| self.open(endpoint, &what, blob, offset))?;
        Ok(BlobReader {
            client: self.clone(),
            endpoint,
            what,
            blob: blob.clone(),
            position: offset,
            body: Some(body),
            attempts: 0,
        })
    }

    /// The body that has the blob's bytes from `offset` on as its next ones.
    fn open(
        &self,
        endpoint: &Endpoint,
        what: &str,
        blob: &Descriptor,
        offset: u64,
    ) -> Outcome<BodyReader<'static>> {
        let target = endpoint.path(&format!("blobs/{}", blob.digest));
        let scopes = [endpoint.scope("pull")];
        let mut request = Request::new(what, Method::GET, &target, &scopes);
        if offset > 0 {
            request.headers.push((RANGE.as_str(), format!("bytes={offset}-")));
        }
        let answer = self.0.exchange.send(endpoint, &mut request)?;
        let damaged =
            |why: String| Failure::new(Kind::Damaged, Error::new(format!("cannot {what}")).because(why));
        let host = endpoint.host.clone();
        let from = match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header(CONTENT_RANGE.as_str()).and_then(begin_of_range);
                if range != Some(offset) {
                    return Err(damaged(format!(
                        "`{host}` sends another part than the one from byte {offset} on"
                    )));
                }
                offset
            }
            _ => 0,
        };
        if let Some(announced) = answer.header("content-length").and_then(|text| text.parse::<u64>().ok())
            && announced.saturating_add(from) != blob.size
        {
            return Err(damaged(format!(
                "`{host}` has a blob of {} bytes, and the manifest says {}",
                announced.saturating_add(from),
                blob.size
            )));
        }
        let mut body = answer.body.into_reader();
        if from < offset {
            // A registry that knows no ranges sends everything.
            let skipped = io::copy(&mut (&mut body).take(offset), &mut io::sink())
                .map_err(|error| of_transport(what, &host, error.into()))?;
            if skipped < offset {
                return Err(ended_early(what, &host, skipped, blob.size));
            }
        }
        Ok(body)
    }

    /// Whether the reference's repository has the blob.
    ///
    /// # Errors
    /// Every kind but NotFound.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Outcome<bool> {
        let what = format!("ask for the blob {} of `{}`", digest.short(), reference.familiar_repository());
        let endpoint = self.origin(reference)?;
        let target = endpoint.path(&format!("blobs/{digest}"));
        let scopes = [endpoint.scope("pull,push")];
        let mut request = Request::new(&what, Method::HEAD, &target, &scopes);
        let not_found = [StatusCode::NOT_FOUND];
        request.accepted = &not_found;
        let answer = self.0.exchange.send(&endpoint, &mut request)?;
        Ok(answer.status.is_success())
    }
}

/// The bytes of a blob; the digest is for the reader to verify.
pub struct BlobReader {
    client: Client,
    endpoint: Endpoint,
    what: String,
    blob: Descriptor,
    /// The next byte of the blob.
    position: u64,
    body: Option<BodyReader<'static>>,
    /// In a row, without a byte between them.
    attempts: u32,
}

impl BlobReader {
    /// Why reading failed, in the words of the registry.
    pub fn reason(error: io::Error) -> Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Failure>())
            && let Some(Ok(failure)) = error.into_inner().map(|inner| inner.downcast::<Failure>())
        {
            return failure.error;
        }
        Error::new("cannot read a blob")
    }

    fn some(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                self.body.insert(self.client.open(&self.endpoint, &self.what, &self.blob, self.position)?)
            }
        };
        let count =
            body.read(buffer).map_err(|error| of_transport(&self.what, &self.endpoint.host, error.into()))?;
        let left = self.blob.size - self.position;
        if count == 0 && left > 0 && !buffer.is_empty() {
            return Err(ended_early(&self.what, &self.endpoint.host, self.position, self.blob.size));
        }
        if count as u64 > left {
            let error = Error::new(format!("cannot {}", self.what)).because(format!(
                "`{}` sends more than the {} bytes that the manifest says",
                self.endpoint.host, self.blob.size
            ));
            return Err(Failure::new(Kind::Damaged, error));
        }
        Ok(count)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.some(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    self.attempts = 0;
                    return Ok(count);
                }
                Err(failure) => {
                    self.body = None;
                    // What `open` refuses it has tried often enough itself.
                    let pause = self.client.0.exchange.policy.pause(self.attempts, failure.again);
                    let Some(pause) = pause else { return Err(io::Error::other(failure)) };
                    log::info!("{failure}; again from byte {} in {} ms", self.position, pause.as_millis());
                    self.attempts += 1;
                    std::thread::sleep(pause);
                }
            }
        }
    }
}

fn ended_early(what: &str, host: &str, got: u64, size: u64) -> Failure {
    let error = Error::new(format!("cannot {what}"))
        .because(format!("`{host}` ended the connection after {got} of {size} bytes"));
    Failure::new(Kind::Damaged, error).again(Again::Soon)
}

/// `bytes 10-19/20`
fn begin_of_range(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
