//! The mount options that `-v`, `--mount` and `--tmpfs` share, each set at most one way.

use super::super::spec::{Bind, MountFlags, Propagation, VolumeMount};
use super::Context;

/// Why an option was not taken.
pub(super) enum Refusal {
    /// It is not one of this group.
    Unknown,
    /// It is known, but cannot be had like this.
    Wrong(String),
}

/// A choice that may be made once; repeating the same word is no contradiction.
pub(super) struct Choice<T>(Option<(String, T)>);

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq> Choice<T> {
    pub(super) fn choose(&mut self, word: &str, value: T) -> Result<(), Refusal> {
        match &self.0 {
            Some((first, chosen)) if *chosen != value => {
                Err(Refusal::Wrong(format!("`{first}` and `{word}` contradict each other")))
            }
            _ => {
                self.0 = Some((word.to_owned(), value));
                Ok(())
            }
        }
    }

    pub(super) fn value(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }

    fn word_if(&self, value: &T) -> Option<&str> {
        self.0.as_ref().filter(|(_, chosen)| chosen == value).map(|(word, _)| word.as_str())
    }
}

/// `ro`, `noexec`, `nosuid`, `nodev` and their opposites.
#[derive(Default)]
pub(super) struct Flags {
    pub(super) read_only: Choice<bool>,
    no_exec: Choice<bool>,
    no_suid: Choice<bool>,
    no_dev: Choice<bool>,
}

impl Flags {
    pub(super) fn take(&mut self, word: &str) -> Result<(), Refusal> {
        match word {
            "ro" => self.read_only.choose(word, true),
            "rw" => self.read_only.choose(word, false),
            "noexec" => self.no_exec.choose(word, true),
            "exec" => self.no_exec.choose(word, false),
            "nosuid" => self.no_suid.choose(word, true),
            "suid" => self.no_suid.choose(word, false),
            "nodev" => self.no_dev.choose(word, true),
            "dev" => self.no_dev.choose(word, false),
            _ => Err(Refusal::Unknown),
        }
    }

    pub(super) fn finish(self, default: MountFlags) -> MountFlags {
        MountFlags {
            read_only: self.read_only.value().unwrap_or(default.read_only),
            no_exec: self.no_exec.value().unwrap_or(default.no_exec),
            no_suid: self.no_suid.value().unwrap_or(default.no_suid),
            no_dev: self.no_dev.value().unwrap_or(default.no_dev),
        }
    }
}

/// The options of bind mounts beside the flags.
#[derive(Default)]
pub(super) struct BindOptions {
    pub(super) recursive: Choice<bool>,
    propagation: Choice<(Propagation, bool)>,
    relabel: Choice<char>,
    pub(super) chown: Choice<bool>,
    overlay: Choice<bool>,
    idmap: Choice<bool>,
    /// Of volumes alone: whether the image's content is copied into a new one.
    pub(super) copy: Choice<bool>,
}

impl BindOptions {
    pub(super) fn take(&mut self, word: &str, context: Context<'_>) -> Result<(), Refusal> {
        match word {
            "bind" => self.recursive.choose(word, false),
            "rbind" => self.recursive.choose(word, true),
            "U" => self.chown.choose(word, true),
            "O" => self.overlay.choose(word, true),
            "idmap" => self.idmap.choose(word, true),
            "z" | "Z" => self.relabel(word, context),
            "nocopy" => self.copy.choose(word, false),
            "copy" => self.copy.choose(word, true),
            _ => self.propagation(word),
        }
    }

    pub(super) fn propagation(&mut self, word: &str) -> Result<(), Refusal> {
        let (kind, recursive) = match word {
            "private" => (Propagation::Private, false),
            "rprivate" => (Propagation::Private, true),
            "slave" => (Propagation::Slave, false),
            "rslave" => (Propagation::Slave, true),
            "shared" => (Propagation::Shared, false),
            "rshared" => (Propagation::Shared, true),
            "unbindable" => (Propagation::Unbindable, false),
            "runbindable" => (Propagation::Unbindable, true),
            _ => return Err(Refusal::Unknown),
        };
        self.propagation.choose(word, (kind, recursive))
    }

    /// Without SELinux there are no labels, and a relabelled source is the source as it is.
    pub(super) fn relabel(&mut self, word: &str, context: Context<'_>) -> Result<(), Refusal> {
        if crate::host::security::has_selinux(context.root) {
            return Err(Refusal::Wrong(format!(
                "`{word}` asks for new SELinux labels, which sbx does not write: run `chcon -R -t container_file_t` on the source"
            )));
        }
        self.relabel.choose(word, if word == "Z" { 'Z' } else { 'z' })
    }

    /// A mount of a directory or file of the host.
    pub(super) fn finish(self, source: std::path::PathBuf, flags: &Flags) -> Result<Bind, String> {
        if let Some((word, _)) = &self.copy.0 {
            return Err(format!(
                "`{word}` is about volumes: nothing is ever copied into a directory of the host"
            ));
        }
        self.bound(source, flags)
    }

    /// A mount of a volume.
    pub(super) fn finish_volume(
        mut self,
        name: Option<String>,
        flags: &Flags,
    ) -> Result<VolumeMount, String> {
        let copy = std::mem::take(&mut self.copy).value().unwrap_or(true);
        let bind = self.bound(std::path::PathBuf::new(), flags)?;
        Ok(VolumeMount { copy: copy && !bind.overlay, ..super::of_volume(name, bind) })
    }

    fn bound(self, source: std::path::PathBuf, flags: &Flags) -> Result<Bind, String> {
        let overlay = self.overlay.value() == Some(true);
        let idmap = self.idmap.value() == Some(true);
        if overlay && idmap {
            return Err("`O` and `idmap` cannot be had together".to_owned());
        }
        if overlay && let Some(word) = flags.read_only.word_if(&true) {
            return Err(format!("`O` throws changes away and `{word}` forbids them: leave one out"));
        }
        let (propagation, recursive_propagation) =
            self.propagation.value().unwrap_or((Propagation::Private, true));
        Ok(Bind {
            source,
            recursive: self.recursive.value().unwrap_or(true),
            propagation,
            recursive_propagation,
            chown: self.chown.value() == Some(true),
            overlay,
            idmap,
        })
    }
}
