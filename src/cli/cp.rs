//! `sbx cp`

use std::ffi::OsString;

use crate::cli::Global;
use crate::container::size;
use crate::container::store::Store;
use crate::copying::place::Place;
use crate::copying::{self, Request};
use crate::error::Result;
use crate::host::paths;

/// Copy files between a container and this machine, or between containers
///
/// The container may run or not; its volumes are part of it. The rules are those of `cp -a`: a file goes into a
/// directory that is there, or gets the name; a directory goes into one that is there, or becomes it; `SRC/.` stands
/// for what is in a directory. Symlinks in a container never lead out of it. What comes into a container belongs to
/// its user, what comes out of it to the caller.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx cp web:/var/log/nginx .
  sbx cp ./site/. web:/usr/share/nginx/html
  sbx cp one:/data two:/data
  sbx cp web:/etc - | tar -tv
  tar -c site | sbx cp - web:/srv")]
pub struct CpArgs {
    /// Keep the numbers of users and groups, and all attributes, of what comes into a container
    #[arg(short, long)]
    archive: bool,
    /// Copy what the symlink SRC leads to, not the symlink
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Replace files by directories and directories by files
    #[arg(long)]
    overwrite: bool,
    /// Say nothing of what was copied
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or `-`: an archive on standard input
    #[arg(value_name = "SRC")]
    from: OsString,
    /// CONTAINER:PATH, a path of this machine, or `-`: an archive on standard output
    #[arg(value_name = "DST")]
    to: OsString,
}

pub fn execute(args: &CpArgs, global: &Global) -> Result<u8> {
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    let runtime = paths::runtime(&surroundings)?.path;
    let request = Request {
        from: Place::parse(&args.from)?,
        to: Place::parse(&args.to)?,
        archive: args.archive,
        follow: args.follow_link,
        overwrite: args.overwrite,
    };
    let copied = copying::copy(&store, &runtime, &request).map_err(|error| {
        error.while_doing(format!("cannot copy `{}` to `{}`", request.from.shown(), request.to.shown()))
    });
    let bytes = copied?;
    // What docker says; scripts that read the archive from standard output are not told anything.
    if !args.quiet && request.from != Place::Stream && request.to != Place::Stream {
        eprintln!("Successfully copied {} to {}", size::decimal(bytes), request.to.shown());
    }
    Ok(0)
}
