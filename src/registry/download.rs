//! What a plain URL names: `sbx import URL`, and what builds fetch.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::time::Duration;

use base64::Engine;
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, CONTENT_DISPOSITION, ETAG, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use ureq::http::{HeaderMap, StatusCode, Uri};

use super::Outcome;
use super::agents::Agents;
use super::failure::{Failure, Kind, Said, of_status, of_transport};
use super::retry::Policy;
use super::tls::Trust;
use super::url;
use crate::error::{Error, Result};

/// Redirects that are followed.
const MOST_HOPS: usize = 10;
/// Bytes of one write.
const PIECE: usize = 128 << 10;

/// What is asked of a server.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// A name and password in it are for its host alone.
    pub url: &'a str,
    /// What is at hand already (RFC 9110, 13.1.2): the answer may be that it is still that.
    pub etag: Option<&'a str>,
    /// Time without a byte after which a connection is given up, where not the usual.
    pub stalled: Option<Duration>,
}

/// What the server says of what it sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub etag: Option<String>,
    /// Last-Modified, in seconds since 1970.
    pub modified: Option<i64>,
    /// The name of the file in Content-Disposition, as it was written.
    pub name: Option<String>,
}

/// Opens what the URL names; redirects are followed.
///
/// # Errors
/// It is no URL, the server cannot be reached, or has no such thing.
pub fn download(text: &str) -> Result<Box<dyn Read + Send>> {
    let ask = Ask { url: text, etag: None, stalled: None };
    let opened = Travel::new(&ask)?.open().map_err(Error::from)?;
    Ok(Box::new(opened.body.into_reader()))
}

/// Writes what the URL names into the file, from its beginning, once more where that may help. None: the server still
/// has what the ask knows.
///
/// # Errors
/// As of [`download`]; what comes is less than was announced, or the file cannot be written.
pub fn fetch(ask: &Ask<'_>, target: &mut File) -> Result<Option<Head>> {
    let travel = Travel::new(ask)?;
    for count in 0.. {
        let failure = match travel.fetch(target) {
            Ok(head) => return Ok(head),
            Err(failure) => failure,
        };
        match Policy::default().pause(count, failure.again) {
            Some(pause) => {
                log::info!("{failure}; again in {} ms", pause.as_millis());
                std::thread::sleep(pause);
            }
            None => return Err(failure.into()),
        }
    }
    unreachable!("attempts are counted, and their number is bounded")
}

/// The URL without a name and password, for people.
pub fn shown(text: &str) -> String {
    split(text).0
}

/// One download.
struct Travel<'a> {
    ask: &'a Ask<'a>,
    agents: Agents,
    /// Without a name and password.
    begin: Uri,
    authorization: Option<String>,
    what: String,
}

/// An answer at the end of all redirects.
struct Opened {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    host: String,
}

impl<'a> Travel<'a> {
    fn new(ask: &'a Ask<'a>) -> Result<Self> {
        let (url, credentials) = split(ask.url);
        let what = format!("download `{}`", url.escape_debug());
        let failed = || Error::new(format!("cannot {what}"));
        let begin: Uri = url.parse().map_err(|error| failed().because(error))?;
        if !matches!(begin.scheme_str(), Some("http" | "https")) || begin.host().is_none_or(str::is_empty) {
            return Err(failed().because("it is no http or https URL"));
        }
        let encode = |text| base64::engine::general_purpose::STANDARD.encode(text);
        let authorization = credentials.map(|credentials| format!("Basic {}", encode(credentials)));
        Ok(Self { ask, agents: Agents::new(Trust::new(None), ask.stalled), begin, authorization, what })
    }

    fn open(&self) -> Outcome<Opened> {
        let failed =
            |why: String| Failure::new(Kind::Other, Error::new(format!("cannot {}", self.what)).because(why));
        let mut target = self.begin.clone();
        let mut seen: Vec<Uri> = Vec::new();
        loop {
            let host = target.authority().map(ToString::to_string).unwrap_or_default();
            let agent = self.agents.agent(&target, &host, true).map_err(Failure::refused)?;
            let mut request = agent.get(target.clone());
            if let Some(etag) = self.ask.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(authorization) =
                self.authorization.as_ref().filter(|_| url::same_origin(&self.begin, &target))
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            let answer = request.call().map_err(|error| of_transport(&self.what, &host, error))?;
            let (parts, body) = answer.into_parts();
            let (status, headers) = (parts.status, parts.headers);
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return match status {
                    StatusCode::OK => Ok(Opened { status, headers, body, host }),
                    StatusCode::NOT_MODIFIED if self.ask.etag.is_some() => {
                        Ok(Opened { status, headers, body, host })
                    }
                    _ => {
                        let again = of_status(&self.what, &host, status, &headers, &Said::default()).again;
                        Err(failed(format!("`{host}` answers {status}")).again(again))
                    }
                };
            }
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location
                .and_then(|location| url::resolve(&target, location))
                .ok_or_else(|| failed(format!("`{host}` redirects to what is no http or https URL")))?;
            if target.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                let why = format!("`{host}` redirects from https to http, which others can change");
                return Err(Failure { kind: Kind::Untrusted, ..failed(why) });
            }
            seen.push(target);
            if seen.contains(&next) || seen.len() > MOST_HOPS {
                let circle = if seen.contains(&next) { "in a circle" } else { "more than ten times" };
                return Err(failed(format!("`{host}` redirects {circle}")));
            }
            target = next;
        }
    }

    fn fetch(&self, target: &mut File) -> Outcome<Option<Head>> {
        let not_written = |error: io::Error| {
            let message = format!("cannot keep what was downloaded from `{}`", self.begin);
            Failure::refused(crate::container::store::no_room(error, message))
        };
        target.rewind().and_then(|()| target.set_len(0)).map_err(not_written)?;
        let opened = self.open()?;
        if opened.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let head = Head::read(&opened.headers);
        let mut body = opened.body.into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece) {
                Ok(0) => return Ok(Some(head)),
                Ok(count) => target.write_all(&piece[..count]).map_err(not_written)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(of_transport(&self.what, &opened.host, error.into())),
            }
        }
    }
}

impl Head {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            etag: text(ETAG).map(str::to_owned),
            modified: text(LAST_MODIFIED).and_then(seconds),
            name: text(CONTENT_DISPOSITION).and_then(file_name),
        }
    }
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110, 5.6.7).
fn seconds(date: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(date.trim()).ok()?;
    Some(time.timestamp().as_second())
}

/// `attachment; filename="x.tar"` (RFC 6266, without the encoded form).
fn file_name(disposition: &str) -> Option<String> {
    let fields = disposition.split(';').skip(1).filter_map(|field| field.split_once('='));
    let mut names = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case("filename"));
    let name = names.next()?.1.trim().trim_matches('"');
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// A URL without `NAME:PASSWORD@`, and those, decoded.
pub fn split(text: &str) -> (String, Option<Vec<u8>>) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text.to_owned(), None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((credentials, host)) = rest[..end].rsplit_once('@') else { return (text.to_owned(), None) };
    (format!("{scheme}://{host}{}", &rest[end..]), Some(url::decode(credentials)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        for (text, url, credentials) in [
            ("https://a/b@c", "https://a/b@c", None),
            ("https://me:p%40ss@a:1/b?c@d", "https://a:1/b?c@d", Some(&b"me:p@ss"[..])),
            ("http://x@y@z", "http://z", Some(b"x@y")),
            ("no url", "no url", None),
        ] {
            assert_eq!(split(text), (url.to_owned(), credentials.map(<[u8]>::to_vec)), "{text}");
        }
    }

    #[test]
    fn dates_and_names_of_headers() {
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(file_name("attachment; filename=\"a b.tar\"; x=y").as_deref(), Some("a b.tar"));
        assert_eq!(file_name("attachment; FileName=x").as_deref(), Some("x"));
        assert_eq!(file_name("attachment"), None);
    }
}
