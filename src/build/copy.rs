//! COPY, ADD and WORKDIR: files become a layer, packed as they are read.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::build::builder::{Builder, Built, Outcome};
use crate::build::configuration::Configuration;
use crate::build::context::Context;
use crate::build::dockerfile::ignore::Ignore;
use crate::build::dockerfile::matching::Destination;
use crate::build::dockerfile::step::{self, Copy, From};
use crate::build::fetch::named::Available;
use crate::build::place::{Attributes, Plan};
use crate::build::select::{self, Rules, Taken};
use crate::build::tree::Tree;
use crate::container::user;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::ImageConfig;
use crate::image::transfer::made::Made;

/// The longest passwd or group file that is read.
const LARGEST_ACCOUNTS: u64 = 16 << 20;

/// Where files come from, before any is looked at.
enum Origin<'o> {
    /// A directory of the host, with its ignore file.
    Directory(&'o std::path::Path, Option<&'o Ignore>, String),
    Layers(&'o [Made], String),
    Nothing,
}

impl Builder<'_> {
    /// # Errors
    /// A source is missing, the destination does not fit, or a file cannot be read.
    pub fn copy(&self, copy: &Copy, built: &Built, done: &BTreeMap<usize, Built>) -> Result<Outcome> {
        let origin = self.origin(&copy.from, done)?;
        let inline: Vec<(String, Vec<u8>)> =
            copy.files.iter().map(|file| (file.name.clone(), file.content.clone().into_bytes())).collect();
        let work = Work {
            sources: &copy.sources,
            inline,
            destination: Destination::read(&copy.destination, built.configuration.working_directory()),
            attributes: &copy.attributes,
            parents: copy.parents,
            says: format!("{copy:?}"),
            like_source: false,
            is_mounted: false,
        };
        self.place_files(&work, &origin, built)
    }

    /// Makes the working directory where it is missing, as the stage's user.
    ///
    /// # Errors
    /// Something else stands there.
    pub fn working_directory(&self, built: &Built) -> Result<Option<Outcome>> {
        let path = built.configuration.working_directory().to_owned();
        if path == "/" {
            return Ok(None);
        }
        let owner = built.configuration.image.config.user.clone();
        let key = self.key("WORKDIR", built, &[&path, &owner]);
        if let Some(record) = self.cached(&key)? {
            return Ok(Some(Outcome::cached(record)).filter(|outcome| outcome.layer.is_some()));
        }
        let made = self.as_root(|session| {
            let image = self.tree(&built.layers)?;
            let owner = Some(owner).filter(|owner| !owner.is_empty());
            let owner = owner.map(|owner| owner_of(&owner, &image)).transpose()?;
            let attributes = Attributes { owner, now: self.now(), ..Attributes::default() };
            let mut plan = Plan::new(&image, attributes);
            plan.directory(&path)?;
            match plan.is_empty() {
                true => Ok(None),
                false => Self::layer(session, |archive| plan.pack(None, self.times, archive)),
            }
        })?;
        self.keep(&key, made.as_ref());
        Ok(made.map(|made| Outcome::made(Some(made))))
    }

    fn origin<'o>(&'o self, from: &'o From, done: &'o BTreeMap<usize, Built>) -> Result<Origin<'o>> {
        Ok(match from {
            From::Context => Self::of_files(self.context, "the context".to_owned()),
            From::Stage(index) => {
                let stage =
                    done.get(index).ok_or_else(|| Error::new("a stage is used before it is built"))?;
                Origin::Layers(&stage.layers, format!("stage {index}"))
            }
            From::Named(name) => match self.contexts.get(name) {
                Some(Available::Files(context)) => Self::of_files(context, format!("the context `{name}`")),
                Some(Available::Image(image)) => {
                    Origin::Layers(&self.base(image)?.layers, format!("the image `{image}`"))
                }
                None => Origin::Layers(&self.base(name)?.layers, format!("the image `{name}`")),
            },
            From::Scratch => Origin::Nothing,
        })
    }

    fn of_files(context: &Context, place: String) -> Origin<'_> {
        match &context.directory {
            Some(directory) => Origin::Directory(directory, Some(&context.ignore), place),
            None => Origin::Nothing,
        }
    }

    /// All files of a context of `--build-context` as a layer.
    ///
    /// # Errors
    /// As of COPY.
    pub fn whole_context(&self, name: &str) -> Result<Option<Made>> {
        self.alone(&From::Named(name.to_owned()), ".", "/", &BTreeMap::new())
    }

    /// Files of a directory or of layers as a layer of their own, in a directory of it: what `RUN --mount` mounts.
    /// With the key of that, where there is one.
    ///
    /// # Errors
    /// As of COPY.
    pub fn apart(
        &self,
        from: &From,
        source: &str,
        done: &BTreeMap<usize, Built>,
    ) -> Result<Option<(Made, Option<Digest>)>> {
        let used = || self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let before = used().len();
        let made = self.alone(from, source, APART, done)?;
        // What is mounted is no step, but the command's own cache goes by the files alone, as they are anywhere.
        let key = used().drain(before..).next().map(|(key, _)| key);
        Ok(made.map(|made| (made, key)))
    }

    fn alone(
        &self,
        from: &From,
        source: &str,
        destination: &str,
        done: &BTreeMap<usize, Built>,
    ) -> Result<Option<Made>> {
        let origin = self.origin(from, done)?;
        let attributes = step::Attributes::default();
        let work = Work {
            sources: &[source.to_owned()],
            inline: Vec::new(),
            destination: Destination::read(destination, "/"),
            attributes: &attributes,
            parents: false,
            says: format!("mount {source}"),
            like_source: true,
            is_mounted: destination == APART,
        };
        Ok(self.place_files(&work, &origin, &nothing())?.layer)
    }

    fn place_files(&self, work: &Work<'_>, origin: &Origin<'_>, built: &Built) -> Result<Outcome> {
        let exclude = Ignore::of_patterns(work.attributes.exclude.iter().map(String::as_str))?;
        let rules = |ignore, place| Rules { ignore, exclude: &exclude, parents: work.parents, place };
        // What is taken from the host goes by its content, and from layers by their digests.
        let (content, before) = match origin {
            Origin::Directory(directory, ignore, place) => {
                let tree = Tree::of_directory(directory)?;
                let taken = select::select(&tree, work.sources, &rules(*ignore, place))?;
                let before = select::fingerprint(&taken);
                (select::digest(&tree, &taken)?.as_str().to_owned(), Some(before))
            }
            Origin::Layers(layers, _) => {
                let names: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
                (names.join(" "), None)
            }
            Origin::Nothing => {
                if let Some(source) = work.sources.first() {
                    return Err(Error::new(format!("cannot copy `{}`", source.escape_debug()))
                        .because("there is no context")
                        .hint("give the build a directory: `sbx build DIRECTORY`"));
                }
                (String::new(), None)
            }
        };
        let nothing = nothing();
        let below = if work.attributes.link { &nothing } else { built };
        let key = self.key("COPY", below, &[&work.says, &work.destination.path, &content]);
        let cached = if work.is_mounted { self.cached_here(&key) } else { self.cached(&key) };
        if let Some(record) = cached? {
            return Ok(Outcome::cached(record));
        }
        let made = self.as_root(|session| {
            // With `--link` nothing of what is there is looked at.
            let image = self.tree(if work.attributes.link { &[] } else { &built.layers })?;
            let owner = work.attributes.chown.as_deref().map(|owner| owner_of(owner, &image)).transpose();
            let owner = owner.map_err(|error| match work.attributes.link {
                true => {
                    error.hint("with `--link` users and groups are numbers: no file of the image is read")
                }
                false => error,
            })?;
            let attributes = Attributes {
                owner,
                mode: work.attributes.chmod.clone(),
                now: self.now(),
                like_source: work.like_source,
            };
            let mut plan = Plan::new(&image, attributes);
            let (tree, taken): (Option<Tree>, Vec<Taken>) = match origin {
                Origin::Directory(directory, ignore, place) => {
                    let tree = Tree::of_directory(directory)?;
                    let taken = select::select(&tree, work.sources, &rules(*ignore, place))?;
                    (Some(tree), taken)
                }
                Origin::Layers(layers, place) => {
                    let tree = self.tree(layers)?;
                    let taken = select::select(&tree, work.sources, &rules(None, place))?;
                    (Some(tree), taken)
                }
                Origin::Nothing => (None, Vec::new()),
            };
            plan.copy(&taken, &work.inline, &work.destination)?;
            match plan.is_empty() {
                true => Ok(None),
                false => Self::layer(session, |archive| plan.pack(tree.as_ref(), self.times, archive)),
            }
        })?;
        if let (Some(before), Origin::Directory(directory, ignore, place)) = (before, origin) {
            let tree = Tree::of_directory(directory)?;
            let after = select::select(&tree, work.sources, &rules(*ignore, place))?;
            if select::fingerprint(&after) != before {
                self.report.warn(&format!(
                    "{place} was changed while it was copied: the next build copies it again"
                ));
                return Ok(Outcome::made(made));
            }
        }
        self.keep(&key, made.as_ref());
        Ok(Outcome::made(made))
    }
}

/// Where the files of [`Builder::apart`] are in their layer.
pub const APART: &str = "/mounted";

/// An image without any files.
pub fn nothing() -> Built {
    Built {
        configuration: Configuration::on(ImageConfig::default()),
        layers: Vec::new(),
        inherited: 0,
        base_layers: 0,
        records: Vec::new(),
    }
}

/// One COPY or ADD.
struct Work<'w> {
    sources: &'w [String],
    inline: Vec<(String, Vec<u8>)>,
    destination: Destination,
    attributes: &'w step::Attributes,
    parents: bool,
    /// The whole of it, for the key.
    says: String,
    /// As of [`Attributes`].
    like_source: bool,
    /// Its layer is opened by a path of the host, so no other makes it; and none has it in a cache, for it is no step.
    is_mounted: bool,
}

/// The numbers of `--chown`, by the image's files.
pub fn owner_of(text: &str, image: &Tree) -> Result<(u32, u32)> {
    let read = |path| image.read(path, LARGEST_ACCOUNTS + 1).unwrap_or_default();
    let (passwd, group) = (read("etc/passwd"), read("etc/group"));
    // A number without a group is both (Dockerfile reference, COPY --chown).
    let doubled;
    let text = match text.split_once(':') {
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            doubled = format!("{text}:{text}");
            &doubled
        }
        _ => text,
    };
    // So BuildKit has it, whatever image it is.
    let root;
    let text = match (!names_root(&passwd), !names_root(&group)) {
        (false, false) => text,
        (no_user, no_group) => {
            let (user, group) = text.split_once(':').unwrap_or((text, ""));
            let user = if no_user && user == "root" { "0" } else { user };
            let group = match group {
                "root" if no_group => "0",
                "" if user == "0" && no_user => "0",
                group => group,
            };
            root = format!("{user}:{group}");
            &root
        }
    };
    let resolved = user::resolve(Some(text), &[], &passwd, &group, None)
        .map_err(|error| error.while_doing(format!("cannot give files to `{text}`")))?;
    Ok((resolved.uid, resolved.gid))
}

/// Whether a passwd or group file knows `root`.
fn names_root(file: &[u8]) -> bool {
    file.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"root:"))
}

/// The digest of a text, as part of a name.
pub fn name_of(text: &str) -> String {
    Digest::of(text.as_bytes()).hex().to_owned()
}
