//! Pods: names for groups of containers. They share nothing but the name; `<store>/pods/s.NAME` is one pod, and who is
//! in it stands in the specs of the containers.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::container::list::{self, Listed, Status};
use crate::container::name;
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};
use crate::records::Records;
use crate::sys::time::Utc;

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    pub name: String,
    pub created: Utc,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where the control groups of its containers are made, unless they name a place of their own.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
}

/// A container's pod, as its spec has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub id: String,
    pub name: String,
}

/// The pods of a store.
pub struct PodStore {
    records: Records,
}

impl PodStore {
    /// Those of the store below `store`; nothing is made before something is written.
    pub fn new(store: &Path) -> Self {
        Self { records: Records::in_directory(store.join("pods")) }
    }

    /// Makes a pod.
    ///
    /// # Errors
    /// The name can be no pod's, or is taken.
    pub fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        cgroup_parent: Option<String>,
    ) -> Result<Pod> {
        let failed = || format!("cannot make the pod `{}`", name.escape_debug());
        name::check(name).map_err(|error| error.while_doing(failed()))?;
        let id = name::random_id()?;
        let pod = Pod { id, name: name.to_owned(), created: Utc::now(), labels, cgroup_parent };
        let text = serde_json::to_vec(&pod).step(failed)?;
        self.records.write(name, &text, false).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(failed())
                .because("the name is in use")
                .hint(format!("remove that pod: `sbx pod rm {name}`")),
            _ => no_room(error, failed()),
        })?;
        Ok(pod)
    }

    fn named(&self, name: &str) -> Result<Option<Pod>> {
        self.records.value("the pod", name, |pod: &Pod| pod.name == name)
    }

    /// Every pod, the newest first. One whose record is damaged is told and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Pod>> {
        let read = |name: String| match self.named(&name) {
            Ok(found) => found,
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        let mut pods: Vec<Pod> = self.records.names()?.into_iter().filter_map(read).collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created));
        Ok(pods)
    }

    /// The one that a name, an ID or the beginning of an ID means.
    ///
    /// # Errors
    /// Several IDs begin so, or its record is damaged.
    pub fn find(&self, word: &str) -> Result<Option<Pod>> {
        if name::check(word).is_ok()
            && let Some(pod) = self.named(word)?
        {
            return Ok(Some(pod));
        }
        let mut found = self.list()?.into_iter().filter(|pod| !word.is_empty() && pod.id.starts_with(word));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Error::new(format!("the ID prefix `{word}` is ambiguous"))),
            (found, None) => Ok(found),
        }
    }

    /// Forgets a pod.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, pod: &Pod) -> Result<()> {
        let failed = || format!("cannot remove the pod `{}`", pod.name);
        self.records.remove(&pod.name).map_err(|error| no_room(error, failed()))
    }
}

/// There is none of that name.
pub fn missing(word: &str) -> Error {
    Error::new(format!("there is no pod `{}`", word.escape_debug()))
        .hint("`sbx pod ps` lists the pods; `sbx pod create --infra=false --share= NAME` makes one")
}

/// The containers of a pod, the newest first.
pub fn members(store: &Store, pod: &Pod) -> Vec<Listed> {
    let is_member = |found: &Listed| {
        found.spec.as_ref().and_then(|spec| spec.pod.as_ref()).is_some_and(|of| of.id == pod.id)
    };
    list::all(store).into_iter().filter(is_member).collect()
}

/// podman's word for what the containers of a pod do together.
pub fn state(members: &[Listed]) -> &'static str {
    let all = |fits: fn(Status) -> bool| members.iter().all(|member| fits(member.status));
    let any = |fits: fn(Status) -> bool| members.iter().any(|member| fits(member.status));
    match () {
        () if members.is_empty() => "Created",
        () if all(|status| matches!(status, Status::Paused { .. })) => "Paused",
        () if all(Status::is_up) => "Running",
        () if any(Status::is_up) => "Degraded",
        () if any(|status| matches!(status, Status::Exited { .. })) => "Exited",
        () if any(|status| status == Status::Dead) => "Error",
        () => "Created",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_by_its_name_and_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let pods = PodStore::new(folder.path());
        let made = pods.create("web", BTreeMap::new(), None).unwrap();
        for word in ["web", &made.id, &made.id[..6]] {
            assert_eq!(pods.find(word).unwrap().unwrap(), made, "{word}");
        }
        assert!(pods.find("we").unwrap().is_none() && pods.find("").unwrap().is_none());
        let error = pods.create("web", BTreeMap::new(), None).unwrap_err();
        assert!(error.report().contains("in use"), "{}", error.report());
        for bad in ["", "a/b", "..", "-x"] {
            assert!(pods.create(bad, BTreeMap::new(), None).is_err(), "{bad}");
        }
        pods.remove(&made).unwrap();
        assert!(pods.list().unwrap().is_empty());
    }
}
