//! `sbx unshare`

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::cli::Global;
use crate::error::{EXIT_NOT_FOUND, EXIT_NOT_INVOKABLE, Error, Result, Step};
use crate::identity::{self, Caller, Host, Tier};
use crate::sandbox::userns;

/// Run a command, or a shell, in the user namespace of the containers.
///
/// There the files that containers leave behind, which belong to subordinate IDs, are root's and can be
/// read, changed and removed. Nothing else is isolated.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sbx unshare\n  \
    sbx unshare rm -rf ./tree-of-a-container\n  \
    sbx unshare cat /proc/self/uid_map")]
pub struct UnshareArgs {
    /// Where the IDs come from.
    #[arg(long, value_name = "TIER")]
    id_tier: Option<Tier>,
    /// The command and its arguments; default: $SHELL.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn execute(args: UnshareArgs, _global: &Global) -> Result<u8> {
    let request = identity::Request { tier: args.id_tier, ..identity::Request::default() };
    let identity = identity::plan(&request, &Caller::current(&Host::system())?)?;
    let mut command = args.command;
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    let words = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .step(|| "cannot run the command")?;
    // This process itself becomes the command, so that signals, job control and the exit code are its own.
    userns::become_root_of_new(&identity)?;
    crate::sys::process::reset_signals();
    let errno = match nix::unistd::execvp(&words[0], &words) {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    let code = if errno == nix::Error::ENOENT { EXIT_NOT_FOUND } else { EXIT_NOT_INVOKABLE };
    Err(Error::new(format!("cannot execute `{}`", command[0].display())).because(errno).exit_code(code))
}
