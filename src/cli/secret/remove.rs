//! `sbx secret rm`

use crate::cli::Global;
use crate::cli::failures::{Failures, MISSING};
use crate::error::Result;
use crate::events::Action;
use crate::output::print;
use crate::secret::missing;

/// Remove secrets
///
/// Containers that were made with one keep what they were given. The IDs are printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx secret rm key
  sbx secret rm --all")]
pub struct RemoveArgs {
    /// Remove all
    #[arg(short, long, conflicts_with = "secrets")]
    all: bool,
    /// Pass over those that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Names or IDs
    #[arg(value_name = "SECRET", required_unless_present = "all")]
    secrets: Vec<String>,
}

pub fn execute(args: &RemoveArgs, global: &Global) -> Result<u8> {
    let (secrets, store) = super::secrets(global)?;
    let words = match args.all {
        true => secrets.list()?.into_iter().map(|secret| secret.id).collect(),
        false => args.secrets.clone(),
    };
    let mut failures = Failures::default();
    for word in &words {
        let removed = secrets
            .find(word)
            .and_then(|found| found.map(|secret| secrets.remove(&secret).map(|()| secret)).transpose());
        match removed {
            Ok(Some(secret)) => {
                super::record(&store, Action::Remove, &secret);
                print::line(&secret.id)?;
            }
            Ok(None) if args.ignore || args.all => {}
            Ok(None) => failures.add(missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    failures.finish()
}
