//! Contexts that are no directories of this machine: archives, URLs, git repositories.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::build::context::{Context, DOCKERFILES, STDIN};
use crate::build::dockerfile::ast::Dockerfile;
use crate::build::dockerfile::ignore::{self, Ignore};
use crate::build::dockerfile::step::GitSource;
use crate::build::dockerfile::{git as address, limits, parse};
use crate::build::fetch::archive;
use crate::build::fetch::download::Downloads;
use crate::build::fetch::git::{self, Origin, Repository};
use crate::build::fetch::scratch::Scratch;
use crate::build::fetch::unpack::unpack;
use crate::build::mounts::Secret;
use crate::build::tree::Tree;
use crate::error::{Error, Result, Step};

/// What it takes to fetch one.
#[derive(Debug, Clone, Copy)]
pub struct Means<'m> {
    pub store: &'m Path,
    pub secrets: &'m BTreeMap<String, Secret>,
    /// BuildKit's `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
    pub keep_git_dir: bool,
    pub use_cache: bool,
}

/// What a word names that is no directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    Repository(GitSource),
    Url(String),
}

impl Remote {
    /// None: it is no address.
    ///
    /// # Errors
    /// It is one of a repository, and not understood.
    pub fn read(word: &str) -> Result<Option<Self>> {
        if let Some(source) = git::local(word) {
            return Ok(Some(Self::Repository(source)));
        }
        let source = address::read(word)
            .map_err(|why| Error::new(format!("cannot build from `{}`", word.escape_debug())).because(why))?;
        Ok(match source {
            Some(source) => Some(Self::Repository(source)),
            None if is_url(word) => Some(Self::Url(word.to_owned())),
            None => None,
        })
    }
}

pub fn is_url(word: &str) -> bool {
    let begins =
        |scheme: &str| word.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

/// What was fetched.
pub enum Fetched {
    Directory(PathBuf, Scratch),
    /// A file that is no archive: a Dockerfile.
    File(Vec<u8>),
}

/// # Errors
/// It is not to be had.
pub fn fetch(remote: &Remote, means: &Means<'_>) -> Result<Fetched> {
    let scratch = Scratch::new(means.store)?;
    match remote {
        Remote::Repository(source) => {
            let secret = git::secret(means.secrets, source)?;
            let repository = Repository::new(source, &scratch, Origin::Caller, secret.as_deref())?;
            let version = repository.version()?;
            let (directory, _) = repository.check_out(&version, "context", means.keep_git_dir)?;
            let directory = git::below(&directory, source)?;
            Ok(Fetched::Directory(directory, scratch))
        }
        Remote::Url(url) => {
            let download = Downloads::new(means.store, !means.use_cache).get(url, None)?;
            let failed = || format!("cannot read what was downloaded from `{}`", url.escape_debug());
            let mut file = File::open(&download.path).step(failed)?;
            if archive::is_one(&mut file).step(failed)? {
                let (directory, scratch) =
                    from_archive(file, scratch).map_err(|error| error.while_doing(failed()))?;
                return Ok(Fetched::Directory(directory, scratch));
            }
            let mut text = Vec::new();
            file.take(limits::FILE + 1).read_to_end(&mut text).step(failed)?;
            Ok(Fetched::File(text))
        }
    }
}

/// Unpacks an archive that is read to its end.
///
/// # Errors
/// It is malformed, or there is no room.
pub fn from_archive(packed: impl Read + Send, scratch: Scratch) -> Result<(PathBuf, Scratch)> {
    let directory = scratch.directory("context")?;
    unpack(packed, &directory)?;
    Ok((directory, scratch))
}

/// The context in a directory that was fetched, with its Dockerfile. No symlink in it leads out.
///
/// # Errors
/// It has none, or none that is understood.
pub fn open(
    (directory, scratch): (PathBuf, Scratch),
    file: Option<&str>,
    what: &str,
) -> Result<(Context, Dockerfile)> {
    let failed = || Error::new(format!("cannot build from {what}"));
    let tree = Tree::of_directory(&directory)?;
    let read = |name: &str| tree.read(name, limits::FILE + 1);
    let (name, dockerfile) = match file {
        Some(STDIN) => (None, parse::read(STDIN, std::io::stdin().lock())?),
        Some(name) => {
            let text = read(name).ok_or_else(|| {
                failed()
                    .because(format!("it has no file `{}`", name.escape_debug()))
                    .hint("`-f` names a file of the context, or is `-` for standard input")
            })?;
            (Some(name), parse::read(name, &text[..])?)
        }
        None => {
            let found = DOCKERFILES.iter().find_map(|name| read(name).map(|text| (*name, text)));
            let (name, text) = found.ok_or_else(|| {
                failed()
                    .because(format!("it has neither `{}` nor `{}`", DOCKERFILES[0], DOCKERFILES[1]))
                    .hint("`-f FILE` names another of its files")
            })?;
            (Some(name), parse::read(name, &text[..])?)
        }
    };
    let ignore = ignore_of(&tree, name)?;
    Ok((Context { directory: Some(directory), ignore, scratch: Some(scratch) }, dockerfile))
}

/// The patterns that leave files out: of the Dockerfile, or else of the context.
///
/// # Errors
/// One is malformed.
pub fn ignore_of(tree: &Tree, dockerfile: Option<&str>) -> Result<Ignore> {
    let own = dockerfile.map(ignore::beside);
    let usual = ignore::FILES.map(str::to_owned);
    for name in own.into_iter().flatten().chain(usual) {
        if let Some(text) = tree.read(&name, limits::IGNORE_FILE + 1) {
            return Ignore::read(&name, &String::from_utf8_lossy(&text));
        }
    }
    Ok(Ignore::default())
}
