//! A token server for docker-registry (distribution project, token authentication): signs for who has a password,
//! and for everybody what is public.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::http::{Message, Server};
use super::prerequisites::require;

pub struct TokenServer {
    server: Server,
    certificate: PathBuf,
    seen: Arc<Mutex<Vec<String>>>,
    lifetime: Arc<Mutex<u64>>,
}

struct Signer {
    key: PathBuf,
    chain: String,
    account: Option<(String, String)>,
}

impl TokenServer {
    pub const SERVICE: &str = "registry of a test";
    pub const ISSUER: &str = "issuer of a test";
    /// Given with every token that an account asked for, and taken in its place.
    pub const REFRESH_TOKEN: &str = "refresh-me";

    pub(super) fn start(directory: &Path, account: Option<(String, String)>) -> Self {
        let (key, certificate) = (directory.join("token.key"), directory.join("token.crt"));
        let made = Command::new(require("openssl"))
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl starts");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let pem = std::fs::read_to_string(&certificate).expect("openssl wrote it");
        let chain = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let signer = Signer { key, chain, account };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lifetime = Arc::new(Mutex::new(300));
        let (list, lives) = (seen.clone(), lifetime.clone());
        let server = Server::answering(move |request| {
            let body = String::from_utf8_lossy(&request.body);
            list.lock().expect("no test panics here").push(format!("{} {body}", request.start));
            signer.answer(request, *lives.lock().expect("no test panics here"))
        });
        Self { server, certificate, seen, lifetime }
    }

    pub fn address(&self) -> String {
        self.server.address()
    }

    /// What the registry trusts.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The requests so far, each its first line and body.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("no test panics here").clone()
    }

    /// Seconds that tokens live from now on; docker-registry allows one minute more.
    pub fn set_lifetime(&self, seconds: u64) {
        *self.lifetime.lock().expect("no test panics here") = seconds;
    }
}

impl Signer {
    fn answer(&self, request: &Message, lifetime: u64) -> Message {
        let query = match request.method() {
            "POST" => String::from_utf8_lossy(&request.body).into_owned(),
            _ => request.target().split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default(),
        };
        let fields: Vec<(String, String)> = query
            .split('&')
            .filter_map(|field| field.split_once('='))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let basic = self
            .account
            .as_ref()
            .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        let known = match request.get("Authorization") {
            Some(given) => basic.as_deref() == Some(given),
            None => field("refresh_token") == Some(TokenServer::REFRESH_TOKEN),
        };
        let gave_something = request.get("Authorization").is_some() || field("refresh_token").is_some();
        if gave_something && !known {
            return Message::answer(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#,
            );
        }
        let access: Vec<_> = fields
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, scopes)| scopes.split(' '))
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let allowed = |action: &&str| known || (name.starts_with("public/") && *action == "pull");
                let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
                Some(json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let token = self.sign(&json!({
            "iss": TokenServer::ISSUER, "aud": TokenServer::SERVICE, "sub": "",
            // No two are alike.
            "jti": NEXT.fetch_add(1, Ordering::Relaxed).to_string(),
            "nbf": now - 10, "iat": now, "exp": now + lifetime, "access": access,
        }));
        let answer = match request.method() {
            "POST" => {
                json!({ "access_token": token, "expires_in": lifetime, "refresh_token": TokenServer::REFRESH_TOKEN })
            }
            _ => json!({ "token": token, "expires_in": lifetime }),
        };
        Message::answer(200, answer.to_string()).header("Content-Type", "application/json")
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.chain] });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let mut openssl = Command::new(require("openssl"))
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl starts");
        let mut pipe = openssl.stdin.take().expect("standard input is piped");
        pipe.write_all(text.as_bytes()).expect("openssl reads");
        drop(pipe);
        let signature = openssl.wait_with_output().expect("openssl ends").stdout;
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Percent and plus of a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
