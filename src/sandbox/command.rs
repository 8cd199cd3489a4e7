//! From a process that stands in its place in the container to the user's command: what the container's first
//! process and those that are brought in later have in common.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::container::env;
use crate::container::listed::Exact;
use crate::container::rlimit;
use crate::container::spec::{LogDriver, MountKind, Root, Seccomp, Spec};
use crate::container::user::{self, ResolvedUser};
use crate::emulation::{self, Credentials, Emulation};
use crate::error::{EXIT_NOT_INVOKABLE, Error, Result, Step};
use crate::sandbox::child::{Inside, Stdio};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::listed::hooks;
use crate::sandbox::message::FromChild;
use crate::sandbox::privileges::{self, Privileges};
use crate::sandbox::{init, program, terminal};
use crate::seccomp::bpf::Instruction;
use crate::secret::copies::{self, Values};
use crate::sys::channel::Channel;
use crate::sys::process::{self, exit_now};
use crate::sys::scheduling;

/// /etc/passwd and /etc/group of an image are not worth more than this.
const LONGEST_ACCOUNT_FILE: u64 = 16 << 20;

/// More descriptors than a process may have (fs.nr_open).
const LONGEST_HANDOVER: u32 = 1 << 20;

/// Characters of an error that is too long for one message.
const LONGEST_COMPLAINT: usize = 4000;

/// The texts of /etc/passwd and /etc/group; empty where the container has none.
pub struct AccountFiles {
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
}

impl AccountFiles {
    pub fn read(inroot: &InRoot) -> Self {
        let read = |path| inroot.read(Path::new(path), LONGEST_ACCOUNT_FILE).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Whom the spec's process runs as.
    ///
    /// # Errors
    /// A name that is not there, an ID that is not mapped.
    pub fn user(&self, spec: &Spec) -> Result<ResolvedUser> {
        let process = &spec.process;
        let default = spec.identity.default_user;
        let user =
            user::resolve(process.user.as_deref(), &process.groups, &self.passwd, &self.group, default)?;
        if spec.emulation == Emulation::Off {
            privileges::check_mapped(&user, &spec.identity)?;
        }
        Ok(user)
    }
}

/// What the last steps start with.
pub struct Command<'a> {
    pub spec: &'a Spec,
    /// To the monitor; the exec closes it.
    pub channel: &'a Channel,
    pub seccomp: Option<&'a [Instruction]>,
    /// The filter of emulated root.
    pub emulation: Option<&'a [Instruction]>,
    /// Those of the container, where the environment does not have them yet.
    pub secrets: Option<&'a Values>,
    /// The container's first process; none: one that is brought in later.
    pub inside: Option<&'a Inside<'a>>,
}

impl Command<'_> {
    /// Gives the streams to the user, as whom the command may open them again (/dev/stdout), and makes them those
    /// of this process. `terminal` is the slave of the container's terminal.
    pub fn take_streams(&self, stdio: &Stdio, terminal: Option<OwnedFd>, user: &ResolvedUser) -> Result<()> {
        match (stdio, terminal) {
            (Stdio::Pipes { stdin, stdout, stderr }, _) => {
                let failed = || "cannot connect the standard streams";
                if self.spec.log_driver != LogDriver::Passthrough {
                    [stdin, stdout, stderr].into_iter().for_each(|stream| self.give(stream, user));
                }
                rustix::stdio::dup2_stdin(stdin).step(failed)?;
                rustix::stdio::dup2_stdout(stdout).step(failed)?;
                rustix::stdio::dup2_stderr(stderr).step(failed)
            }
            (Stdio::Terminal { .. }, Some(slave)) => {
                self.give(&slave, user);
                terminal::attach(&slave)
            }
            (Stdio::Inherited, _) => {
                let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
                streams.into_iter().for_each(|stream| self.give(stream, user));
                Ok(())
            }
            (Stdio::Terminal { .. }, None) => Err(Error::new("cannot attach the terminal")),
        }
    }

    /// A pipe or terminal of sbx's own becomes the user's. Where the map has no room for that it stays as it is: to
    /// read and to write takes no owner.
    fn give(&self, stream: impl AsFd, user: &ResolvedUser) {
        let Ok(stat) = rustix::fs::fstat(&stream) else { return };
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if user.uid != 0 && !self.is_believed(user) && (is_pipe || rustix::termios::isatty(&stream)) {
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(user.uid)), None);
        }
    }

    /// Whether the user is not mapped, and who answers for emulated root makes the process believe in it.
    fn is_believed(&self, user: &ResolvedUser) -> bool {
        self.spec.emulation != Emulation::Off && privileges::check_mapped(user, &self.spec.identity).is_err()
    }

    /// Becomes the command. From here on nothing can be undone.
    pub fn execute(&self, user: &ResolvedUser) -> Error {
        let spec = self.spec;
        let mut env = spec.process.env.clone();
        match self.secrets.map_or_else(|| Ok(Vec::new()), |secrets| copies::variables(spec, secrets)) {
            Ok(variables) => env::set_all(&mut env, variables),
            Err(error) => return error,
        }
        if !spec.process.without_home && !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={}", user.home));
        }
        // Until the exec the process is sbx: nobody inside may look into it or reach its binary.
        let exact = spec.process.exact.as_deref();
        if exact.is_none() {
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
        let own_keyring =
            exact.map_or(spec.security.seccomp != Seccomp::Default, |exact| !exact.keeps_keyring);
        if own_keyring {
            // The default filter refuses keyctl(2). The quota of keys is small; without a keyring of its
            // own the container shares the caller's, as before.
            let _ = process::join_new_session_keyring();
        }
        if let Some(umask) = spec.process.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        } else {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        }
        // What follows goes by paths that somebody else may be changing: links of /proc find nothing open.
        let handed_on = handed_on(exact);
        let first_own = handed_on.end.cast_unsigned();
        let mut kept: Vec<i32> = [0, 1, 2].into_iter().chain(handed_on).collect();
        kept.push(self.channel.as_fd().as_raw_fd());
        if let Some(gate) = self.inside.and_then(|inside| inside.gate.as_ref()) {
            kept.extend([gate.fifo.as_raw_fd(), gate.complaint.as_raw_fd()]);
        }
        process::close_all_but(&mut kept);
        if let Some(exact) = exact
            && let Err(error) = be_scheduled(exact)
        {
            return error;
        }
        let entered = enter(&spec.process.cwd);
        let hand_over = |listener, user| self.hand_over(listener, user);
        let calls = |listener: BorrowedFd<'_>| self.channel.send_with(&FromChild::Calls, listener).step(lost);
        let filter = spec.listed.as_ref().map(|listed| &listed.filter);
        let privileges = Privileges {
            sets: exact.map(|exact| &exact.capabilities),
            filter: filter.map(|filter| (filter, &calls as _)),
            user,
            keep_groups: spec.process.keep_groups,
            capabilities: spec.security.capabilities,
            no_new_privileges: spec.security.no_new_privileges,
            seccomp: self.seccomp,
            believed: self.is_believed(user),
            emulation: self.emulation.map(|program| (program, &hand_over as _)),
        };
        if let Err(error) = privileges::become_user(&privileges, &spec.identity) {
            return error;
        }
        if entered.is_err()
            && let Err(error) = enter(&spec.process.cwd)
        {
            let failed =
                Error::new(format!("cannot enter the working directory `{}`", spec.process.cwd.display()))
                    .because(error)
                    .exit_code(EXIT_NOT_INVOKABLE);
            return self.explain_owners(failed, error == Errno::ACCESS, &spec.process.cwd, user);
        }
        if let Err(error) = process::close_on_exec_from(first_own) {
            return Error::new("cannot close the descriptors of sbx").because(error);
        }
        if let Err(error) = privileges::seal(&privileges, !spec.init) {
            return error;
        }
        if spec.init
            && let Err(error) = init::stay_behind(spec.process.terminal)
        {
            return error;
        }
        if let Err(error) = self.pass_the_gate(&env) {
            return error;
        }
        process::reset_signals();
        let error = program::execute(&spec.process.args, &env);
        let denied = error.code() == EXIT_NOT_INVOKABLE;
        if denied && matches!(spec.security.seccomp, Seccomp::Profile(_)) && error.hints().is_empty() {
            return error.hint("the seccomp profile has to allow what executing the command takes");
        }
        let command = spec.process.args.first().map(|word| spec.process.cwd.join(word)).unwrap_or_default();
        self.explain_owners(error, denied, &command, user)
    }

    /// Of a bundle: whether the command can be found shows before the container counts as created; between the word to
    /// start it and the exec there are the last hooks.
    fn pass_the_gate(&self, env: &[String]) -> Result<()> {
        let Some(listed) = &self.spec.listed else { return Ok(()) };
        program::look_up(&self.spec.process.args, env)?;
        if let Some(inside) = self.inside {
            inside.wait_at_the_gate()?;
            if !listed.hooks.start_container.is_empty() {
                // Who handed a listener over ignores the ends of its children.
                process::reset_signals();
            }
            let place = hooks::Place { env: Some(env), ..hooks::Place::default() };
            hooks::run("startContainer", &listed.hooks.start_container, place, || {
                hooks::document(self.spec, "created", std::process::id().cast_signed())
            })?;
        }
        // Until the exec the process is sbx: nobody inside may look into it or reach its binary.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step(|| "cannot close the process to others")
    }

    /// The kernel has one listener for a chain of filters: below an outer one there is none of our own.
    fn hand_over(&self, listener: std::io::Result<OwnedFd>, user: Option<Credentials>) -> Result<()> {
        match listener {
            Ok(listener) => {
                self.channel.send_with(&FromChild::Listener { user }, listener.as_fd()).step(lost)
            }
            Err(error) if self.spec.emulation == Emulation::Required => Err(emulation::refused(&error)),
            Err(error) => {
                let notice = format!("owners and users are not emulated: {}", emulation::why_refused(&error));
                self.channel.send(&FromChild::Notice(notice)).step(lost)
            }
        }
    }

    /// On a bind mount the owners are those of the host: who the container's user is there explains a refusal.
    fn explain_owners(&self, error: Error, denied: bool, path: &Path, user: &ResolvedUser) -> Error {
        let spec = self.spec;
        let bound = spec
            .mounts
            .iter()
            .filter(|mount| matches!(mount.kind, MountKind::Bind(_)) && path.starts_with(&mount.target))
            .max_by_key(|mount| mount.target.components().count());
        let root = matches!(spec.root, Root::WritableDirectory { .. }).then_some(Path::new("/"));
        let Some(target) = bound.map(|mount| mount.target.as_path()).or(root).filter(|_| denied) else {
            return error;
        };
        if spec.identity.join.is_some() {
            return error;
        }
        let hint = format!(
            "`{}` comes from the host, and so do the owners of its files: {}",
            target.display(),
            spec.identity.explain(user.uid, user.gid)
        );
        let caller = spec.process.account.as_ref().and_then(|account| account.uid);
        // Bundles list their maps.
        if caller == Some(user.uid) || spec.listed.is_some() {
            return error.hint(hint);
        }
        error.hint(hint).hint("`--userns image-user` or `--userns keep-id` makes that user the caller")
    }
}

/// Descriptors of the caller's that go on to the command.
pub fn handed_on(exact: Option<&Exact>) -> std::ops::Range<RawFd> {
    let count = exact.map_or(0, |exact| exact.descriptors).min(LONGEST_HANDOVER);
    3..3 + count.cast_signed()
}

fn be_scheduled(exact: &Exact) -> Result<()> {
    if let Some(priority) = exact.io_priority {
        scheduling::set_io_priority(priority).step(|| "cannot set the I/O priority")?;
    }
    match &exact.scheduler {
        Some(scheduler) => scheduling::set_scheduler(scheduler).step(|| "cannot set the scheduler"),
        None => Ok(()),
    }
}

/// Ends the process with the error's code, once the monitor has been told.
pub fn fail(channel: &Channel, error: Error) -> ! {
    let code = error.code();
    let shorter: String = error.to_string().chars().take(LONGEST_COMPLAINT).collect();
    if channel.send(&FromChild::Failed(error)).is_err() {
        let _ = channel.send(&FromChild::Failed(Error::new(shorter).exit_code(code)));
    }
    exit_now(code.into())
}

/// chdir(2) that no link of /proc (`/proc/PID/root`, `/proc/PID/fd/N`) leads astray.
fn enter(directory: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, directory, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    rustix::process::fchdir(opened)
}

/// `--oom-score-adj` for this process and those that it will start.
pub fn set_oom_score(spec: &Spec) -> Result<()> {
    let Some(score) = spec.oom_score_adj else { return Ok(()) };
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| {
        Error::new(format!("cannot set the OOM score adjustment {score}"))
            .because(error)
            .hint("without root it can only be raised")
    })
}

/// `--ulimit`.
pub fn set_rlimits(spec: &Spec) -> Result<()> {
    spec.rlimits.iter().try_for_each(|limit| {
        process::set_rlimit(limit.resource, limit.soft, limit.hard).map_err(|error| {
            let name = rlimit::name(limit.resource).unwrap_or_else(|| limit.resource.to_string());
            let failed = Error::new(format!("cannot set the resource limit {name}")).because(&error);
            match error.raw_os_error() {
                Some(libc::EPERM) => failed.hint("without root of the host no hard limit can be raised"),
                _ => failed,
            }
        })
    })
}

pub fn die_with_monitor() -> Result<()> {
    // The parent is in another PID namespace and cannot be asked for: a monitor that is gone already shows
    // as the end of the channel at the next message.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step(|| "cannot bind the container to its monitor")
}

pub fn lost() -> &'static str {
    "cannot talk to the monitor"
}
