//! `sbx top`

mod columns;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::cli::Global;
use crate::cli::container::selection::Named;
use crate::cli::container::{Place, exec};
use crate::container::list::{self, Status};
use crate::container::open_root::OpenRoot;
use crate::container::user::MAX_FILE;
use crate::container::{life, processes};
use crate::error::{Error, Result, Step};
use crate::output::print;
use crate::output::table::Table;
use crate::sys::process::wait_for;
use columns::{Accounts, Column};

/// Show the processes of a container
///
/// With words that are columns, such as `pid,args`, those are shown: user, pid, ppid, pgid, pcpu, etime, time, tty,
/// args, comm, state, nice, rss, vsz, uid, gid, group, groups, hpid, huser, hgroup, capeff, capprm, capbnd, capinh, capamb,
/// seccomp; those with an h are the host's. Other words are options of the container's own ps, which is run.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "sbx top [OPTIONS] CONTAINER [COLUMNS|PS-OPTIONS...]",
    after_help = "Examples:
  sbx top web
  sbx top web pid hpid huser args
  sbx top web -o pid,rss,args"
)]
pub struct TopArgs {
    /// Take the container that was made last
    #[arg(short, long)]
    latest: bool,
    /// The container, then columns or options of ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<String>,
}

pub fn execute(mut args: TopArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let mut named = Named { latest: args.latest, cidfile: Vec::new(), containers: Vec::new() };
    if !args.latest {
        if args.words.is_empty() {
            return Err(Error::new("cannot tell which container is meant")
                .because("no name or ID was given")
                .hint("`sbx ps` lists those that run"));
        }
        named.containers.push(args.words.remove(0));
    }
    let chosen = named.resolve(&place)?;
    let id = chosen.first().ok_or_else(|| Error::new("there is no container"))?.id(&place)?;
    let status = list::one(&place.store, &id).map(|found| found.status);
    let Some(Status::Running { pid: init, .. } | Status::Paused { pid: init, .. }) = status else {
        return Err(life::not_running(&id).while_doing("cannot show the processes of the container"));
    };
    let Some(columns) = columns::parse(&args.words) else {
        let words = std::iter::once("ps".to_owned()).chain(args.words).collect();
        return exec::run(&place, &id, words);
    };
    show(&place, &id, init, &columns)
}

fn show(place: &Place, id: &str, init: i32, columns: &[&Column]) -> Result<u8> {
    let (users, groups) = (processes::map_of(init, "uid_map")?, processes::map_of(init, "gid_map")?);
    // Without names there are numbers.
    let (passwd, group) = account_files(place, id).unwrap_or_default();
    let accounts = Accounts { users, groups, passwd, group };
    let mut table = Table::new(columns.iter().map(|column| column.title));
    let servers = place.store.record_of(id).map(|record| record.servers).unwrap_or_default();
    for process in processes::of_container(init, &servers)? {
        table.push(columns.iter().map(|column| (column.cell)(&process, &accounts)));
    }
    print::text(&table.render())?;
    Ok(0)
}

/// The container's /etc/passwd and /etc/group, read inside.
fn account_files(place: &Place, id: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let root = OpenRoot::open(&place.store, &place.runtime, id)?;
    let read = |path: &str| -> Result<Vec<u8>> {
        let failed = || "cannot read the container's accounts";
        let (reading, writing) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")?;
        let mut output = File::from(writing);
        let reader = root.start(&[output.as_raw_fd()], |entered| {
            if let Ok(inside) = entered
                && let Some(text) = inside.read(Path::new(path), MAX_FILE as u64)
            {
                let _ = output.write_all(&text);
            }
        })?;
        drop(output);
        let mut text = Vec::new();
        File::from(reading).read_to_end(&mut text).step(failed)?;
        let _ = wait_for(reader);
        Ok(text)
    };
    Ok((read("/etc/passwd")?, read("/etc/group")?))
}
