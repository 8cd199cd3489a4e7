//! `sbx logout`

use std::path::PathBuf;

use crate::cli::Global;
use crate::error::{Error, Result};
use crate::image::auth::AuthStore;
use crate::image::registries::Registries;
use crate::output::print;

/// Log out of a registry
///
/// What `sbx login` has kept is forgotten: in the file that it writes and with the credential helper.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx logout quay.io
  sbx logout --all")]
pub struct LogoutArgs {
    /// Forget the credentials of all registries
    #[arg(short, long, conflicts_with = "registry")]
    all: bool,
    /// Forget what is kept in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Registry, with the namespace that was given to login
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

pub fn execute(args: LogoutArgs, _: &Global) -> Result<u8> {
    let LogoutArgs { all, authfile, registry } = args;
    let registries = Registries::load()?;
    let store = AuthStore::find(authfile.as_deref(), registries.credential_helpers());
    if all {
        store.remove_all()?;
        print::line("Removed login credentials for all registries")?;
        return Ok(0);
    }
    let key = super::key_of(registry.as_deref(), &registries)?;
    if !store.remove(&key)? {
        let error = Error::new(format!("nobody is logged in to `{key}`"));
        return Err(match store.elsewhere(&key)? {
            Some(path) => error
                .because(format!("another program keeps credentials for it in `{}`", path.display()))
                .hint(format!("`sbx logout --authfile {} {key}` forgets those", path.display())),
            None => error,
        });
    }
    print::line(&format!("Removed login credentials for {key}"))?;
    if let Some(path) = store.elsewhere(&key)? {
        log::warn!("other credentials for `{key}` are still in `{}`", path.display());
    }
    Ok(0)
}
