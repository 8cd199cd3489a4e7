//! Inside: the container's first process, from empty namespaces to the user's command.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, MountKind, Namespace, Root, Seccomp, Spec};
use crate::container::user::{self, ResolvedUser};
use crate::container::{env, sysctl};
use crate::emulation::{self, Credentials, Emulation};
use crate::error::{Error, Result, Step};
use crate::layers::Upper;
use crate::network::inside;
use crate::sandbox::inroot::InRoot;
use crate::sandbox::message::{FromChild, ToChild};
use crate::sandbox::privileges::{self, Privileges};
use crate::sandbox::reach::Reach;
use crate::sandbox::{
    accounts, devices, init, kernel_mounts, ownership, program, root, terminal, user_mounts, userns, volumes,
};
use crate::seccomp::bpf::Instruction;
use crate::secret::copies::{self, Values};
use crate::sys::channel::Channel;
use crate::sys::process::{self, exit_now};

/// /etc/passwd and /etc/group of an image are not worth more than this.
const LONGEST_ACCOUNT_FILE: u64 = 16 << 20;

/// Characters of an error that is too long for one message.
const LONGEST_COMPLAINT: usize = 4000;

/// The container's standard streams.
pub enum Stdio {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// Rows and columns, where the caller has a terminal.
    Terminal {
        size: Option<(u16, u16)>,
    },
}

/// What the container's process starts with.
pub struct Inside<'a> {
    pub spec: &'a Spec,
    pub directory: &'a ContainerDirectory,
    pub channel: Channel,
    pub stdio: Stdio,
    pub seccomp: Option<Vec<Instruction>>,
    /// The filter of emulated root.
    pub emulation: Option<Vec<Instruction>>,
    /// The data of the container's secrets, once [`Inside::run`] has read it.
    pub secrets: Values,
    /// The process was cloned into the network namespace of its parent and makes its own.
    pub makes_network: bool,
}

/// What was done before the maps were written.
struct Early {
    root: Option<InRoot>,
    kernel_mounts: bool,
}

impl Inside<'_> {
    /// Becomes the container's command, or says why not and ends.
    pub fn run(self) -> ! {
        let _ = rustix::thread::set_name(c"sbx-child");
        let secrets = match copies::values(self.spec, self.directory) {
            Ok(secrets) => secrets,
            Err(error) => self.fail(error),
        };
        // Elsewhere the container's root is the caller and reaches what the caller does.
        let root_is_another = self.spec.identity.nested.is_some() || self.spec.identity.join.is_some();
        let reach = if root_is_another { Reach::open(self.spec, self.directory).map(Some) } else { Ok(None) };
        match reach {
            Ok(None) => Inside { secrets, ..self }.become_command(),
            Ok(Some(reach)) => {
                Inside { spec: &reach.spec, directory: &reach.directory, secrets, ..self }.become_command()
            }
            Err(error) => self.fail(error),
        }
    }

    fn become_command(self) -> ! {
        let error = match self.set_up() {
            Ok(user) => self.execute(&user),
            Err(error) => error,
        };
        self.fail(error)
    }

    fn fail(&self, error: Error) -> ! {
        let code = error.code();
        let shorter: String = error.to_string().chars().take(LONGEST_COMPLAINT).collect();
        if self.channel.send(&FromChild::Failed(error)).is_err() {
            let _ = self.channel.send(&FromChild::Failed(Error::new(shorter).exit_code(code)));
        }
        exit_now(code.into())
    }

    fn set_up(&self) -> Result<ResolvedUser> {
        die_with_monitor()?;
        rustix::process::setsid().step(|| "cannot make a session for the container")?;
        let early = self.before_the_maps()?;
        self.wait_for_maps()?;
        self.allow_ping()?;

        let inroot = match early.root {
            Some(inroot) => inroot,
            None => self.mount_root()?,
        };
        if !early.kernel_mounts {
            self.mount_kernel_file_systems(&inroot)?;
        }
        let unclaimed = self.mount_the_rest(&inroot)?;
        let user = self.user(&inroot)?;
        unclaimed.iter().try_for_each(|volume| volumes::claim(volume, &user))?;
        drop(unclaimed);
        self.give_volumes(&inroot, &user)?;
        let streams = self.streams(&inroot)?;
        kernel_mounts::mask(&inroot, self.masked(false))?;
        self.working_directory(&inroot)?;
        root::enter(&inroot)?;
        // The monitor completes its record while the kernel takes its time.
        self.channel.send(&FromChild::Ready).step(lost)?;
        root::let_go()?;
        if self.spec.read_only || self.spec.root == (Root::Host { driver: Driver::Bind }) {
            root::make_read_only(Path::new("/"), false)?;
        }
        self.limits()?;
        self.take_streams(streams)?;
        self.wait_for_go()?;
        Ok(user)
    }

    /// What makes no files, and so needs no IDs, goes on while the helpers write the maps: a root that is
    /// bound, and what the kernel mounts into it.
    fn before_the_maps(&self) -> Result<Early> {
        root::detach_from_host()?;
        self.open_network()?;
        if self.spec.namespaces.uts == Namespace::Private {
            if let Some(name) = &self.spec.hostname {
                rustix::system::sethostname(name.as_bytes()).map_err(|error| {
                    let failed = Error::new(format!("cannot set the hostname `{name}`")).because(error);
                    match error {
                        // The namespace is our own: nothing but a filter refuses.
                        Errno::PERM => failed.hint(
                            "the seccomp profile of an outer container forbids it: start that one with \
                             `--security-opt seccomp=unconfined` or `--privileged`",
                        ),
                        _ => failed,
                    }
                })?;
            }
            if let Some(name) = &self.spec.domainname {
                rustix::system::setdomainname(name.as_bytes())
                    .step(|| format!("cannot set the domain name `{name}`"))?;
            }
        }
        // An overlay makes a directory of mode 000 and opens it, which takes a capability over its owner's ID.
        let bound = matches!(
            self.spec.root,
            Root::WritableDirectory { .. } | Root::Directories { driver: Driver::Bind, .. }
        );
        if !bound {
            return Ok(Early { root: None, kernel_mounts: false });
        }
        let inroot = self.mount_root()?;
        // Missing directories would have to be made, and sysctls written, by an ID that is mapped.
        let kernel_mounts = self.spec.sysctls.is_empty()
            && ["/proc", "/sys"].iter().all(|path| inroot.find(Path::new(path)).is_ok());
        if kernel_mounts {
            self.mount_kernel_file_systems(&inroot)?;
        }
        Ok(Early { root: Some(inroot), kernel_mounts })
    }

    fn mount_root(&self) -> Result<InRoot> {
        let merged = self.spec.bound_root().map_or_else(|| self.directory.upper(), Path::to_owned);
        if let Some(device) = root::mount_root(self.spec, &self.upper(), &merged)? {
            use std::os::fd::AsFd;
            self.channel.send_with(&FromChild::ServeRoot, device.as_fd()).step(lost)?;
        }
        InRoot::open(&merged)
    }

    fn mount_kernel_file_systems(&self, inroot: &InRoot) -> Result<()> {
        kernel_mounts::mount_proc(inroot, self.spec)?;
        kernel_mounts::mount_sys(inroot, self.spec)?;
        self.set_sysctls(inroot)?;
        kernel_mounts::mask(inroot, self.masked(true))?;
        kernel_mounts::protect(inroot, &self.spec.security.read_only_paths)
    }

    /// The paths to hide, those of the kernel's file systems or the others: what the user mounts comes between.
    fn masked(&self, of_the_kernel: bool) -> impl Iterator<Item = &PathBuf> {
        let kernels = |path: &&PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
        self.spec.security.masked_paths.iter().filter(move |path| kernels(path) == of_the_kernel)
    }

    /// What has to be so before the helper makes its interface.
    fn open_network(&self) -> Result<()> {
        if self.spec.namespaces.net != Namespace::Private {
            return Ok(());
        }
        if self.makes_network {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| crate::host::userns::explain_clone_failure(&errno.into()))?;
        }
        let skipped =
            inside::set_up(open_proc()?.as_fd()).step(|| "cannot bring the loopback interface up")?;
        skipped
            .iter()
            .try_for_each(|skipped| self.channel.send(&FromChild::Notice(skipped.notice())).step(lost))
    }

    /// Needs the group map. With it the network is ready for a helper.
    fn allow_ping(&self) -> Result<()> {
        if self.spec.namespaces.net != Namespace::Private {
            return Ok(());
        }
        let identity = &self.spec.identity;
        let groups = match identity.join {
            None => identity.host_gid_map(),
            Some(_) => userns::own_map("gid_map")?,
        };
        if let Some(range) = groups.ping_groups()
            && let Some(skipped) = inside::allow_ping(open_proc()?.as_fd(), range)
        {
            self.channel.send(&FromChild::Notice(skipped.notice())).step(lost)?;
        }
        self.channel.send(&FromChild::NetworkOpen).step(lost)
    }

    fn wait_for_maps(&self) -> Result<()> {
        match self.channel.receive().step(lost)? {
            Some((ToChild::Mapped, _)) => {}
            _ => exit_now(125),
        }
        userns::become_root()?;
        // Changing IDs makes the process undumpable, and its namespaces would be closed to the helpers that
        // have to join them (proc(5), /proc/PID/ns). Nothing of the container runs yet, unless it joined one.
        if self.spec.identity.join.is_none() {
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
        } else {
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .step(|| "cannot close the process to others")?;
        }
        // Changing IDs clears it (prctl(2), PR_SET_PDEATHSIG).
        die_with_monitor()
    }

    fn wait_for_go(&self) -> Result<()> {
        match self.channel.receive().step(lost)? {
            Some((ToChild::Go, _)) => Ok(()),
            _ => exit_now(125),
        }
    }

    fn upper(&self) -> Upper {
        Upper {
            upper: self.directory.upper(),
            work: self.directory.work(),
            throw_away: self.spec.remove_on_exit,
        }
    }

    /// Gives the volumes that are nobody's yet.
    fn mount_the_rest(&self, inroot: &InRoot) -> Result<Vec<OwnedFd>> {
        let spec = self.spec;
        devices::mount_dev(inroot, spec)?;
        let bare = matches!(
            spec.root,
            Root::Host { driver: Driver::Bind } | Root::Directories { driver: Driver::Bind, .. }
        );
        for (file, target) in self.directory.generated_files() {
            if file.exists() {
                user_mounts::bind_generated(inroot, &file, Path::new(target), bare)?;
            }
        }
        let unclaimed = volumes::fill(inroot, &spec.mounts)?;
        user_mounts::mount_all(inroot, &spec.mounts, &self.directory.mount_scratch(), &self.secrets)?;
        Ok(unclaimed)
    }

    fn user(&self, inroot: &InRoot) -> Result<ResolvedUser> {
        let process = &self.spec.process;
        let read = |path| inroot.read(Path::new(path), LONGEST_ACCOUNT_FILE).unwrap_or_default();
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        let default = self.spec.identity.default_user;
        let mut user = user::resolve(process.user.as_deref(), &process.groups, &passwd, &group, default)?;
        if self.spec.emulation == Emulation::Off {
            privileges::check_mapped(&user, &self.spec.identity)?;
        }
        accounts::complete(inroot, self.spec, &mut user, &passwd, &group)?;
        Ok(user)
    }

    fn give_volumes(&self, inroot: &InRoot, user: &ResolvedUser) -> Result<()> {
        for mount in &self.spec.mounts {
            if mount.kind.bind().is_some_and(|bind| bind.chown) {
                let failed =
                    || format!("cannot change the owner of what is mounted on `{}`", mount.target.display());
                let place = inroot.find(&mount.target).step(failed)?;
                ownership::give(&place, user.uid, user.gid).step(failed)?;
            }
        }
        Ok(())
    }

    fn streams(&self, inroot: &InRoot) -> Result<Option<OwnedFd>> {
        let Stdio::Terminal { size } = &self.stdio else { return Ok(None) };
        let pair = terminal::open(inroot, *size)?;
        self.channel.send_with(&FromChild::Terminal, pair.master.as_fd()).step(lost)?;
        Ok(Some(pair.slave))
    }

    fn take_streams(&self, terminal: Option<OwnedFd>) -> Result<()> {
        match (&self.stdio, terminal) {
            (Stdio::Pipes { stdin, stdout, stderr }, _) => {
                let failed = || "cannot connect the standard streams";
                rustix::stdio::dup2_stdin(stdin).step(failed)?;
                rustix::stdio::dup2_stdout(stdout).step(failed)?;
                rustix::stdio::dup2_stderr(stderr).step(failed)
            }
            (Stdio::Terminal { .. }, Some(slave)) => terminal::attach(&slave),
            (Stdio::Terminal { .. }, None) => Err(Error::new("cannot attach the terminal")),
        }
    }

    fn set_sysctls(&self, inroot: &InRoot) -> Result<()> {
        for (name, value) in &self.spec.sysctls {
            let failed = || format!("cannot set the sysctl `{name}` to `{value}`");
            let path = Path::new("/proc/sys").join(sysctl::path(name));
            let place = inroot.find(&path).map_err(|error| {
                Error::new(failed())
                    .because(error)
                    .hint("this kernel has no such setting, or its module is not loaded")
            })?;
            std::fs::write(crate::sandbox::inroot::descriptor_path(&place), value).step(failed)?;
        }
        Ok(())
    }

    fn working_directory(&self, inroot: &InRoot) -> Result<()> {
        let cwd = &self.spec.process.cwd;
        inroot.ensure_directory(cwd).map(|_| ()).map_err(|error| {
            error.while_doing(format!("cannot use `{}` as the working directory", cwd.display()))
        })
    }

    fn limits(&self) -> Result<()> {
        // A process that is closed to others may not; it has it from its parent.
        if self.spec.identity.join.is_none() {
            set_oom_score(self.spec)?;
        }
        for limit in &self.spec.rlimits {
            process::set_rlimit(limit.resource, limit.soft, limit.hard)
                .step(|| format!("cannot set the resource limit number {}", limit.resource))?;
        }
        Ok(())
    }

    /// From here on nothing can be undone.
    fn execute(&self, user: &ResolvedUser) -> Error {
        let spec = self.spec;
        let mut env = spec.process.env.clone();
        match copies::variables(spec, &self.secrets) {
            Ok(variables) => env::set_all(&mut env, variables),
            Err(error) => return error,
        }
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={}", user.home));
        }
        // Until the exec the process is sbx: nobody inside may look into it or reach its binary.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        if spec.security.seccomp != Seccomp::Default {
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
        process::close_all_but(&mut [0, 1, 2, self.channel.as_fd().as_raw_fd()]);
        let entered = enter(&spec.process.cwd);
        let hand_over = |listener, user| self.hand_over(listener, user);
        let privileges = Privileges {
            user,
            keep_groups: spec.process.keep_groups,
            capabilities: spec.security.capabilities,
            no_new_privileges: spec.security.no_new_privileges,
            seccomp: self.seccomp.as_deref(),
            believed: self.spec.emulation != Emulation::Off
                && privileges::check_mapped(user, &spec.identity).is_err(),
            emulation: self.emulation.as_deref().map(|program| (program, &hand_over as _)),
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
                    .exit_code(crate::error::EXIT_NOT_INVOKABLE);
            return self.explain_owners(failed, error == Errno::ACCESS, &spec.process.cwd, user);
        }
        if let Err(error) = process::close_on_exec_from(3) {
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
        process::reset_signals();
        let error = program::execute(&spec.process.args, &env);
        let denied = error.code() == crate::error::EXIT_NOT_INVOKABLE;
        if denied && matches!(spec.security.seccomp, Seccomp::Profile(_)) && error.hints().is_empty() {
            return error.hint("the seccomp profile has to allow what executing the command takes");
        }
        let command = spec.process.args.first().map(|word| spec.process.cwd.join(word)).unwrap_or_default();
        self.explain_owners(error, denied, &command, user)
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
        if caller == Some(user.uid) {
            return error.hint(hint);
        }
        error.hint(hint).hint("`--userns image-user` or `--userns keep-id` makes that user the caller")
    }
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

fn open_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).step(|| "cannot open /proc")
}

fn die_with_monitor() -> Result<()> {
    // The parent is in another PID namespace and cannot be asked for: a monitor that is gone already shows
    // as the end of the channel at the next message.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step(|| "cannot bind the container to its monitor")
}

fn lost() -> &'static str {
    "cannot talk to the monitor"
}
