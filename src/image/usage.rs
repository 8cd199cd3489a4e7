//! Which containers stand on an image.

use std::collections::BTreeMap;

use crate::container::list;
use crate::container::spec::{Root, Spec};
use crate::container::store::{Store, short};
use crate::image::digest::Digest;

/// A container that was made from an image.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub name: String,
    /// It runs, or is about to.
    pub running: bool,
}

impl User {
    /// `3f2a… (web)`
    pub fn shown(&self) -> String {
        format!("{} ({})", short(&self.id), self.name)
    }
}

/// The containers of each image, by its ID.
#[derive(Debug, Default)]
pub struct Usage(BTreeMap<Digest, Vec<User>>);

impl Usage {
    pub fn read(containers: &Store) -> Self {
        let mut users: BTreeMap<Digest, Vec<User>> = BTreeMap::new();
        for found in list::all(containers) {
            let Some(spec) = found.spec else { continue };
            let Some(image) = image_of(&spec) else { continue };
            let running = found.status.is_up();
            users.entry(image).or_default().push(User { id: found.id, name: spec.name, running });
        }
        Self(users)
    }

    pub fn of(&self, image: &Digest) -> &[User] {
        self.0.get(image).map_or(&[], Vec::as_slice)
    }
}

/// The ID of the image that a container was made from.
pub fn image_of(spec: &Spec) -> Option<Digest> {
    match &spec.root {
        Root::Layers { image, .. } => Some(image.clone()),
        _ => None,
    }
}

/// The diff IDs of a container's layers.
pub fn layers_of(spec: &Spec) -> &[Digest] {
    match &spec.root {
        Root::Layers { layers, .. } => layers,
        _ => &[],
    }
}
