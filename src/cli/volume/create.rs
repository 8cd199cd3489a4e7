//! `sbx volume create`

use super::{Stores, pairs};
use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::container::name::random_id;
use crate::error::{Error, Result};
use crate::output::print;
use crate::volume::record::DRIVER;
use crate::volume::{Record, options};

/// Make a volume
///
/// Its name is printed; without one it gets a random name. One that exists already is left as it is, which is an error
/// only where other options or labels were asked for (and for `podman`, as which sbx can be called). Options of the driver: `type=tmpfs` with `o=size=…,mode=…`
/// (memory, of each container its own), `type=none` with `o=bind` and `device=DIR` (a directory of the host), and in
/// `o` also ro, noexec, nosuid, nodev, nocopy, uid=, gid=.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume create data
  sbx volume create --label app=web web_data
  sbx volume create -o type=tmpfs -o device=tmpfs -o o=size=64m scratch
  sbx volume create -o type=none -o o=bind -o device=/srv/data data")]
pub struct CreateArgs {
    /// Who keeps it: local
    #[arg(short, long, value_name = "DRIVER", default_value = DRIVER)]
    driver: String,
    /// An option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Be content with a volume of that name, whatever its options and labels
    #[arg(long)]
    ignore: bool,
    /// Name of the volume; default: a random one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn execute(args: CreateArgs, global: &Global) -> Result<u8> {
    let CreateArgs { driver, opt, label, ignore, name } = args;
    if driver != DRIVER {
        return Err(Error::new(format!("cannot use the driver `{driver}`"))
            .because(format!("volumes are directories of the store, and the driver is `{DRIVER}`")));
    }
    let options = pairs("--opt", &opt)?;
    options::meaning(&options)?;
    // docker's way to ask for a random one is an empty name, too.
    let name = match name.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => random_id()?,
    };
    let record = Record { labels: pairs("--label", &label)?, options, ..Record::new(&name) };
    let stores = Stores::to_change(global)?;
    if !stores.volumes.create(&record)?
        && !ignore
        && let Some(there) = stores.volumes.read(&name)
    {
        refuse_another(&there, &record)?;
    }
    print::line(&name)?;
    Ok(0)
}

fn refuse_another(there: &Record, wanted: &Record) -> Result<()> {
    let failed = || Error::new(format!("cannot make the volume `{}`", wanted.name));
    let hint = "`--ignore` takes the one that there is";
    if dialect::current() == Dialect::Podman {
        return Err(failed().because("there is one of that name").hint(hint));
    }
    if !wanted.options.is_empty() && there.options != wanted.options {
        return Err(failed().because("there is one of that name with other options").hint(hint));
    }
    if wanted.labels.iter().any(|(key, value)| there.labels.get(key) != Some(value)) {
        return Err(failed().because("there is one of that name with other labels").hint(hint));
    }
    Ok(())
}
