//! Who asks: passwords and tokens, by registry and by what may be done with them (distribution project, token
//! authentication). Nothing is looked up before a registry wants it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::failure::{Failure, Kind};
use super::{Outcome, url};
use crate::error::Error;
use crate::image::auth::{AuthStore, Credentials};

/// A token lives so long where its server does not say (distribution project, token authentication).
const LIFETIME: u64 = 60;
/// A token is given up this long before it ends.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest answer of a token server that is read, in bytes.
pub const LARGEST_ANSWER: u64 = 1 << 20;
/// How sbx calls itself to token servers.
const CLIENT_ID: &str = "sbx";

/// The answer of a token server.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// How a token is asked for.
pub struct TokenRequest {
    pub url: String,
    pub authorization: Option<String>,
    /// The body of a POST; without one it is a GET.
    pub form: Option<String>,
}

struct Token {
    value: String,
    until: Instant,
}

type TokenKey = (String, String, String);

pub struct Authorizer {
    store: AuthStore,
    /// `--creds`: for the registry itself, not for its mirrors.
    given: Option<Credentials>,
    challenges: Mutex<HashMap<String, Challenge>>,
    credentials: Mutex<HashMap<String, Option<Credentials>>>,
    tokens: Mutex<HashMap<TokenKey, Token>>,
}

impl Authorizer {
    pub fn new(store: AuthStore, given: Option<Credentials>) -> Self {
        Self {
            store,
            given,
            challenges: Mutex::default(),
            credentials: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// The credentials for what the endpoint serves.
    ///
    /// # Errors
    /// A file or helper of credentials fails.
    pub fn credentials(&self, endpoint: &Endpoint) -> Outcome<Option<Credentials>> {
        if let Some(given) = self.given.as_ref().filter(|_| !endpoint.mirror) {
            return Ok(Some(given.clone()));
        }
        let name = endpoint.credentials_name();
        let mut known = lock(&self.credentials);
        if let Some(found) = known.get(&name) {
            return Ok(found.clone());
        }
        let found = self.store.get(&name).map_err(Failure::refused)?;
        known.insert(name, found.clone());
        Ok(found)
    }

    /// The header Authorization for a request to a registry whose challenge is known already.
    ///
    /// # Errors
    /// Those of [`Authorizer::answer`].
    pub fn prepared(
        &self,
        endpoint: &Endpoint,
        scopes: &[String],
        ask: &dyn Fn(&TokenRequest) -> Outcome<Vec<u8>>,
    ) -> Outcome<Option<String>> {
        let challenge = lock(&self.challenges).get(&endpoint.host).cloned();
        match challenge {
            Some(challenge) => self.header(endpoint, scopes, &challenge, ask),
            None => Ok(None),
        }
    }

    /// The header Authorization that answers a challenge; `rejected` is the one that did not suffice. None where
    /// there is none but that one.
    ///
    /// # Errors
    /// No credentials where a password is wanted, or the token server gives no token.
    pub fn answer(
        &self,
        endpoint: &Endpoint,
        scopes: &[String],
        challenges: &[Challenge],
        rejected: Option<&str>,
        ask: &dyn Fn(&TokenRequest) -> Outcome<Vec<u8>>,
    ) -> Outcome<Option<String>> {
        // A token is the better of the two: the password goes to its server alone.
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let Some(challenge) = bearer.or(challenges.first()) else { return Ok(None) };
        lock(&self.challenges).insert(endpoint.host.clone(), challenge.clone());
        if let (Challenge::Bearer { realm, service }, Some(rejected)) = (challenge, rejected) {
            let key = key(realm, service, scopes);
            let mut tokens = lock(&self.tokens);
            // Another thread may have a new one already.
            if tokens.get(&key).is_some_and(|token| rejected == format!("Bearer {}", token.value)) {
                tokens.remove(&key);
            }
        }
        let header = self.header(endpoint, scopes, challenge, ask)?;
        Ok(header.filter(|header| Some(header.as_str()) != rejected))
    }

    fn header(
        &self,
        endpoint: &Endpoint,
        scopes: &[String],
        challenge: &Challenge,
        ask: &dyn Fn(&TokenRequest) -> Outcome<Vec<u8>>,
    ) -> Outcome<Option<String>> {
        let (realm, service) = match challenge {
            Challenge::Basic => {
                return Ok(match self.credentials(endpoint)? {
                    Some(Credentials::Password { user, password }) => Some(basic(&user, &password)),
                    Some(Credentials::Token(_)) | None => None,
                });
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        // The lock is held while a token is fetched, so that threads that want the same one ask once.
        let mut tokens = lock(&self.tokens);
        let key = key(realm, service, scopes);
        if let Some(token) = tokens.get(&key).filter(|token| token.until > Instant::now()) {
            return Ok(Some(format!("Bearer {}", token.value)));
        }
        let request = token_request(realm, service, scopes, self.credentials(endpoint)?.as_ref());
        let asked = Instant::now();
        let bytes = ask(&request)?;
        let refused = |why: String| {
            let server = realm.split('?').next().unwrap_or(realm);
            Failure::new(
                Kind::Other,
                Error::new(format!("cannot get a token for `{}`", endpoint.host))
                    .because(format!("the token server `{server}` {why}")),
            )
        };
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("answers in what cannot be understood: {error}")))?;
        let value = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let value = value.ok_or_else(|| refused("gives none".to_owned()))?;
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("gives one with letters that none has".to_owned()));
        }
        // A day is long enough for a lifetime that would overflow the clock.
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(LIFETIME).min(86_400));
        let header = format!("Bearer {value}");
        tokens.insert(key, Token { value, until: asked + lifetime.saturating_sub(MARGIN) });
        Ok(Some(header))
    }
}

/// GET with the password, or POST with a refresh token (distribution project, OAuth 2 token authentication).
fn token_request(
    realm: &str,
    service: &str,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> TokenRequest {
    let mut fields = Vec::new();
    if !service.is_empty() {
        fields.push(("service", service));
    }
    if let Some(Credentials::Token(token)) = credentials {
        let all = scopes.join(" ");
        fields.push(("client_id", CLIENT_ID));
        fields.push(("grant_type", "refresh_token"));
        fields.push(("refresh_token", token));
        fields.push(("scope", &all));
        return TokenRequest { url: realm.to_owned(), authorization: None, form: Some(url::query(&fields)) };
    }
    fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    let mut authorization = None;
    if let Some(Credentials::Password { user, password }) = credentials {
        fields.push(("account", user));
        authorization = Some(basic(user, password));
    }
    TokenRequest { url: url::with_query(realm, &fields), authorization, form: None }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn key(realm: &str, service: &str, scopes: &[String]) -> TokenKey {
    (realm.to_owned(), service.to_owned(), scopes.join(" "))
}

/// What is in these maps is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
