//! Programs that keep credentials: `docker-credential-NAME get|store|erase|list`, JSON on their standard input and
//! output (docker's credential helper protocol).

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Credentials;
use crate::error::{Error, Result, Step};
use crate::host::programs;

/// The user name that goes with a refresh token.
const TOKEN_USER: &str = "<token>";
/// What helpers say where they have nothing; exit codes are the same for every failure.
const NOT_FOUND: &[&str] = &["credentials not found", "no credentials", "could not be found", "not found in"];

/// A helper that is installed.
pub struct Helper {
    name: String,
    program: PathBuf,
}

impl Helper {
    /// The helper of this name.
    ///
    /// # Errors
    /// There is no such program, or the name is none.
    pub fn named(name: &str) -> Result<Self> {
        let failed = || Error::new(format!("cannot use the credential helper `{}`", name.escape_debug()));
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(failed().because("its name has other letters than a program's"));
        }
        let file = format!("docker-credential-{name}");
        let program = programs::find(&file).ok_or_else(|| {
            failed()
                .because(format!("there is no program `{file}`"))
                .hint("install it, or take it out of the configuration that names it")
        })?;
        Ok(Self { name: name.to_owned(), program })
    }

    /// # Errors
    /// The helper fails, or says what is no JSON.
    pub fn get(&self, key: &str) -> Result<Option<Credentials>> {
        let Some(answer) = self.call("get", key)? else { return Ok(None) };
        let answer: Value = serde_json::from_str(&answer).step(|| self.failed("get"))?;
        let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let (user, secret) = (field("Username"), field("Secret"));
        Ok(match (user.as_str(), secret) {
            (_, secret) if secret.is_empty() => None,
            (TOKEN_USER, secret) => Some(Credentials::Token(secret)),
            (_, password) => Some(Credentials::Password { user, password }),
        })
    }

    /// # Errors
    /// The helper fails.
    pub fn store(&self, key: &str, credentials: &Credentials) -> Result<()> {
        let (user, secret) = match credentials {
            Credentials::Password { user, password } => (user.as_str(), password),
            Credentials::Token(token) => (TOKEN_USER, token),
        };
        let input = json!({ "ServerURL": key, "Username": user, "Secret": secret });
        self.call("store", &input.to_string()).map(drop)
    }

    /// False where there was nothing.
    ///
    /// # Errors
    /// The helper fails.
    pub fn erase(&self, key: &str) -> Result<bool> {
        // Most helpers erase nothing without a complaint.
        let known = self.call("get", key)?.is_some();
        Ok(self.call("erase", key)?.is_some() && known)
    }

    /// The keys that it has something for.
    ///
    /// # Errors
    /// The helper fails, or says what is no JSON.
    pub fn list(&self) -> Result<Vec<String>> {
        let Some(answer) = self.call("list", "")? else { return Ok(Vec::new()) };
        let answer: Value = serde_json::from_str(&answer).step(|| self.failed("list"))?;
        Ok(answer.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect())
    }

    /// What it says; None where it has nothing.
    fn call(&self, action: &str, input: &str) -> Result<Option<String>> {
        let failed = || self.failed(action);
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .step(failed)?;
        if let Some(mut pipe) = child.stdin.take() {
            // One that does not read says why in its exit code.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().step(failed)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(Some(said));
        }
        let lower = said.to_lowercase();
        if NOT_FOUND.iter().any(|words| lower.contains(words)) {
            return Ok(None);
        }
        let why = if said.is_empty() { output.status.to_string() } else { said };
        Err(Error::new(failed()).because(why))
    }

    fn failed(&self, action: &str) -> String {
        format!("cannot {action} credentials with `docker-credential-{}`", self.name)
    }
}
