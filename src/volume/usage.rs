//! Which containers have a volume: those whose specs name it, whether they run or not.

use std::collections::BTreeMap;
use std::io;

use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub name: String,
}

/// The containers of each volume.
#[derive(Debug, Default)]
pub struct Usage(BTreeMap<String, Vec<User>>);

impl Usage {
    /// Reads all specs.
    ///
    /// # Errors
    /// One of them cannot be read: it may name any volume.
    pub fn read(containers: &Store) -> Result<Self> {
        let mut usage = Self::default();
        for id in containers.all_ids()? {
            match containers.read_spec(&id) {
                Ok(spec) => usage.add(&spec),
                // It is being removed: who makes one holds its volumes until the spec is there.
                Err(_) if has_no_spec(containers, &id) => {}
                Err(error) => {
                    return Err(
                        error.while_doing(format!("cannot tell which volumes container {} has", short(&id)))
                    );
                }
            }
        }
        Ok(usage)
    }

    /// The same for a listing: what cannot be read has no volumes.
    pub fn glance(containers: &Store) -> Self {
        let mut usage = Self::default();
        for spec in containers.ids().iter().filter_map(|id| containers.read_spec(id).ok()) {
            usage.add(&spec);
        }
        usage
    }

    fn add(&mut self, spec: &Spec) {
        for name in spec.volume_names() {
            let user = User { id: spec.id.clone(), name: spec.name.clone() };
            self.0.entry(name.to_owned()).or_default().push(user);
        }
    }

    pub fn of(&self, volume: &str) -> &[User] {
        self.0.get(volume).map_or(&[], Vec::as_slice)
    }

    /// Those of a volume but for one.
    pub fn others<'u>(&'u self, volume: &str, except: Option<&str>) -> Vec<&'u User> {
        self.of(volume).iter().filter(|user| Some(user.id.as_str()) != except).collect()
    }
}

/// Whether the container is being made or removed.
pub(crate) fn has_no_spec(containers: &Store, id: &str) -> bool {
    let spec = containers.directory(id).spec();
    spec.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// docker's words for a volume that has users.
pub fn in_use(volume: &str, users: &[&User]) -> Error {
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    Error::new(format!("cannot remove the volume `{volume}`"))
        .because(format!("volume is in use - [{}]", ids.join(", ")))
        .hint(format!("remove the containers first: `sbx rm {}`", names.join(" ")))
}
