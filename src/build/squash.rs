//! `--squash`: what several steps have changed becomes one layer. Found by looking at the stacked layers with and
//! without the new ones: a name that is the same file in both was changed by none of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::EntryType;

use crate::build::builder::{Builder, Built};
use crate::build::tree::{Node, Tree};
use crate::error::{Error, Result};
use crate::layers::owners::Owners;
use crate::layers::pack::header::Description;
use crate::layers::pack::{Assembly, Found, Times};
use crate::layers::stack::Merged;
use crate::layers::unpack::tree::DEEPEST;

/// Which layers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    #[default]
    No,
    /// Those above the base image.
    New,
    All,
}

/// # Errors
/// A layer cannot be read, or the new one not be written.
pub fn squash(builder: &Builder<'_>, mut built: Built, squash: Squash) -> Result<Built> {
    let kept = match squash {
        Squash::No => return Ok(built),
        Squash::New => built.base_layers,
        Squash::All => 0,
    };
    if built.layers.len() <= kept + 1 {
        return Ok(built);
    }
    let key = builder.key("SQUASH", &built, &[&kept.to_string()]);
    let made = match builder.cached(&key)? {
        Some(record) => record.layer,
        None => {
            let made = builder.as_root(|session| {
                let (base, full) = (builder.tree(&built.layers[..kept])?, builder.tree(&built.layers)?);
                Builder::layer(session, |archive| pack(&base, &full, builder.times, archive))
            })?;
            builder.keep(&key, made.as_ref());
            made
        }
    };
    built.layers.truncate(kept);
    built.layers.extend(made);
    // The last of the entries stands for the layer of all.
    let first = if kept == 0 { 0 } else { built.inherited };
    let history = &mut built.configuration.image.history;
    history.iter_mut().skip(first).for_each(|entry| entry.empty_layer = true);
    if let Some(last) = history.last_mut() {
        last.empty_layer = false;
    }
    Ok(built)
}

fn pack(base: &Tree, full: &Tree, times: Times, archive: &mut dyn Write) -> Result<()> {
    let (nothing, no_owners) = (Default::default(), Owners::default());
    let assembly = Assembly::new(archive, (&nothing, &no_owners), times);
    let mut packing = Packing { base, full, assembly, above: Vec::new(), links: HashMap::new() };
    let top = |tree: &Tree| tree.directory(Path::new(""));
    if let Some(root) = top(full) {
        packing.directory(top(base).as_ref(), &root, Path::new(""))?;
    }
    packing.assembly.end().map(|_| ())
}

struct Packing<'p> {
    base: &'p Tree,
    full: &'p Tree,
    assembly: Assembly<'p>,
    /// Directories that are as they were, until something is written below them.
    above: Vec<Description>,
    /// Files with several names: the first of them in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Packing<'_> {
    /// What was changed in a directory; none: the base has no such directory.
    fn directory(&mut self, old: Option<&Merged>, new: &Merged, path: &Path) -> Result<()> {
        if path.components().count() >= DEEPEST {
            return Err(Error::new(format!("cannot squash `{}`", path.display()))
                .because(format!("it lies more than {DEEPEST} directories deep")));
        }
        let names = self.full.names(new, path)?;
        if let Some(old) = old {
            for name in self.base.names(old, path)?.difference(&names) {
                self.write_above()?;
                self.assembly.removed(path.join(name).as_os_str().as_bytes())?;
            }
        }
        for name in &names {
            let at = path.join(name);
            let Some(node) = self.full.node(new, name) else { continue };
            let before = old.and_then(|old| self.base.node(old, name));
            let is_same = before.as_ref().is_some_and(|before| inode(before) == inode(&node));
            let Some(inner) = &node.directory else {
                if !is_same {
                    self.write_above()?;
                    self.one(&node, name, &at)?;
                }
                continue;
            };
            let described = found(self.full, &node, name, &at).describe(at.as_os_str().as_bytes())?;
            let depth = self.above.len();
            self.above.push(described);
            if !is_same {
                self.write_above()?;
            }
            self.directory(before.and_then(|before| before.directory).as_ref(), inner, &at)?;
            self.above.truncate(depth);
        }
        Ok(())
    }

    fn write_above(&mut self) -> Result<()> {
        std::mem::take(&mut self.above).iter().try_for_each(|directory| self.assembly.empty(directory))
    }

    fn one(&mut self, node: &Node<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let found = found(self.full, node, name, path);
        let entry = found.describe(path.as_os_str().as_bytes())?;
        if node.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&inode(node)) {
                let link =
                    Description { kind: EntryType::Link, link: first.clone(), records: Vec::new(), ..entry };
                return self.assembly.empty(&link);
            }
            self.links.insert(inode(node), path.as_os_str().as_bytes().to_vec());
        }
        match entry.kind {
            EntryType::Regular => self.assembly.file(&entry, found),
            _ => self.assembly.empty(&entry),
        }
    }
}

fn found<'f>(tree: &'f Tree, node: &'f Node<'_>, name: &'f OsStr, path: &Path) -> Found<'f> {
    Found { parent: node.holder.as_fd(), name: name.as_bytes(), stat: &node.stat, line: tree.line(path) }
}

fn inode(node: &Node<'_>) -> (u64, u64) {
    (node.stat.st_dev, node.stat.st_ino)
}
