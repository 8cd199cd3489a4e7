//! What sbx says to registries and makes of their answers: a real one, and one behind a proxy that spoils them.

mod auth;
mod environment;
mod faults;
mod pull;
mod push;
mod tls;

use std::time::Duration;

use sbx::image::auth::Credentials;
use sbx::image::reference::Reference;
use sbx::image::registries::Registries;
use sbx::registry::{Client, Failure, Options};

/// Options that read nothing of this machine, and wait little.
pub fn options() -> Options {
    Options {
        authfile: Some("/nonexistent/auth.json".into()),
        retry_delay: Some(Duration::from_millis(20)),
        stalled: Some(Duration::from_secs(2)),
        ..Options::default()
    }
}

pub fn client(options: Options) -> Client {
    Client::with(Registries::default(), options)
}

pub fn with_password(user: &str, password: &str) -> Options {
    let (user, password) = (user.to_owned(), password.to_owned());
    Options { credentials: Some(Credentials::Password { user, password }), ..options() }
}

pub fn reference(address: &str, rest: &str) -> Reference {
    Reference::parse(&format!("{address}/{rest}")).expect("a reference")
}

/// Fails unless the error has all these parts, in the message, its causes or its hints.
#[track_caller]
pub fn says(failure: &Failure, parts: &[&str]) {
    let report = failure.error.report();
    for part in parts {
        assert!(report.contains(part), "{part:?} is not in:\n{report}");
    }
}
