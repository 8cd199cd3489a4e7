//! `RUN --mount`: what a command sees beside the files of its stage. None of it ends up in a layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::build::agent::Relay;
use crate::build::builder::{Builder, Built};
use crate::build::caches;
use crate::build::copy::{APART, name_of};
use crate::build::dockerfile::step::{From, Mount, MountKind, Owner, Sharing};
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::changes::working_directory;
use crate::layers::{copy, remove};
use crate::sandbox::userns;

/// BuildKit's place of secrets.
const SECRETS: &str = "/run/secrets";
/// Where a script of a here-document is.
const SCRIPTS: &str = "/run/sbx-build";
/// BuildKit's place of agents' sockets.
const AGENTS: &str = "/run/buildkit/ssh_agent";
const MODE_OF_AGENTS: u32 = 0o600;
const MODE_OF_SECRETS: u32 = 0o400;
const MODE_OF_CACHES: u32 = 0o755;
/// A secret is a few lines.
const LARGEST_SECRET: u64 = 512 << 10;

/// `--secret`, where its data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    File(PathBuf),
    Variable(String),
}

impl Secret {
    /// # Errors
    /// It is not there, or too large.
    pub fn read(&self, id: &str) -> Result<Vec<u8>> {
        let failed = || format!("cannot read the secret `{id}`");
        match self {
            Self::File(path) => {
                let failed = || format!("{} from `{}`", failed(), path.display());
                let length = fs::metadata(path).step(failed)?.len();
                if length > LARGEST_SECRET {
                    return Err(Error::new(failed())
                        .because(format!("it is larger than {} KiB", LARGEST_SECRET >> 10)));
                }
                fs::read(path).step(failed)
            }
            Self::Variable(name) => match std::env::var_os(name) {
                Some(value) => Ok(value.into_encoded_bytes()),
                None => Err(Error::new(failed()).because(format!("the variable `{name}` is not set"))),
            },
        }
    }
}

/// The mounts of one command.
#[derive(Default)]
pub struct Mounts {
    /// Options of `sbx run`.
    pub options: Vec<String>,
    /// `NAME=VALUE` of secrets.
    pub variables: Vec<String>,
    /// What of them a cache goes by.
    pub says: String,
    /// Of agents.
    relays: Vec<Relay>,
    /// Removed when the command has ended.
    scratch: Option<Scratch>,
    /// Of caches that are not shared.
    locks: Vec<File>,
}

/// What a cache is made with.
struct NewCache {
    owner: Owner,
    /// The files of this directory.
    begins_with: Option<PathBuf>,
}

/// A directory for secrets and scripts, where nobody else looks.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::debug!("cannot remove `{}`: {error}", self.0.display());
        }
    }
}

impl Mounts {
    fn scratch(&mut self, builder: &Builder<'_>) -> Result<&Path> {
        if self.scratch.is_none() {
            let name = super::leftover::name()?;
            let path = builder.surroundings.runtime.path.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| no_room(error, format!("cannot make `{}`", path.display())))?;
            self.scratch = Some(Scratch(path));
        }
        self.scratch.as_ref().map(|scratch| scratch.0.as_path()).ok_or_else(|| Error::new("there is no room"))
    }

    /// A file of the scratch directory.
    fn file(&mut self, builder: &Builder<'_>, content: &[u8], mode: u32, owner: Owner) -> Result<PathBuf> {
        let count = self.options.len();
        let path = self.scratch(builder)?.join(count.to_string());
        let failed = || format!("cannot write `{}`", path.display());
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).step(failed)?;
        file.write_all(content).step(failed)?;
        file.set_permissions(fs::Permissions::from_mode(mode)).step(failed)?;
        give(builder, &path, owner)?;
        Ok(path)
    }

    /// A socket that leads to an agent.
    fn agent(&mut self, builder: &Builder<'_>, agent: &Path, owner: Owner) -> Result<PathBuf> {
        let name = format!("agent-{}", self.relays.len());
        let directory = self.scratch(builder)?.to_owned();
        self.relays.push(Relay::start(agent, &directory, &name)?);
        let path = directory.join(name);
        let mode = fs::Permissions::from_mode(owner.mode.unwrap_or(MODE_OF_AGENTS));
        fs::set_permissions(&path, mode)
            .step(|| format!("cannot change the mode of `{}`", path.display()))?;
        give(builder, &path, owner)?;
        Ok(path)
    }

    fn bind(&mut self, source: &Path, target: &str, read_only: bool) {
        let mut fields = vec!["type=bind".to_owned(), format!("source={}", source.display())];
        fields.push(format!("target={target}"));
        if read_only {
            fields.push("readonly".to_owned());
        }
        self.option(&fields);
    }

    fn option(&mut self, fields: &[String]) {
        let quoted = |field: &String| match field.contains([',', '"', '\n']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        };
        let fields: Vec<String> = fields.iter().map(quoted).collect();
        self.options.extend(["--mount".to_owned(), fields.join(",")]);
    }

    /// The script of a here-document; where it is in the container.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn script(&mut self, builder: &Builder<'_>, name: &str, content: &str) -> Result<String> {
        let path = self.file(builder, content.as_bytes(), 0o755, Owner::default())?;
        let target = format!("{SCRIPTS}/{}", name.replace('/', "_"));
        self.bind(&path, &target, true);
        Ok(target)
    }
}

/// Gives a file to a user of the container.
fn give(builder: &Builder<'_>, path: &Path, owner: Owner) -> Result<()> {
    let (uid, gid) = (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0));
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let failed = || format!("cannot give `{}` to {uid}:{gid}", path.display());
    let code = userns::run_in(&builder.place.identity, || {
        i32::from(std::os::unix::fs::chown(path, Some(uid), Some(gid)).is_err())
    })?;
    match code {
        0 => Ok(()),
        _ => Err(Error::new(failed()).because("the user has no such IDs")),
    }
}

impl Builder<'_> {
    /// Prepares one mount.
    ///
    /// # Errors
    /// What it is of is not there, or sbx cannot mount it.
    pub fn mount(
        &self,
        mount: &Mount,
        built: &Built,
        done: &BTreeMap<usize, Built>,
        mounts: &mut Mounts,
    ) -> Result<()> {
        let place = |target: &str| working_directory(built.configuration.working_directory(), target);
        let target = mount.target.as_deref().map(place);
        if let (Some("/"), Some(typed)) = (target.as_deref(), &mount.target) {
            return Err(Error::new(format!("cannot mount on `{}`", typed.escape_debug()))
                .because("that is the root of the stage, where the command's own files are")
                .hint("name a directory below it: `target=/src`"));
        }
        let needed = || target.clone().ok_or_else(|| Error::new("a mount has no target"));
        mounts.says.push_str(&format!("{mount:?}\0"));
        match &mount.kind {
            MountKind::Bind { from, source } => {
                let (path, says) = self.files_apart(from, source, done)?;
                mounts.says.push_str(&says);
                let target = needed()?;
                match mount.read_only {
                    true => mounts.bind(&path, &target, true),
                    false => self.throw_away(&path, &target, mounts)?,
                }
            }
            MountKind::Cache { id, from, source, sharing, owner } => {
                let (id, begins_with) = match from {
                    None => (id.clone(), None),
                    Some(from) => {
                        let (path, says) = self.files_apart(from, source, done)?;
                        mounts.says.push_str(&says);
                        // As BuildKit has it: with another beginning it is another cache.
                        (format!("{id}\0{says}"), Some(path))
                    }
                };
                let id = match owner {
                    Owner { mode: None, uid: None, gid: None } => id,
                    // Nor would another owner get at its files.
                    Owner { mode, uid, gid } => {
                        let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
                        format!("{id}\0{:o} {uid}:{gid}", mode.unwrap_or(MODE_OF_CACHES))
                    }
                };
                let new = NewCache { owner: *owner, begins_with };
                let path = self.cache_directory(&id, *sharing, &new, mounts)?;
                mounts.bind(&path, &needed()?, mount.read_only);
            }
            MountKind::Tmpfs { size } => {
                let mut fields = vec!["type=tmpfs".to_owned(), format!("target={}", needed()?)];
                fields.extend(size.map(|size| format!("tmpfs-size={size}")));
                mounts.option(&fields);
            }
            MountKind::Secret { id, variable, required, owner } => {
                let Some(secret) = self.surroundings.secrets.get(id) else {
                    return match required {
                        true => Err(Error::new(format!("cannot give the secret `{id}`"))
                            .because("the build was given none")
                            .hint(format!("add `--secret id={id},src=FILE`"))),
                        false => Ok(()),
                    };
                };
                let data = secret.read(id)?;
                if let Some(variable) = variable {
                    let text = String::from_utf8(data.clone()).map_err(|_| {
                        Error::new(format!("cannot give the secret `{id}`")).because("it is no text")
                    })?;
                    mounts.variables.push(format!("{variable}={text}"));
                }
                if variable.is_none() || target.is_some() {
                    let target = target.unwrap_or_else(|| format!("{SECRETS}/{id}"));
                    let path = mounts.file(self, &data, owner.mode.unwrap_or(MODE_OF_SECRETS), *owner)?;
                    mounts.bind(&path, &target, true);
                }
            }
            MountKind::Ssh { id, required, owner } => {
                let Some(agent) = self.surroundings.agents.get(id) else {
                    return match required {
                        true => Err(Error::new(format!("cannot give the SSH agent `{id}`"))
                            .because("the build was given none")
                            .hint(format!("add `--ssh {id}`, `--ssh {id}=SOCKET` or `--ssh {id}=KEY`"))),
                        false => Ok(()),
                    };
                };
                let target = target.unwrap_or_else(|| format!("{AGENTS}.{}", mounts.relays.len()));
                let path = mounts.agent(self, agent, *owner)?;
                mounts.bind(&path, &target, false);
                mounts.variables.push(format!("SSH_AUTH_SOCK={target}"));
            }
        }
        Ok(())
    }

    /// The files of a bind mount, and what a cache goes by.
    fn files_apart(
        &self,
        from: &From,
        source: &str,
        done: &BTreeMap<usize, Built>,
    ) -> Result<(PathBuf, String)> {
        let source = if source.is_empty() { "." } else { source };
        let nothing =
            matches!(from, From::Scratch) || *from == From::Context && self.context.directory.is_none();
        let made = if nothing { None } else { self.apart(from, source, done)? };
        match made {
            Some((made, key)) => {
                let path = self.layers.path(&made.diff_id).join(APART.trim_start_matches('/'));
                // Below it nothing is followed on the host.
                let found = path.symlink_metadata().step(|| format!("cannot mount `{source}`"))?;
                if found.is_symlink() {
                    return Err(Error::new(format!("cannot mount `{source}`"))
                        .because("the build cache has a symlink in its place, which no build of sbx makes")
                        .hint("empty the build cache: `sbx builder prune`"));
                }
                Ok((path, key.unwrap_or(made.diff_id).to_string()))
            }
            None => {
                let path = self.surroundings.store.root().join("build/empty");
                fs::create_dir_all(&path).step(|| format!("cannot make `{}`", path.display()))?;
                Ok((path, String::new()))
            }
        }
    }

    /// A bind mount whose changes nobody keeps.
    fn throw_away(&self, path: &Path, target: &str, mounts: &mut Mounts) -> Result<()> {
        if !path.is_dir() {
            // It is alone in its layer.
            let layer = path.parent().unwrap_or(path);
            let name = format!("copy-{}", mounts.options.len());
            let copy = mounts.scratch(self)?.join(name);
            fs::create_dir(&copy)
                .map_err(|error| no_room(error, format!("cannot make `{}`", copy.display())))?;
            self.fill(layer, &copy)?;
            mounts.bind(&copy.join(path.file_name().unwrap_or_default()), target, false);
            return Ok(());
        }
        let source = path.display().to_string();
        if source.contains(':') || target.contains(':') {
            return Err(Error::new(format!("cannot mount `{target}`"))
                .because("a path with a colon cannot be mounted with `rw`"));
        }
        mounts.options.extend(["--volume".to_owned(), format!("{source}:{target}:O")]);
        Ok(())
    }

    /// Copies what a cache begins with, or what may be written.
    fn fill(&self, from: &Path, into: &Path) -> Result<()> {
        let failed = || format!("cannot copy `{}` for a mount", from.display());
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        self.inside(|_| {
            let (from, into) = (open(from).step(failed)?, open(into).step(failed)?);
            copy::tree(&from, &into).map_err(|failure| Error::new(failed()).because(failure))
        })
    }

    /// The directory of a cache, which outlives builds.
    fn cache_directory(
        &self,
        id: &str,
        sharing: Sharing,
        NewCache { owner, begins_with }: &NewCache,
        mounts: &mut Mounts,
    ) -> Result<PathBuf> {
        let base = self.surroundings.store.root().join("build/caches").join(name_of(id));
        let mut number = 0;
        loop {
            let path = match number {
                0 => base.clone(),
                number => base.with_extension(number.to_string()),
            };
            if let Some(lock) = caches::claim(&path, sharing)? {
                mounts.locks.push(lock);
                let failed = || format!("cannot make the cache `{}`", path.display());
                // Others may share the cache, and make it now, too.
                let making = File::create(path.join("making")).step(failed)?;
                making.lock().step(failed)?;
                let (data, new) = (path.join("data"), path.join("new"));
                if !data.is_dir() {
                    // What a killed build was making.
                    if new.exists() {
                        remove::tree(&new, &self.place.identity, None)?;
                    }
                    fs::create_dir(&new).map_err(|error| no_room(error, failed()))?;
                    let mode = fs::Permissions::from_mode(owner.mode.unwrap_or(MODE_OF_CACHES));
                    fs::set_permissions(&new, mode).step(failed)?;
                    give(self, &new, *owner)?;
                    if let Some(from) = begins_with {
                        self.fill(from, &new)?;
                    }
                    fs::rename(&new, &data).step(failed)?;
                }
                return Ok(data);
            }
            number += 1;
        }
    }
}
