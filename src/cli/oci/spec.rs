//! `sbx oci spec`

use std::path::PathBuf;

use crate::error::{Error, Result, Step};
use crate::oci::config::FILE;
use crate::oci::template::{self, Command, Users};

/// Write an example of a config.json
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci spec --rootless
  sbx oci spec --bundle ./bundle")]
pub struct SpecArgs {
    /// The directory that it is written into
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,
    /// For the user who calls, and not for root
    #[arg(long)]
    rootless: bool,
}

pub fn execute(args: &SpecArgs) -> Result<u8> {
    let path = args.bundle.join(FILE);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let command = Command {
        args: &words(&["sh"]),
        env: &words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/",
        terminal: true,
        uid: 0,
        gid: 0,
        groups: &[],
        capabilities: &words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]),
        no_new_privileges: true,
    };
    let users = match args.rootless {
        true => {
            Users::Caller { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
        }
        false => Users::Host,
    };
    let text = serde_json::to_string_pretty(&template::config(&command, &users, true))
        .step(|| "cannot write JSON")?;
    let failed = || format!("cannot write `{}`", path.display());
    let mut file = std::fs::File::create_new(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(failed())
            .because(error)
            .hint("remove it first, or name another directory with `--bundle`"),
        _ => Error::new(failed()).because(error),
    })?;
    std::io::Write::write_all(&mut file, (text + "\n").as_bytes()).step(failed)?;
    Ok(0)
}
