//! One request and its answer: the way to the right host, with the right password, over redirects, and again where
//! that may help.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, Method, StatusCode, Uri};
use ureq::{Body, SendBody};

use super::agents::Agents;
use super::authorizer::{Authorizer, LARGEST_ANSWER, TokenRequest};
use super::challenge;
use super::endpoint::Endpoint;
use super::failure::{Failure, Kind, Said, of_status, of_transport, speaks_no_tls};
use super::proxy::is_loopback;
use super::retry::{Again, Policy};
use super::{Outcome, url};
use crate::error::Error;

/// Redirects that are followed for one request.
const MOST_HOPS: usize = 10;
/// Of the body of a refusal this much is read, in bytes.
const LONGEST_REFUSAL: u64 = 64 << 10;

/// A request; one that is made again has its body opened again.
pub struct Request<'a, 'b> {
    /// What it is for, as it goes on after `cannot`: `get the manifest of `ubuntu``.
    pub what: &'a str,
    pub method: Method,
    /// A path below the host, or a whole URL that the registry has given.
    pub target: &'a str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Content<'b>,
    /// What a token has to allow.
    pub scopes: &'a [String],
    /// Answers that are no failures besides those below 300.
    pub accepted: &'a [StatusCode],
    /// How long the answer may take, where that is longer than usual.
    pub patience: Option<Duration>,
}

impl<'a> Request<'a, '_> {
    pub fn new(what: &'a str, method: Method, target: &'a str, scopes: &'a [String]) -> Self {
        Self {
            what,
            method,
            target,
            headers: Vec::new(),
            body: Content::None,
            scopes,
            accepted: &[],
            patience: None,
        }
    }
}

pub enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes of a reader, opened for each attempt.
    Stream(u64, &'a mut dyn FnMut() -> io::Result<Box<dyn Read>>),
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    /// Where it came from at last.
    pub url: Uri,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// It is longer, or breaks off.
    pub fn read(self, what: &str, limit: u64) -> Outcome<Vec<u8>> {
        let host = self.url.authority().map(ToString::to_string).unwrap_or_default();
        let announced = self.header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        let too_large = || {
            let error = Error::new(format!("cannot {what}"))
                .because(format!("`{host}` sends more than {limit} bytes, which no such document has"));
            Failure::new(Kind::Damaged, error)
        };
        if announced.is_some_and(|announced| announced > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let reader = self.body.into_reader();
        let read = reader.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| of_transport(what, &host, error.into()))?;
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
        Ok(bytes)
    }
}

pub struct Exchange {
    agents: Agents,
    pub authorizer: Authorizer,
    pub policy: Policy,
    /// `--tls-verify`
    tls_verify: Option<bool>,
    /// `http` or `https`, by host, once it has answered so.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Exchange {
    pub fn new(agents: Agents, authorizer: Authorizer, policy: Policy, tls_verify: Option<bool>) -> Self {
        Self { agents, authorizer, policy, tls_verify, schemes: Mutex::default() }
    }

    /// Makes the request until it is answered, refused, or not worth another attempt.
    ///
    /// # Errors
    /// Every kind.
    pub fn send(&self, endpoint: &Endpoint, request: &mut Request<'_, '_>) -> Outcome<Answer> {
        self.again(|| self.attempt(endpoint, request))
    }

    /// Makes the request once: for callers who know better what to do next.
    ///
    /// # Errors
    /// Every kind.
    pub fn send_once(&self, endpoint: &Endpoint, request: &mut Request<'_, '_>) -> Outcome<Answer> {
        self.attempt(endpoint, request)
    }

    /// The same as [`Exchange::send`] for a document, whose body may break off, too.
    ///
    /// # Errors
    /// Every kind.
    pub fn fetch(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_, '_>,
        limit: u64,
    ) -> Outcome<(HeaderMap, Uri, Vec<u8>)> {
        self.again(|| {
            let answer = self.attempt(endpoint, request)?;
            let (headers, url) = (answer.headers.clone(), answer.url.clone());
            Ok((headers, url, answer.read(request.what, limit)?))
        })
    }

    fn again<T>(&self, mut attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        for count in 0.. {
            match attempt() {
                Err(failure) => match self.policy.pause(count, failure.again) {
                    Some(pause) => {
                        log::info!("{failure}; again in {} ms", pause.as_millis());
                        std::thread::sleep(pause);
                    }
                    None => return Err(failure),
                },
                done => return done,
            }
        }
        unreachable!("attempts are counted, and their number is bounded")
    }

    fn attempt(&self, endpoint: &Endpoint, request: &mut Request<'_, '_>) -> Outcome<Answer> {
        let ask = |token: &TokenRequest| self.ask_for_token(endpoint, token);
        let mut authorization = self.authorizer.prepared(endpoint, request.scopes, &ask)?;
        let mut answer = self.travel(endpoint, request, authorization.as_deref())?;
        if answer.status == StatusCode::UNAUTHORIZED {
            let challenges: Vec<_> = answer
                .headers
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(challenge::parse)
                .collect();
            let rejected = authorization.take();
            let fresh =
                self.authorizer.answer(endpoint, request.scopes, &challenges, rejected.as_deref(), &ask)?;
            let Some(fresh) = fresh else {
                return Err(self.denied(endpoint, request.what, &challenges, answer));
            };
            answer = self.travel(endpoint, request, Some(&fresh))?;
            if answer.status == StatusCode::UNAUTHORIZED {
                return Err(self.denied(endpoint, request.what, &challenges, answer));
            }
        }
        if answer.status.is_success() || request.accepted.contains(&answer.status) {
            return Ok(answer);
        }
        Err(refusal(request.what, &endpoint.host, answer))
    }

    /// Why there is no way in.
    fn denied(
        &self,
        endpoint: &Endpoint,
        what: &str,
        challenges: &[challenge::Challenge],
        answer: Answer,
    ) -> Failure {
        let host = &endpoint.host;
        let failed = Error::new(format!("cannot {what}"));
        let login = format!("log in: `sbx login {}`", endpoint.domain);
        let error = match self.authorizer.credentials(endpoint) {
            Err(failure) => return failure,
            _ if challenges.is_empty() => {
                failed.because(format!("`{host}` lets nobody in and does not say how (no WWW-Authenticate)"))
            }
            Ok(Some(credentials)) => {
                let whom = credentials.user().map_or_else(
                    || "the token that is kept for it".to_owned(),
                    |user| format!("the password of the user `{}`", user.escape_debug()),
                );
                failed.because(format!("`{host}` refuses {whom}, or this user may not do that")).hint(login)
            }
            Ok(None) => failed
                .because(format!("`{host}` wants to know who asks, and nobody has logged in to it"))
                .hint(format!("{login}; a repository that does not exist is answered so, too")),
        };
        drop(answer);
        Failure::new(Kind::Denied, error)
    }

    fn ask_for_token(&self, endpoint: &Endpoint, token: &TokenRequest) -> Outcome<Vec<u8>> {
        let what = format!("get a token for `{}`", endpoint.host);
        let refused =
            |why: String| Failure::new(Kind::Untrusted, Error::new(format!("cannot {what}")).because(why));
        let url: Uri = token
            .url
            .parse()
            .ok()
            .filter(|url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
            .ok_or_else(|| refused("the registry names no http or https URL for tokens".to_owned()))?;
        let host = url.authority().map(ToString::to_string).unwrap_or_default();
        let loopback = url.host().is_some_and(is_loopback);
        if url.scheme_str() == Some("http") && !loopback && !self.is_insecure(endpoint) {
            return Err(refused(format!("`{host}` gives tokens over http, which others can read")));
        }
        self.again(|| {
            let mut request = Request::new(&what, Method::GET, &token.url, &[]);
            if let Some(form) = &token.form {
                request.method = Method::POST;
                request.headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
                request.body = Content::Bytes(form.as_bytes());
            }
            let answer = self.follow(endpoint, &mut request, url.clone(), token.authorization.as_deref())?;
            if answer.status.is_success() {
                return answer.read(&what, LARGEST_ANSWER);
            }
            if matches!(answer.status.as_u16(), 400 | 401 | 403) {
                let known = self.authorizer.credentials(endpoint)?;
                let mut failure = refusal(&what, &host, answer);
                failure.kind = Kind::Denied;
                if known.is_some() {
                    let login =
                        format!("the user name or password is wrong: `sbx login {}`", endpoint.domain);
                    let error = Error::new(failure.error.message());
                    let error =
                        failure.error.causes().iter().fold(error, |error, cause| error.because(cause));
                    failure.error = error.hint(login);
                }
                return Err(failure);
            }
            Err(refusal(&what, &host, answer))
        })
    }

    /// Whether anybody may pretend to be the endpoint: it was said so, or it is this very machine.
    fn is_insecure(&self, endpoint: &Endpoint) -> bool {
        let host = endpoint.host.rsplit_once(':').map_or(endpoint.host.as_str(), |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { &endpoint.host }
        });
        self.tls_verify.map_or_else(|| endpoint.insecure || is_loopback(host), |verify| !verify)
    }

    /// To the registry: over https, or where that is allowed and nothing else works, http.
    fn travel(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_, '_>,
        authorization: Option<&str>,
    ) -> Outcome<Answer> {
        let wrong = || {
            let error = Error::new(format!("cannot {}", request.what))
                .because(format!("`{}` is no URL that can be asked for", request.target.escape_debug()));
            Failure::new(Kind::Other, error)
        };
        if request.target.contains("://") {
            let mut target: Uri = request.target.parse().map_err(|_| wrong())?;
            let known = self.scheme(&endpoint.host);
            // Behind a proxy that speaks TLS for them, registries take themselves for ones that speak http.
            if known == Some("https")
                && target.scheme_str() == Some("http")
                && target.authority().is_some_and(|authority| *authority == *endpoint.host)
            {
                target = request.target.replacen("http", "https", 1).parse().map_err(|_| wrong())?;
            }
            if target.scheme_str() == Some("http") && !self.is_insecure(endpoint) {
                let why = format!("`{}` goes on over http, which others can read and change", endpoint.host);
                let error = Error::new(format!("cannot {}", request.what)).because(why);
                return Err(Failure::new(Kind::Untrusted, error));
            }
            let own = known
                .and_then(|scheme| format!("{scheme}://{}/", endpoint.host).parse::<Uri>().ok())
                .is_some_and(|base| url::same_origin(&base, &target));
            return self.follow(endpoint, request, target, authorization.filter(|_| own));
        }
        let base = |scheme: &str| -> Outcome<Uri> {
            format!("{scheme}://{}{}", endpoint.host, request.target).parse().map_err(|_| wrong())
        };
        if let Some(scheme) = self.scheme(&endpoint.host) {
            let target = base(scheme)?;
            return self.follow(endpoint, request, target, authorization);
        }
        let (https, http) = (base("https")?, base("http")?);
        let answered = match self.follow(endpoint, request, https, authorization) {
            Err(failure) if self.is_insecure(endpoint) && failure.again == Again::OverHttp => {
                let answer = self.follow(endpoint, request, http, authorization)?;
                self.remember(&endpoint.host, "http");
                return Ok(answer);
            }
            other => other?,
        };
        self.remember(&endpoint.host, "https");
        Ok(answered)
    }

    fn scheme(&self, host: &str) -> Option<&'static str> {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }

    fn remember(&self, host: &str, scheme: &'static str) {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), scheme);
    }

    /// Makes the request, and again at each place that it is sent on to. A password stays with whom it is for.
    fn follow(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_, '_>,
        mut target: Uri,
        mut authorization: Option<&str>,
    ) -> Outcome<Answer> {
        let mut seen: Vec<Uri> = Vec::new();
        loop {
            let answer = self.once(endpoint, request, &target, authorization)?;
            let followed = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !followed || request.accepted.contains(&answer.status) {
                return Ok(answer);
            }
            let failed = |why: String| {
                Failure::new(Kind::Other, Error::new(format!("cannot {}", request.what)).because(why))
            };
            let location = answer.header(LOCATION.as_str());
            let next = location.and_then(|location| url::resolve(&target, location)).ok_or_else(|| {
                failed(format!("`{}` redirects to what is no http or https URL", endpoint.host))
            })?;
            let secure = |uri: &Uri| uri.scheme_str() == Some("https");
            if secure(&target) && !secure(&next) && !self.is_insecure(endpoint) {
                let why =
                    format!("`{}` redirects from https to http, which others can change", endpoint.host);
                return Err(Failure { kind: Kind::Untrusted, ..failed(why) });
            }
            if !url::same_origin(&target, &next) {
                authorization = None;
            }
            seen.push(target);
            if seen.contains(&next) || seen.len() > MOST_HOPS {
                let circle = if seen.contains(&next) { "in a circle" } else { "more than ten times" };
                return Err(failed(format!(
                    "`{}` redirects {circle}, at last to `{}`",
                    endpoint.host,
                    short(&next)
                ))
                .again(Again::Never));
            }
            target = next;
        }
    }

    fn once(
        &self,
        endpoint: &Endpoint,
        request: &mut Request<'_, '_>,
        target: &Uri,
        authorization: Option<&str>,
    ) -> Outcome<Answer> {
        let host = target.authority().map(ToString::to_string).unwrap_or_default();
        let insecure = self.is_insecure(endpoint);
        // The certificates of docker.io are those of its host; those of another host are its own.
        let domain = if host == endpoint.host { &endpoint.domain } else { &host };
        let agent = self.agents.agent(target, domain, !insecure).map_err(Failure::refused)?;
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(target.clone());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let invalid = |error: ureq::http::Error| of_transport(request.what, &host, error.into());
        let patience = request.patience;
        let sent = match &mut request.body {
            Content::None => {
                let built = builder.body(()).map_err(invalid)?;
                agent.run(configured(&agent, built, patience))
            }
            Content::Bytes(bytes) => {
                let built = builder.body(*bytes).map_err(invalid)?;
                agent.run(configured(&agent, built, patience))
            }
            Content::Stream(length, open) => {
                let mut reader = open().map_err(|error| {
                    let error = Error::new(format!("cannot {}", request.what)).because(error);
                    Failure::new(Kind::Other, error)
                })?;
                let built = builder
                    .header(CONTENT_LENGTH, *length)
                    .body(SendBody::from_reader(&mut reader))
                    .map_err(invalid)?;
                agent.run(configured(&agent, built, patience))
            }
        };
        match sent {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Ok(Answer { status: parts.status, headers: parts.headers, body, url: target.clone() })
            }
            Err(error) => {
                let over_http = target.scheme_str() == Some("https") && speaks_no_tls(&error);
                let failure = of_transport(request.what, &host, error);
                // With a host known for https it is a connection that broke. Another thread may have learned
                // meanwhile that it speaks http.
                let may_be_http = self.scheme(&endpoint.host) != Some("https");
                if over_http && may_be_http && insecure {
                    Err(failure.again(Again::OverHttp))
                } else {
                    Err(failure)
                }
            }
        }
    }
}

fn configured<B: ureq::AsSendBody>(
    agent: &ureq::Agent,
    request: ureq::http::Request<B>,
    patience: Option<Duration>,
) -> ureq::http::Request<B> {
    match patience {
        Some(patience) => agent.configure_request(request).timeout_per_read(Some(patience)).build(),
        None => request,
    }
}

fn refusal(what: &str, host: &str, answer: Answer) -> Failure {
    let (status, headers) = (answer.status, answer.headers);
    let mut body = Vec::new();
    // What does not come of it is not missed.
    let _ = answer.body.into_reader().take(LONGEST_REFUSAL).read_to_end(&mut body);
    let said = Said::read(&body);
    let mut failure = of_status(what, host, status, &headers, &said);
    failure.code = said.code;
    failure
}

/// Without its query, which may hold a signature.
fn short(url: &Uri) -> String {
    let shown = url.to_string();
    shown.split('?').next().unwrap_or_default().chars().take(200).collect()
}
