//! ADD: what COPY does, archives that are unpacked, and sources on the network.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::build::builder::{Builder, Built, Outcome};
use crate::build::copy::{nothing, owner_of};
use crate::build::dockerfile::ignore::Ignore;
use crate::build::dockerfile::matching::Destination;
use crate::build::dockerfile::step::{Add, AddSource, GitSource};
use crate::build::fetch::archive;
use crate::build::fetch::download::Downloads;
use crate::build::fetch::git::{self, Origin, Repository, Version};
use crate::build::fetch::scratch::Scratch;
use crate::build::merge::merge;
use crate::build::place::{Attributes, Plan};
use crate::build::select::{self, Rules, Taken};
use crate::build::tree::{Lookup, Tree};
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::layers::owners::Owners;
use crate::layers::pack::{Assembly, Times};
use crate::layers::unpack::Limits;

/// What ADD takes, found or fetched.
#[derive(Default)]
struct Sources {
    trees: Vec<Tree>,
    /// Taken as they are.
    taken: Vec<Taken>,
    /// To be unpacked.
    archives: Vec<Taken>,
    /// What the cache goes by: content, and not where it came from.
    says: String,
    /// Of the files of the context.
    before: Option<Digest>,
    /// Repositories are fetched where the cache does not know them.
    repositories: Vec<(GitSource, Version)>,
    /// Where they are.
    scratch: Option<Scratch>,
}

impl Builder<'_> {
    /// # Errors
    /// As of COPY; an archive is malformed, or a source on the network not to be had.
    pub fn add(&self, add: &Add, built: &Built) -> Result<Outcome> {
        let mut sources = self.sources_of(add)?;
        let inline: Vec<(String, Vec<u8>)> =
            add.files.iter().map(|file| (file.name.clone(), file.content.clone().into_bytes())).collect();
        let destination = Destination::read(&add.destination, built.configuration.working_directory());
        // With `--link` nothing of what is there is looked at.
        let nothing = nothing();
        let below = if add.attributes.link { &nothing } else { built };
        let key = self.key("ADD", below, &[&format!("{add:?}"), &destination.path, &sources.says]);
        if let Some(record) = self.cached(&key)? {
            return Ok(Outcome::cached(record));
        }
        self.fetch_repositories(&mut sources, add)?;
        let made = self.as_root(|session| {
            let image = self.tree(&below.layers)?;
            let owner = add.attributes.chown.as_deref().map(|owner| owner_of(owner, &image)).transpose();
            let owner = owner.map_err(|error| match add.attributes.link {
                true => {
                    error.hint("with `--link` users and groups are numbers: no file of the image is read")
                }
                false => error,
            })?;
            let mode = add.attributes.chmod.clone();
            let attributes = Attributes { owner, mode, now: self.now(), ..Attributes::default() };
            let mut plan = Plan::new(&image, attributes);
            let real = image.real(Path::new(&destination.path));
            let is_directory = destination.is_directory || image.kind(&real) == Some(FileType::Directory);
            if is_directory
                && sources.taken.iter().any(|taken| taken.name.is_empty() && !taken.is_directory())
            {
                return Err(Error::new("cannot give what was downloaded a name")
                    .because("its URL has none at its end")
                    .hint("write a file as destination, without a slash at the end"));
            }
            plan.copy(&sources.taken, &inline, &destination)?;
            let base = match sources.archives.is_empty() {
                true => PathBuf::new(),
                // An archive needs a directory, however the destination is written.
                false => plan.directory(&destination.path)?,
            };
            match plan.is_empty() && sources.archives.is_empty() {
                true => Ok(None),
                false => Self::layer(session, |target| sources.pack(&plan, &base, self.times, target)),
            }
        })?;
        if let Some(before) = sources.before
            && self.of_context(add)?.fingerprint() != Some(before)
        {
            log::warn!("the context was changed while it was copied: the next build copies it again");
            return Ok(Outcome::made(made));
        }
        self.keep(&key, made.as_ref());
        Ok(Outcome::made(made))
    }

    /// What there is without a repository's files; of those the commit.
    fn sources_of(&self, add: &Add) -> Result<Sources> {
        let mut sources = self.of_context(add)?;
        sources.before = sources.fingerprint();
        if let Some(tree) = sources.trees.first() {
            sources.says = select::digest(tree, &sources.taken)?.to_string();
        }
        if add.unpack != Some(false) {
            sources.set_archives_apart(0)?;
        }
        let checksum = add.checksum.as_deref();
        let downloads = Downloads::new(self.surroundings.store.root(), !self.use_cache);
        for source in &add.sources {
            match source {
                AddSource::Path(_) => {}
                AddSource::Url(url) => {
                    let download = downloads.get(url, checksum)?;
                    let name = download.name.clone().unwrap_or_default();
                    sources.says.push_str(&format!(" {} {name}", download.digest));
                    let first = sources.taken.len();
                    sources.take_file(&download.path, name)?;
                    if add.unpack == Some(true) {
                        sources.set_archives_apart(first)?;
                    }
                }
                AddSource::Git(source) => {
                    let scratch = self.scratch(&mut sources)?;
                    let repository = self.repository(source, scratch)?;
                    let version = repository.version()?;
                    repository.check(&version, checksum)?;
                    sources.says.push_str(&format!(" {version:?}"));
                    sources.repositories.push((source.clone(), version));
                }
            }
        }
        Ok(sources)
    }

    fn scratch<'s>(&self, sources: &'s mut Sources) -> Result<&'s Scratch> {
        if sources.scratch.is_none() {
            sources.scratch = Some(Scratch::new(self.surroundings.store.root())?);
        }
        sources.scratch.as_ref().ok_or_else(|| Error::new("there is no room"))
    }

    fn repository<'s>(&self, source: &'s GitSource, scratch: &'s Scratch) -> Result<Repository<'s>> {
        let secret = git::secret(&self.surroundings.secrets, source)?;
        Repository::new(source, scratch, Origin::Dockerfile, secret.as_deref())
    }

    fn fetch_repositories(&self, sources: &mut Sources, add: &Add) -> Result<()> {
        let exclude = Ignore::of_patterns(add.attributes.exclude.iter().map(String::as_str))?;
        for (number, (source, version)) in std::mem::take(&mut sources.repositories).iter().enumerate() {
            let scratch = self.scratch(sources)?;
            let repository = self.repository(source, scratch)?;
            let (directory, commit) = repository.check_out(version, &number.to_string(), add.keep_git_dir)?;
            repository.check(&version.at(&commit), add.checksum.as_deref())?;
            let tree = Tree::of_directory(&git::below(&directory, source)?)?;
            let rules = Rules { ignore: None, exclude: &exclude, parents: false, place: "the repository" };
            let mut taken = select::select(&tree, &[".".to_owned()], &rules)?;
            taken.iter_mut().for_each(|taken| taken.tree = sources.trees.len());
            sources.taken.append(&mut taken);
            sources.trees.push(tree);
        }
        Ok(())
    }

    /// What is named of the context.
    fn of_context(&self, add: &Add) -> Result<Sources> {
        let paths: Vec<String> = add.sources.iter().filter_map(local).collect();
        let Some(first) = paths.first() else { return Ok(Sources::default()) };
        let Some(directory) = &self.context.directory else {
            return Err(Error::new(format!("cannot copy `{}`", first.escape_debug()))
                .because("there is no context")
                .hint("give the build a directory: `sbx build DIRECTORY`"));
        };
        let exclude = Ignore::of_patterns(add.attributes.exclude.iter().map(String::as_str))?;
        let rules = Rules {
            ignore: Some(&self.context.ignore),
            exclude: &exclude,
            parents: false,
            place: "the context",
        };
        let tree = Tree::of_directory(directory)?;
        let taken = select::select(&tree, &paths, &rules)?;
        Ok(Sources { trees: vec![tree], taken, ..Sources::default() })
    }
}

fn local(source: &AddSource) -> Option<String> {
    match source {
        AddSource::Path(path) => Some(path.clone()),
        _ => None,
    }
}

impl Sources {
    fn fingerprint(&self) -> Option<Digest> {
        (!self.trees.is_empty()).then(|| select::fingerprint(&self.taken))
    }

    /// A file that is nobody's but this build's.
    fn take_file(&mut self, path: &Path, name: String) -> Result<()> {
        let failed = || format!("cannot read `{}`", path.display());
        let tree = Tree::of_directory(path.parent().unwrap_or(Path::new("/")))?;
        let stat = rustix::fs::lstat(path).step(failed)?;
        self.taken.push(Taken {
            tree: self.trees.len(),
            path: path.file_name().unwrap_or_default().into(),
            name: name.into_bytes(),
            kept: None,
            stat,
            below: Vec::new(),
        });
        self.trees.push(tree);
        Ok(())
    }

    /// Of what is taken from the `first` on, files that are archives are unpacked; those in directories are files.
    fn set_archives_apart(&mut self, first: usize) -> Result<()> {
        for taken in self.taken.split_off(first) {
            let is_file = FileType::from_raw_mode(taken.stat.st_mode) == FileType::RegularFile;
            let failed = || format!("cannot read `{}`", taken.path.display());
            match is_file && archive::is_one(&mut self.open(&taken)?).step(failed)? {
                true => self.archives.push(taken),
                false => self.taken.push(taken),
            }
        }
        Ok(())
    }

    fn open(&self, taken: &Taken) -> Result<File> {
        let tree = self.trees.get(taken.tree).ok_or_else(|| Error::new("a source is gone"))?;
        select::open(&mut Lookup::new(tree), &taken.path, taken.path.file_name().unwrap_or_default())
    }

    fn pack(&self, plan: &Plan<'_>, base: &Path, times: Times, target: &mut dyn Write) -> Result<()> {
        let empty = (BTreeSet::new(), Owners::default());
        let mut assembly = Assembly::new(target, (&empty.0, &empty.1), times);
        plan.write(&self.trees.iter().collect::<Vec<_>>(), &mut assembly)?;
        for taken in &self.archives {
            let failed =
                || format!("cannot unpack `{}`", String::from_utf8_lossy(&taken.name).escape_debug());
            let mut unpacked = archive::open(self.open(taken)?).step(failed)?;
            merge(plan, base, &mut unpacked, &Limits::default(), &mut assembly)
                .map_err(|error| error.while_doing(failed()))?;
        }
        assembly.end().map(drop)
    }
}
