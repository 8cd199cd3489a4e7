//! fuse-overlayfs: a process of the canonical user namespace serves a FUSE mount that the container's own
//! process has made. The mount is there before its server is, so nobody polls for readiness: the kernel
//! holds early requests until the server answers.
//!
//! The server stays outside the container's mount namespace. When that ends, the mount goes, the kernel
//! writes back what is dirty and tells the server to end.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::container::spec::Root;
use crate::error::{Error, Result, Step};
use crate::image::host;
use crate::layers::Upper;
use crate::sandbox::inroot::descriptor_path;
use crate::sys::process::{Fork, exit_now, fork, keep_over_exec};

const PROGRAM: &str = "fuse-overlayfs";
const DEVICE: &str = "/dev/fuse";
/// Linux's devices.txt, 10 char.
const NUMBER: (u32, u32) = (10, 229);

/// The program's path, where it and its device may be used.
///
/// # Errors
/// What is missing, and how to get it.
pub fn available() -> Result<PathBuf> {
    let cannot = || Error::new("cannot stack layers with fuse-overlayfs");
    let program = crate::host::programs::find(PROGRAM).ok_or_else(|| {
        cannot()
            .because("`fuse-overlayfs` is not installed")
            .hint("ask an administrator for the package fuse-overlayfs")
    })?;
    let unusable = |why: &dyn std::fmt::Display| {
        cannot()
            .because(format!("`{DEVICE}`: {why}"))
            .hint("ask an administrator for `modprobe fuse` and `chmod 0666 /dev/fuse`")
    };
    // Outer containers put /dev/null or a file in the place of what they hide.
    let found = rustix::fs::stat(DEVICE).map_err(|error| unusable(&error))?;
    let number = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
    if FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice || number != NUMBER {
        return Err(unusable(&"it is not the device of FUSE"));
    }
    rustix::fs::access(DEVICE, Access::READ_OK | Access::WRITE_OK).map_err(|error| unusable(&error))?;
    Ok(program)
}

/// [`available`], with uppers in `store`.
///
/// # Errors
/// As [`available`], or the store lies on another fuse-overlayfs (a container's own root): that refuses the
/// attributes which mark directories, and no directory could be made.
pub fn usable(store: &Path) -> Result<PathBuf> {
    let program = available()?;
    let on_fuse = crate::host::filesystem::of(store).is_ok_and(|found| found.name == "fuse");
    if on_fuse {
        let mark = c"user.fuseoverlayfs.opaque";
        match rustix::fs::setxattr(store, mark, b"n", rustix::fs::XattrFlags::empty()) {
            Err(rustix::io::Errno::PERM) => {
                return Err(Error::new("cannot stack layers with fuse-overlayfs")
                    .because(format!(
                        "`{}` is on a fuse-overlayfs itself, which holds no layers of another",
                        store.display()
                    ))
                    .hint("keep the store on a volume or a tmpfs: `--root DIR` or SBX_ROOT"));
            }
            // Without extended attributes it marks directories by files.
            Err(_) => {}
            Ok(()) => {
                let _ = rustix::fs::removexattr(store, mark);
            }
        }
    }
    Ok(program)
}

/// Mounts FUSE on `target` in the caller's user and mount namespace and gives the descriptor that a server
/// has to answer on.
pub fn mount(target: &Path) -> Result<OwnedFd> {
    let device = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("cannot open `{DEVICE}`"))?;
    // The owner of the mount has to be mapped, and 0 need not be.
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        device.as_fd().as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    );
    let options = CString::new(options).step(|| "cannot mount FUSE")?;
    rustix::mount::mount(PROGRAM, target, "fuse.fuse-overlayfs", MountFlags::empty(), options.as_c_str())
        .step(|| format!("cannot mount FUSE on `{}`", target.display()))?;
    Ok(device)
}

/// Everything that a server needs.
pub struct Server<'a> {
    pub program: &'a Path,
    pub device: OwnedFd,
    /// The canonical user namespace, joined before the program starts; none: already in it.
    pub userns: Option<&'a File>,
    pub root: &'a Root,
    /// The user and group that all files seem to have; none: those they have, but for the image `host`, where
    /// all are root's.
    pub owner: Option<(u32, u32)>,
    pub upper: &'a Upper,
    /// An empty directory on which the image `host` is staged, in a mount namespace of the server's own.
    pub stage: &'a Path,
    /// Standard error goes here; it is shown when the server fails.
    pub log: &'a Path,
}

impl Server<'_> {
    /// Starts the server as a child that dies with the caller, and gives its PID.
    pub fn start(self) -> Result<i32> {
        let parent = std::process::id();
        match fork().step(|| "cannot start fuse-overlayfs")? {
            Fork::Parent(pid) => Ok(pid),
            Fork::Child => self.become_server(parent),
        }
    }

    /// Replaces this process by the server.
    pub fn become_server(self, parent: u32) -> ! {
        let log = self.log.to_owned();
        let Err(error) = self.execute(parent);
        let _ = std::fs::write(log, error.report());
        exit_now(125)
    }

    fn execute(self, parent: u32) -> Result<std::convert::Infallible> {
        let failed = || "cannot start fuse-overlayfs";
        let _ = nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0));
        let log = File::create(self.log).step(|| format!("cannot write `{}`", self.log.display()))?;
        if let Some(userns) = self.userns {
            nix::sched::setns(userns, CloneFlags::CLONE_NEWUSER).step(failed)?;
        }
        // The host's root, owned by an ID that may not be mapped: take the namespace's own root.
        let _ = rustix::thread::set_thread_res_gid(root_gid(), root_gid(), root_gid());
        let _ = rustix::thread::set_thread_res_uid(root_uid(), root_uid(), root_uid());
        let upper = inherited(&self.upper.upper)?;
        let work = inherited(&self.upper.work)?;
        let mut options = self.owners();
        options.push_str(&self.layers()?);
        options.push_str(&format!(
            ",upperdir={},workdir={}",
            descriptor_path(&upper),
            descriptor_path(&work)
        ));
        if self.upper.throw_away {
            options.push_str(",fsync=0");
        }
        if self.upper.tells_writers {
            options.push_str(",writeback=0");
        }
        keep_over_exec(self.device.as_fd()).step(failed)?;
        let null = File::options().read(true).write(true).open("/dev/null").step(failed)?;
        rustix::stdio::dup2_stdin(&null).step(failed)?;
        rustix::stdio::dup2_stdout(&log).step(failed)?;
        rustix::stdio::dup2_stderr(&log).step(failed)?;
        let mountpoint = format!("/dev/fd/{}", self.device.as_raw_fd());
        let program = CString::new(self.program.as_os_str().as_bytes()).step(failed)?;
        let arguments =
            [PROGRAM, "-f", "-o", &options, &mountpoint].map(|word| CString::new(word).unwrap_or_default());
        crate::sys::process::reset_signals();
        // Set last: joining a user namespace clears it (prctl(2), PR_SET_PDEATHSIG).
        crate::sys::process::die_with_parent(parent).step(failed)?;
        nix::unistd::execve(&program, &arguments, &[] as &[CString])
            .step(|| format!("cannot execute `{}`", self.program.display()))
    }

    fn owners(&self) -> String {
        match (self.owner, self.root) {
            (Some((uid, gid)), _) => format!("squash_to_uid={uid},squash_to_gid={gid},"),
            (None, Root::Host { .. }) => "squash_to_root,".to_owned(),
            (None, _) => String::new(),
        }
    }

    /// `lowerdir=`, topmost first, as descriptors that the program inherits.
    fn layers(&self) -> Result<String> {
        let lowers = match self.root {
            Root::Host { .. } => {
                nix::sched::unshare(CloneFlags::CLONE_NEWNS).step(|| "cannot make a mount namespace")?;
                rustix::mount::mount_change(
                    "/",
                    MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
                )
                .step(|| "cannot detach the mounts of the host")?;
                host::stage(self.stage, true)?;
                let stage = inherited(self.stage)?;
                let options = format!("lowerdir={}", descriptor_path(&stage));
                std::mem::forget(stage);
                return Ok(options);
            }
            Root::Directories { lowers, .. } => lowers.as_slice(),
            Root::WritableDirectory { .. } | Root::Layers { .. } => &[],
        };
        let mut names = Vec::with_capacity(lowers.len());
        for lower in lowers.iter().rev() {
            let directory = inherited(lower)?;
            names.push(descriptor_path(&directory));
            std::mem::forget(directory);
        }
        Ok(format!("lowerdir={}", names.join(":")))
    }
}

fn root_uid() -> rustix::fs::Uid {
    rustix::fs::Uid::ROOT
}

fn root_gid() -> rustix::fs::Gid {
    rustix::fs::Gid::ROOT
}

/// Opens a directory for the program that is about to be executed.
fn inherited(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .step(|| format!("cannot open the layer `{}`", path.display()))
}
