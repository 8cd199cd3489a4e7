//! Where the host keeps what decides about IDs; paths are a value, so that tests bring their own.

use std::env;
use std::path::{Path, PathBuf};

use super::subid::Kind;
use crate::host::programs;

#[derive(Debug, Clone)]
pub struct Host {
    pub subuid: PathBuf,
    pub subgid: PathBuf,
    pub nsswitch: PathBuf,
    pub passwd: PathBuf,
    /// /proc/self
    pub proc_self: PathBuf,
    /// Where programs are looked for, in order.
    pub path: Vec<PathBuf>,
    /// Where newuidmap-shim is looked for before `path`.
    pub shim_dirs: Vec<PathBuf>,
}

impl Host {
    /// The machine itself: $PATH and the usual directories behind it.
    pub fn system() -> Self {
        let beside_binary =
            env::current_exe().ok().and_then(|binary| Some(binary.parent()?.parent()?.join("libexec/sbx")));
        Self {
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            passwd: "/etc/passwd".into(),
            proc_self: "/proc/self".into(),
            path: programs::directories(),
            shim_dirs: beside_binary
                .into_iter()
                .chain(["/usr/local/libexec/sbx".into(), "/usr/libexec/sbx".into()])
                .collect(),
        }
    }

    pub fn subid_file(&self, kind: Kind) -> &Path {
        match kind {
            Kind::User => &self.subuid,
            Kind::Group => &self.subgid,
        }
    }

    /// Every place where a program may be, existing or not.
    pub fn program_candidates(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        self.path.iter().map(move |dir| dir.join(name))
    }

    pub fn shim_candidates(&self) -> impl Iterator<Item = PathBuf> {
        self.shim_dirs.iter().chain(&self.path).map(|dir| dir.join("newuidmap-shim"))
    }

    /// The first executable of that name.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        programs::find_in(&self.path, name)
    }
}
