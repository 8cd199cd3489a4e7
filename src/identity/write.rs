//! Writing the decided maps, exactly once: the kernel refuses a second write, and so a second write is a bug.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, openat};

use super::{IdMap, Identity, MapWriter, NestedMaps};
use crate::error::{Error, Result, Step};
use crate::sys::scheduling::on_this_processor;

/// Helpers on their way. [`PendingWrite::wait`] must be called before the namespace is used; dropped
/// without it, the helpers are ended.
#[derive(Debug)]
#[must_use = "the maps are written only when `wait` has returned"]
pub struct PendingWrite(Vec<(&'static str, Child)>);

/// Starts writing the canonical maps of `identity` for the process `pid`, which has made its user namespace.
/// `Direct` writes before this returns; helpers run side by side with the caller until [`PendingWrite::wait`].
///
/// # Errors
/// A helper can't be started, or the kernel refuses a direct write.
pub fn start_write(identity: &Identity, pid: i32) -> Result<PendingWrite> {
    let (users, groups) = (&identity.uid_map, &identity.gid_map);
    match &identity.writer {
        MapWriter::Direct => {
            let process = open_process(pid)?;
            if identity.deny_setgroups {
                write_once(&process, "setgroups", "deny")?;
            }
            write_once(&process, "uid_map", &users.to_string())?;
            write_once(&process, "gid_map", &groups.to_string())?;
            Ok(PendingWrite(Vec::new()))
        }
        MapWriter::TwoHelpers { newuidmap, newgidmap } => {
            let mut pending = PendingWrite(Vec::with_capacity(2));
            pending.start("newuidmap", helper(newuidmap, pid).args(arguments(users)))?;
            pending.start("newgidmap", helper(newgidmap, pid).args(arguments(groups)))?;
            Ok(pending)
        }
        MapWriter::Shim(shim) => {
            let mut pending = PendingWrite(Vec::with_capacity(1));
            let command = &mut helper(shim, pid);
            command.args(arguments(users)).arg("--").args(arguments(groups));
            on_this_processor(|| pending.start("newuidmap-shim", command))?;
            Ok(pending)
        }
    }
}

/// Writes the maps of a namespace nested in the canonical one. The caller is a process *in* the canonical
/// namespace with all its capabilities; `process` is a descriptor of /proc/PID of the one in the nested
/// namespace, opened where that /proc is to be seen ([`open_process`]).
///
/// # Errors
/// The kernel refuses the write.
pub fn write_nested(process: impl AsFd, maps: &NestedMaps) -> Result<()> {
    write_once(&process, "uid_map", &maps.uid_map.to_string())?;
    write_once(&process, "gid_map", &maps.gid_map.to_string())
}

/// A descriptor of /proc/PID, which stays that process's even if its ID is used again.
///
/// # Errors
/// There is no such process, or no /proc.
pub fn open_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).step(|| format!("cannot open `{path}`"))
}

impl PendingWrite {
    /// Whether nobody has to be waited for.
    pub fn is_done(&mut self) -> bool {
        self.0.iter_mut().all(|(_, child)| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Waits for the helpers and reaps them.
    ///
    /// # Errors
    /// What each failed helper said.
    pub fn wait(mut self) -> Result<()> {
        let failures: Vec<String> = std::mem::take(&mut self.0)
            .into_iter()
            .filter_map(|(name, child)| finish(name, child).err())
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        let cause = failures.join("; ");
        let error = Error::new("cannot write the ID maps of the new user namespace").because(&cause);
        Err(match hint(&cause) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    fn start(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_owned();
        let child = command.spawn().step(|| format!("cannot start `{}`", Path::new(&program).display()))?;
        self.0.push((name, child));
        Ok(())
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            // A set-user-ID program of root can't be killed by its caller; it ends by itself at once.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// No pre_exec, no directory, no IDs: so the standard library takes posix_spawn, which copies no page tables.
fn helper(program: &Path, pid: i32) -> Command {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).env_clear().env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn arguments(map: &IdMap) -> impl Iterator<Item = String> {
    map.0.iter().flat_map(|line| [line.inside, line.outside, line.count]).map(|number| number.to_string())
}

/// Reaps one helper.
///
/// # Errors
/// What it said, in one line that starts with its name.
fn finish(name: &'static str, child: Child) -> Result<(), String> {
    let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said.join(", ") };
    Err(if said.starts_with(name) { said } else { format!("{name}: {said}") })
}

/// What the words of the helpers of shadow mean for the user.
fn hint(said: &str) -> Option<&'static str> {
    if said.contains("not allowed") {
        Some(
            "the helper does not grant this range: the map asks for more than the caller has in /etc/subuid and /etc/subgid, they changed just now, or `getsubids` tells others",
        )
    } else if said.contains("Operation not permitted") {
        Some(
            "the helper has lost its privilege or the outer container forbids it; `sbx doctor` tells which, `--id-tier single` works without",
        )
    } else if said.contains("owned by a different user") {
        Some(
            "the caller's group is not its primary one (leave the shell of `newgrp`), or the process is another user's",
        )
    } else if said.contains("Cannot determine your user name") {
        Some(
            "the caller has no passwd entry, which the system's helpers ask for; `--id-tier single` works without",
        )
    } else {
        None
    }
}

/// One write(2) call: the kernel takes the whole map or nothing, and only at the first time.
fn write_once(process: &impl AsFd, file: &str, text: &str) -> Result<()> {
    let step =
        || format!("cannot write `{}` into {file} of the new user namespace", text.replace('\n', ", "));
    let descriptor = openat(process, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).step(step)?;
    match File::from(descriptor).write(text.as_bytes()) {
        Ok(count) if count == text.len() => Ok(()),
        Ok(count) => {
            Err(Error::new(step()).because(format!("the kernel took {count} of {} bytes", text.len())))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied && is_written(process, file) => {
            Err(Error::new(step()).because("it is written already, and the kernel takes a map only once"))
        }
        Err(error) => Err(Error::new(step()).because(error)),
    }
}

fn is_written(process: &impl AsFd, file: &str) -> bool {
    let Ok(descriptor) = openat(process, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    file != "setgroups" && std::io::read_to_string(File::from(descriptor)).is_ok_and(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
