//! `sbx login`

use std::io::Read;
use std::path::PathBuf;

use super::prompt;
use crate::cli::Global;
use crate::error::{Error, Result, Step};
use crate::image::auth::{AuthStore, Credentials};
use crate::image::registries::Registries;
use crate::output::print;
use crate::registry::{Client, Kind, Options};

/// A password is not longer, in bytes; a token may be.
const LONGEST: u64 = 64 << 10;

/// Log in to a registry
///
/// The registry is asked whether the user name and password are right; then they are kept, for podman and skopeo
/// to find as well: in $XDG_RUNTIME_DIR/containers/auth.json until the next boot, in the file of `--authfile`,
/// REGISTRY_AUTH_FILE or DOCKER_CONFIG, or with a credential helper that one of these files names. Without a name
/// the first search registry of registries.conf is meant, docker.io where there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx login
  sbx login -u me quay.io
  sbx login -u me --password-stdin quay.io/project <token
  sbx login --get-login quay.io")]
pub struct LoginArgs {
    /// User name; asked for where it is missing
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password; others on this machine can see it
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin", requires = "username")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Print the user who is logged in, and ask nobody
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    get_login: bool,
    /// Keep the credentials in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Read certificates from this directory: `*.crt`, `*.cert` and `*.key`
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Whether https is required and certificates are verified; default: what registries.conf says
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    tls_verify: Option<bool>,
    /// Say where the credentials are kept
    #[arg(short, long)]
    verbose: bool,
    /// Registry, with a namespace in it where the credentials are for that alone
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

pub fn execute(args: &LoginArgs, _: &Global) -> Result<u8> {
    let registries = Registries::load()?;
    let key = super::key_of(args.registry.as_deref(), &registries)?;
    let store = AuthStore::find(args.authfile.as_deref(), registries.credential_helpers());
    let kept = store.get(&key)?;
    if args.get_login {
        let user = kept.as_ref().map(|credentials| credentials.user().unwrap_or("<token>"));
        let user = user.ok_or_else(|| {
            Error::new(format!("nobody is logged in to `{key}`")).hint(format!("log in: `sbx login {key}`"))
        })?;
        print::line(user)?;
        return Ok(0);
    }
    let client = |credentials: &Credentials| {
        let options = Options {
            tls_verify: args.tls_verify,
            credentials: Some(credentials.clone()),
            authfile: args.authfile.clone(),
            cert_dir: args.cert_dir.clone(),
            ..Options::default()
        };
        Client::with(registries.clone(), options)
    };
    let domain = key.split('/').next().unwrap_or(&key);
    if let Some(kept) = kept.filter(|_| args.username.is_none()) {
        match client(&kept).ping(domain) {
            Ok(()) => {
                print::line(&format!("Existing credentials are valid. Already logged in to {key}"))?;
                return Ok(0);
            }
            Err(failure) if failure.kind == Kind::Denied => {
                log::warn!("the credentials that are kept for `{key}` are not valid any more");
            }
            Err(failure) => return Err(failure.error),
        }
    }
    let credentials = wanted(args)?;
    client(&credentials).ping(domain)?;
    let place = store.put(&key, &credentials)?;
    if args.verbose {
        print::line(&format!("Used: {}", place.trim_matches('`')))?;
    }
    print::line("Login Succeeded!")?;
    Ok(0)
}

/// User and password from the options, standard input or the terminal.
fn wanted(args: &LoginArgs) -> Result<Credentials> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt::line("Username: ")?,
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        let failed = || "cannot read the password from standard input";
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).step(failed)?;
        text.trim_end_matches(['\n', '\r']).to_owned()
    } else {
        match &args.password {
            Some(password) => {
                log::warn!(
                    "others on this machine can see what `--password` says: `--password-stdin` is safe"
                );
                password.clone()
            }
            None => prompt::secret("Password: ")?,
        }
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::new("cannot log in without a user name and a password"));
    }
    if user.contains(':') {
        return Err(Error::new(format!("cannot use `{}` as a user name", user.escape_debug()))
            .because("there is a `:` in it, which ends the name"));
    }
    Ok(Credentials::Password { user, password })
}
