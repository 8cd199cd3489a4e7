//! Removing images: which of them go, with which names, and what that frees.

use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::image::digest::Digest;
use crate::image::filter::Filters;
use crate::image::reference::Reference;
use crate::image::store::{Change, Collected, Entry, Extent, ImageStore, Meant};
use crate::image::usage::Usage;

/// podman's exit code where something is in use.
const IN_USE: u8 = 2;

/// What was done, as docker tells it.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    Untagged { name: String, id: Digest },
    Deleted(Digest),
}

/// What `-f` and `--all` allow.
#[derive(Debug, Clone, Copy)]
pub struct Allow {
    /// An ID takes all names of its image along.
    pub several_names: bool,
    /// Containers that ended may stand on it.
    pub ended_containers: bool,
}

/// Takes away what the word names: one of several names, or the image with all that names it. None: there is no
/// such image. Nothing is done before the change is committed.
///
/// # Errors
/// A container stands on the image (exit code 2): one that runs, or any, as `allow` says; an ID of an image with
/// several names.
pub fn remove(change: &mut Change, word: &str, usage: &Usage, allow: Allow) -> Result<Option<Vec<Done>>> {
    let Some(meant) = change.meant(word)? else { return Ok(None) };
    let entries = change.entries_of(word)?;
    let Some(id) = entries.first().map(|entry| &entry.id) else { return Ok(None) };
    let names: Vec<Reference> = entries.iter().filter_map(|entry| entry.reference.clone()).collect();
    match &meant {
        Meant::Name(_, name) if names.len() > 1 => {
            change.untag(name);
            return Ok(Some(vec![untagged(name, id)]));
        }
        Meant::Digest(manifest, name) if names.iter().any(|other| other.digest.is_none()) => {
            change.untag(name);
            if let Some(digest) = &name.digest {
                change.remove_repo_digest(&manifest.digest, &format!("{}@{digest}", name.repository()));
            }
            return Ok(Some(vec![untagged(name, id)]));
        }
        Meant::Id(_) if names.len() > 1 && !allow.several_names => {
            let shown: Vec<String> = names.iter().map(Reference::familiar).collect();
            return Err(Error::new(format!("cannot remove the image `{word}`"))
                .because(format!("it has several names: {}", shown.join(", ")))
                .hint("name the one to take away, or remove all with `-f`"));
        }
        _ => {}
    }
    refuse_in_use(word, id, usage, allow.ended_containers)?;
    Ok(Some(delete(change, &entries)))
}

fn refuse_in_use(word: &str, id: &Digest, usage: &Usage, ended_too: bool) -> Result<()> {
    let users = usage.of(id);
    let refused = |cause: String, hint: String| {
        Err(Error::new(format!("cannot remove the image `{word}`"))
            .because(cause)
            .hint(hint)
            .exit_code(IN_USE))
    };
    if let Some(user) = users.iter().find(|user| user.running) {
        return refused(
            format!("container {} runs on it", user.shown()),
            format!("remove the container first: `sbx rm -f {}`", user.name),
        );
    }
    match users.first() {
        Some(user) if !ended_too => refused(
            format!("container {} was made from it", user.shown()),
            format!("remove the container first: `sbx rm {}`; with `-f` it keeps its layers", user.name),
        ),
        _ => Ok(()),
    }
}

/// Records what was done for `sbx events`, once it is committed.
pub fn record(store: &ImageStore, done: &[Done]) {
    for line in done {
        let event = match line {
            Done::Untagged { name, id } => {
                let whole = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.to_string());
                Event::image(Action::Untag, id, whole)
            }
            Done::Deleted(id) => Event::image(Action::Remove, id, ""),
        };
        events::record_here(store.root(), event);
    }
}

/// Removes the image of the entries, which are all of its.
fn delete(change: &mut Change, entries: &[Entry]) -> Vec<Done> {
    let Some(Entry { id, .. }) = entries.first() else { return Vec::new() };
    let names = entries.iter().filter_map(|entry| entry.reference.as_ref());
    let mut done: Vec<Done> = names.map(|name| untagged(name, id)).collect();
    let mut digests: Vec<&String> = entries.iter().flat_map(|entry| &entry.repo_digests).collect();
    digests.sort();
    digests.dedup();
    let digests = digests.into_iter().filter_map(|text| Reference::parse(text).ok());
    done.extend(
        digests.map(|name| untagged(&name, id)).filter(|line| !done.contains(line)).collect::<Vec<_>>(),
    );
    change.remove(id);
    done.push(Done::Deleted(id.clone()));
    done
}

fn untagged(name: &Reference, id: &Digest) -> Done {
    Done::Untagged { name: name.familiar(), id: id.clone() }
}

/// Every image's ID, to remove all.
///
/// # Errors
/// The index is damaged.
pub fn all(store: &ImageStore) -> Result<Vec<String>> {
    let mut ids: Vec<String> = store.list()?.into_iter().map(|entry| entry.id.to_string()).collect();
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    Ok(ids)
}

/// Removes images that no container was made from and that the filters let through: those without a name, or
/// with `all_unused` every one; then everything that nothing names.
///
/// # Errors
/// The index is damaged, or something cannot be removed.
pub fn prune(
    store: &ImageStore,
    containers: &Store,
    filters: &Filters,
    all_unused: bool,
) -> Result<(Vec<Done>, Collected)> {
    let mut done = Vec::new();
    if store.index_path().exists() {
        let mut change = store.change()?;
        let usage = Usage::read(containers);
        let entries = change.entries();
        let chosen = filters.apply(store, entries.clone(), &usage)?;
        let mut ids: Vec<&Digest> = chosen.iter().map(|entry| &entry.id).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let own: Vec<Entry> = entries.iter().filter(|entry| entry.id == *id).cloned().collect();
            let nameless = own.iter().all(Entry::is_dangling);
            if (all_unused || nameless) && usage.of(id).is_empty() {
                done.extend(delete(&mut change, &own));
            }
        }
        change.commit()?;
        record(store, &done);
    }
    let collected = store.collect(Extent::Everything)?;
    done.extend(collected.layers.iter().cloned().map(Done::Deleted));
    Ok((done, collected))
}
