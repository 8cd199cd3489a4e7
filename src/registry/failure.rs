//! Why a registry did not give what was asked for, in the words of who asked.

use std::fmt;
use std::io;

use serde::Deserialize;
use ureq::http::{HeaderMap, StatusCode};

use super::resolve::Unresolved;
use super::retry::{Again, retry_after};
use crate::error::Error;

/// What callers tell apart: another candidate for a short name is tried after [`Kind::NotFound`] and
/// [`Kind::Denied`], another mirror after anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The repository, or the tag, digest or upload in it, is not there.
    NotFound,
    /// The registry wants other credentials, or none suffice.
    Denied,
    RateLimited,
    /// No connection, or none that lasts: name, network, time-out, an error of the server.
    Unreachable,
    /// The connection cannot be trusted: certificate, or http where https is wanted.
    Untrusted,
    /// What came is not what was asked for: another digest, fewer or more bytes.
    Damaged,
    /// A document of a kind that sbx does not know.
    UnknownType,
    /// A configuration of this machine forbids it or cannot be read.
    Refused,
    Other,
}

/// An error of one of the kinds; `?` makes a plain [`Error`] of it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub error: Error,
    pub(super) again: Again,
    /// The registry's own word for it, such as `NAME_UNKNOWN`.
    pub(super) code: String,
}

impl Failure {
    pub fn new(kind: Kind, error: Error) -> Self {
        Self { kind, error, again: Again::Never, code: String::new() }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self::new(Kind::Refused, error)
    }

    #[must_use]
    pub(super) fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// No answer came: `what` was to be done at `host`.
pub(super) fn of_transport(what: &str, host: &str, error: ureq::Error) -> Failure {
    let failed = Error::new(format!("cannot {what}"));
    let unreachable = |why: String, again: Again| {
        Failure::new(Kind::Unreachable, failed_with(what, format!("`{host}` cannot be reached: {why}")))
            .again(again)
    };
    match error {
        ureq::Error::Rustls(error) => of_tls(what, host, &error),
        ureq::Error::Io(error) => {
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return of_tls(what, host, error);
            }
            match error.kind() {
                io::ErrorKind::UnexpectedEof => Failure::new(
                    Kind::Damaged,
                    failed.because(format!("`{host}` ended the connection before all had come")),
                )
                .again(Again::Soon),
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => unreachable(plain(&error), Again::Soon),
                _ => unreachable(plain(&error), Again::Never),
            }
        }
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            unreachable("it does not answer".to_owned(), Again::Never)
        }
        ureq::Error::Timeout(_) => {
            unreachable("it has sent or taken nothing for too long".to_owned(), Again::Soon)
        }
        ureq::Error::ConnectProxyFailed(why) => {
            unreachable(format!("the proxy refuses: {}", shown(&why)), Again::Never)
        }
        ureq::Error::Other(error) => match error.downcast_ref::<Unresolved>() {
            Some(unresolved) => Failure::new(
                Kind::Unreachable,
                failed.because(unresolved).hint("check the name, and whether this machine is online"),
            ),
            None => unreachable(error.to_string(), Again::Never),
        },
        ureq::Error::Protocol(error) => Failure::new(
            Kind::Other,
            failed.because(format!("`{host}` answers in what is not HTTP: {error}")),
        ),
        error => unreachable(error.to_string(), Again::Never),
    }
}

fn failed_with(what: &str, why: String) -> Error {
    Error::new(format!("cannot {what}")).because(why)
}

/// Whether the server answered in something other than TLS.
pub(super) fn speaks_no_tls(error: &ureq::Error) -> bool {
    let inner = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => Some(error),
                // Servers that wait for letters end the connection.
                None => {
                    return matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::ConnectionRefused
                    );
                }
            }
        }
        _ => None,
    };
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

fn of_tls(what: &str, host: &str, error: &rustls::Error) -> Failure {
    use rustls::CertificateError as Wrong;
    let failed = Error::new(format!("cannot {what}"));
    let error = match error {
        rustls::Error::InvalidCertificate(wrong) => {
            let (why, hint) = match wrong {
                Wrong::UnknownIssuer | Wrong::BadSignature => (
                    "nobody whom this machine trusts has signed it".to_owned(),
                    format!("put the certificate of its authority into `~/.config/containers/certs.d/{host}/ca.crt`, or use `--tls-verify=false`"),
                ),
                Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => (
                    "it is for another host".to_owned(),
                    "use the name that the certificate has".to_owned(),
                ),
                Wrong::Expired | Wrong::ExpiredContext { .. } => {
                    ("it has expired".to_owned(), "tell who runs the registry; check this machine's clock".to_owned())
                }
                Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                    ("it is not valid yet".to_owned(), "check this machine's clock".to_owned())
                }
                other => (other.to_string(), format!("check what `openssl s_client -connect {host}` shows")),
            };
            failed.because(format!("the certificate of `{host}` cannot be trusted: {why}")).hint(hint)
        }
        rustls::Error::InvalidMessage(_) => failed
            .because(format!("`{host}` speaks http, or something else that is not https"))
            .hint("where that is meant to be so, use `--tls-verify=false`, or set `insecure = true` for it in registries.conf"),
        rustls::Error::AlertReceived(alert) => {
            let error = failed.because(format!("`{host}` refuses the TLS connection: {alert:?}"));
            error.hint(format!("if it wants a client certificate, put `client.cert` and `client.key` into `~/.config/containers/certs.d/{host}`"))
        }
        other => failed.because(format!("no TLS connection to `{host}` can be made: {other}")),
    };
    Failure::new(Kind::Untrusted, error)
}

/// The errors of an answer (distribution specification, Error Codes).
#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
    /// What servers say that are no registries.
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What the body of a refusal says.
#[derive(Debug, Default, Clone)]
pub(super) struct Said {
    pub code: String,
    pub message: String,
}

impl Said {
    pub fn read(body: &[u8]) -> Self {
        let errors: Errors = serde_json::from_slice(body).unwrap_or_default();
        match errors.errors.into_iter().next() {
            Some(first) => {
                Self { message: shown(first.message.as_deref().unwrap_or(&first.code)), code: first.code }
            }
            None => {
                Self { code: String::new(), message: shown(errors.details.as_deref().unwrap_or_default()) }
            }
        }
    }

    fn or(&self, other: &str) -> String {
        if self.message.is_empty() { other.to_owned() } else { format!("{other}: {}", self.message) }
    }
}

/// What a server says may command a terminal.
fn shown(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim_end_matches('.').to_owned()
}

/// An answer that is a refusal.
pub(super) fn of_status(
    what: &str,
    host: &str,
    status: StatusCode,
    headers: &HeaderMap,
    said: &Said,
) -> Failure {
    let failed = Error::new(format!("cannot {what}"));
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match status.as_u16() {
        404 => Failure::new(Kind::NotFound, failed.because(said.or(&format!("`{host}` does not have it")))),
        401 | 403 => Failure::new(
            Kind::Denied,
            failed
                .because(said.or(&format!("`{host}` denies it")))
                .hint(format!("the repository may not exist, or is for others: `sbx login {host}`")),
        ),
        413 => Failure::new(Kind::Other, failed.because(said.or(&format!("it is too large for `{host}`")))),
        429 => {
            let after = header("retry-after").and_then(retry_after);
            let mut why = format!("`{host}` takes no more requests for now");
            if let Some(after) = after {
                why.push_str(&format!(", and wants to be asked again in {} seconds", after.as_secs()));
            }
            if let Some(limit) = header("ratelimit-limit") {
                let (count, window) = limit.split_once(";w=").unwrap_or((limit, ""));
                why.push_str(&format!(" (its limit is {} requests", shown(count)));
                if !window.is_empty() {
                    why.push_str(&format!(" in {} seconds", shown(window)));
                }
                why.push(')');
            }
            let error = failed
                .because(said.or(&why))
                .hint("try later; for who has logged in the limit may be higher");
            Failure::new(Kind::RateLimited, error).again(after.map_or(Again::Soon, Again::After))
        }
        code @ (408 | 500 | 502 | 503 | 504) => {
            let after = header("retry-after").and_then(retry_after);
            Failure::new(
                Kind::Unreachable,
                failed.because(said.or(&format!("`{host}` failed with the status {code}"))),
            )
            .again(after.map_or(Again::Soon, Again::After))
        }
        400 if said.message.is_empty() => Failure::new(
            Kind::Other,
            failed
                .because(format!("`{host}` did not understand the request (status 400)"))
                .hint("if it speaks https only, http is the wrong way to talk to it"),
        ),
        code => Failure::new(
            Kind::Other,
            failed.because(said.or(&format!("`{host}` answered with the status {code}"))),
        ),
    }
}

/// The words of an error without those around them.
fn plain(error: &io::Error) -> String {
    error.get_ref().and_then(|inner| inner.source()).map_or_else(|| error.to_string(), ToString::to_string)
}
