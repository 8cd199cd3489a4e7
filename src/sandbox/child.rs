//! Inside: the container's first process, from empty namespaces to the user's command.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, Namespace, Root, Spec};
use crate::container::sysctl;
use crate::container::user::ResolvedUser;
use crate::error::{Error, Result, Step};
use crate::layers::Upper;
use crate::network::{self, inside};
use crate::sandbox::command::{self, AccountFiles, Command, die_with_monitor, lost};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::listed::Gate;
use crate::sandbox::listed::mapping::Mapped;
use crate::sandbox::message::{FromChild, ToChild};
use crate::sandbox::namespaces::Join;
use crate::sandbox::reach::Reach;
use crate::sandbox::{
    accounts, devices, kernel_mounts, namespaces, ownership, privileges, root, terminal, user_mounts, userns,
    volumes,
};
use crate::seccomp::bpf::Instruction;
use crate::secret::copies::{self, Values};
use crate::sys::channel::Channel;
use crate::sys::net::{interfaces, loopback_up_by};
use crate::sys::process::exit_now;

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
    /// Those of whoever makes the container.
    Inherited,
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
    /// The same of the cgroup namespace: its root is then the cgroup that the process was cloned into.
    pub makes_cgroup: bool,
    /// Of a bundle whose maker does not stay: what its process waits at.
    pub gate: Option<Gate>,
    /// Of a bundle: its bind mounts with maps.
    pub mapped: Vec<Mapped>,
    /// Of a bundle: the mount namespace that it is to be in at the end.
    pub mounts: Option<Join>,
    /// Of a bundle: what locks its record for whoever makes it, which this process lets go of at once.
    pub lock: Option<BorrowedFd<'a>>,
}

/// What was done before the maps were written.
struct Early {
    root: Option<InRoot>,
    kernel_mounts: bool,
}

impl Inside<'_> {
    /// Becomes the container's command, or says why not and ends.
    pub fn run(self) -> ! {
        if let Some(lock) = self.lock {
            crate::sys::process::close_inherited(lock);
        }
        let _ = rustix::thread::set_name(c"sbx-child");
        if self.makes_cgroup
            && let Err(errno) = nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
        {
            command::fail(&self.channel, crate::host::userns::explain_clone_failure(&errno.into()));
        }
        if self.spec.identity.join.is_some() {
            privileges::learn_of_setgroups();
        }
        let secrets = match copies::values(self.spec, self.directory) {
            Ok(secrets) => secrets,
            Err(error) => command::fail(&self.channel, error),
        };
        // Elsewhere the container's root is the caller and reaches what the caller does.
        let root_is_another = self.spec.listed.is_none()
            && (self.spec.identity.nested.is_some() || self.spec.identity.join.is_some());
        let reach = if root_is_another { Reach::open(self.spec, self.directory).map(Some) } else { Ok(None) };
        match reach {
            Ok(None) => Inside { secrets, ..self }.become_command(),
            Ok(Some(reach)) => {
                Inside { spec: &reach.spec, directory: &reach.directory, secrets, ..self }.become_command()
            }
            Err(error) => command::fail(&self.channel, error),
        }
    }

    fn become_command(self) -> ! {
        let set_up = match &self.spec.listed {
            None => self.set_up(),
            Some(listed) => self.set_up_listed(listed),
        };
        let error = match set_up {
            Ok(user) => self.last_steps().execute(&user),
            Err(error) => error,
        };
        if let Some(gate) = &self.gate {
            gate.complain(&error);
        }
        command::fail(&self.channel, error)
    }

    fn set_up(&self) -> Result<ResolvedUser> {
        die_with_monitor()?;
        rustix::process::setsid().step(|| "cannot make a session for the container")?;
        let early = self.before_the_maps()?;
        self.wait_for_maps()?;
        self.allow_ping()?;
        self.show_namespaces()?;

        let inroot = match early.root {
            Some(inroot) => inroot,
            None => self.mount_root()?,
        };
        if !early.kernel_mounts {
            self.mount_kernel_file_systems(&inroot)?;
        }
        self.wait_for_files()?;
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
        // Not before: until then the root of the host lies on top of this one, and `..` leads there.
        self.channel.send_with(&FromChild::Root, inroot.directory()).step(lost)?;
        if self.spec.read_only || self.spec.root == (Root::Host { driver: Driver::Bind }) {
            root::make_read_only(Path::new("/"), false)?;
        }
        self.limits()?;
        self.last_steps().take_streams(&self.stdio, streams, &user)?;
        self.wait_for_go()?;
        Ok(user)
    }

    /// What makes no files, and so needs no IDs, goes on while the helpers write the maps: a root that is
    /// bound, and what the kernel mounts into it.
    fn before_the_maps(&self) -> Result<Early> {
        root::detach_from_host()?;
        self.open_network()?;
        self.name_the_host()?;
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

    pub(super) fn name_the_host(&self) -> Result<()> {
        // One that was joined has its names; the author of a bundle may want others.
        let named = match self.spec.namespaces.uts {
            Namespace::Private => true,
            Namespace::Host => false,
            _ => self.spec.listed.is_some(),
        };
        if named {
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
        Ok(())
    }

    pub(super) fn mount_root(&self) -> Result<InRoot> {
        let merged = self.spec.bound_root().map_or_else(|| self.directory.upper(), Path::to_owned);
        if let Some(device) = root::mount_root(self.spec, &Upper::of(self.spec, self.directory), &merged)? {
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
        self.raise_loopback()?;
        // Without a helper there will be no other interface of ours.
        let connects = self.spec.network.mode != network::Mode::None;
        inside::set_up(open_proc()?.as_fd(), connects)
            .iter()
            .try_for_each(|skipped| self.channel.send(&FromChild::Notice(skipped.notice())).step(lost))
    }

    /// The monitor has power over the namespaces that it had made; in others the child alone has.
    fn raise_loopback(&self) -> Result<()> {
        let failed = || "cannot bring the loopback interface up";
        let socket = interfaces().step(failed)?;
        if self.spec.identity.join.is_some() {
            return loopback_up_by(socket.as_fd()).step(failed);
        }
        self.channel.send_with(&FromChild::Loopback, socket.as_fd()).step(lost)
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

    fn wait_for_files(&self) -> Result<()> {
        match self.channel.receive().step(lost)? {
            Some((ToChild::Furnished, _)) => Ok(()),
            _ => exit_now(125),
        }
    }

    /// Who is closed to others tells the monitor itself what those have to join that are brought in later.
    fn show_namespaces(&self) -> Result<()> {
        if self.spec.identity.join.is_none() {
            return Ok(());
        }
        for kind in namespaces::of_container(self.spec) {
            let file = namespaces::open("self", kind.name)?;
            let name = kind.name.to_owned();
            self.channel.send_with(&FromChild::Namespace { name }, file.as_fd()).step(lost)?;
        }
        Ok(())
    }

    fn wait_for_go(&self) -> Result<()> {
        match self.channel.receive().step(lost)? {
            Some((ToChild::Go, _)) => Ok(()),
            _ => exit_now(125),
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
        if spec.timezone.is_some() {
            let target = Path::new("/etc/localtime");
            user_mounts::bind_generated(inroot, &self.directory.localtime(), target, bare)?;
        }
        let unclaimed = volumes::fill(inroot, &spec.mounts)?;
        user_mounts::mount_all(inroot, &spec.mounts, &self.directory.mount_scratch(), &self.secrets)?;
        Ok(unclaimed)
    }

    fn user(&self, inroot: &InRoot) -> Result<ResolvedUser> {
        let files = AccountFiles::read(inroot);
        let mut user = files.user(self.spec)?;
        accounts::complete(inroot, self.spec, &mut user, &files.passwd, &files.group)?;
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

    pub(super) fn streams(&self, inroot: &InRoot) -> Result<Option<OwnedFd>> {
        let Stdio::Terminal { size } = &self.stdio else { return Ok(None) };
        let pair = terminal::open(inroot, *size)?;
        terminal::show_as_console(inroot, &pair)?;
        self.channel.send_with(&FromChild::Terminal, pair.master.as_fd()).step(lost)?;
        Ok(Some(pair.slave))
    }

    pub(super) fn set_sysctls(&self, inroot: &InRoot) -> Result<()> {
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

    pub(super) fn working_directory(&self, inroot: &InRoot) -> Result<()> {
        let cwd = &self.spec.process.cwd;
        inroot.ensure_directory(cwd).map(|_| ()).map_err(|error| {
            error.while_doing(format!("cannot use `{}` as the working directory", cwd.display()))
        })
    }

    pub(super) fn limits(&self) -> Result<()> {
        // A process that is closed to others may not; it has it from its parent.
        if self.spec.identity.join.is_none() {
            command::set_oom_score(self.spec)?;
        }
        command::set_rlimits(self.spec)
    }

    pub(super) fn last_steps(&self) -> Command<'_> {
        Command {
            spec: self.spec,
            channel: &self.channel,
            secrets: Some(&self.secrets),
            seccomp: self.seccomp.as_deref(),
            emulation: self.emulation.as_deref(),
            inside: Some(self),
        }
    }
}

fn open_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).step(|| "cannot open /proc")
}
