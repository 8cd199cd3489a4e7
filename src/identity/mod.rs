//! Who the container's users are on the host: subordinate ranges, the map as a value, its writing.
//!
//! [`plan()`] decides everything before the first side effect; [`start_write`] and [`write_nested`] carry it out.

pub mod caller;
pub mod helpers;
pub mod host;
pub mod map;
pub mod nested;
pub mod plan;
pub mod subid;
mod tier;
pub mod userns;
pub mod write;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

pub use caller::Caller;
pub use host::Host;
pub use map::{IdMap, IdRange, MapLine};
pub use plan::{Request, plan, plan_on};
pub use userns::{Auto, MapArg, Userns};
pub use write::{PendingWrite, open_process, start_write, write_nested};

/// Where the IDs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Subordinate ranges through newuidmap and newgidmap.
    Range,
    /// The caller has CAP_SETUID and CAP_SETGID over the parent namespace and writes the maps itself.
    Root,
    /// One ID is mapped: the caller's own.
    Single,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "range",
            Self::Root => "root",
            Self::Single => "single",
        })
    }
}

/// The user namespace of a container, decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    pub tier: Tier,
    /// The canonical maps of the tier (container root is the caller): the owners on disk are those of these maps.
    pub uid_map: IdMap,
    pub gid_map: IdMap,
    /// setgroups(2) is denied in the namespace (the single tier, where the kernel asks for it).
    pub deny_setgroups: bool,
    /// Another map (keep-id, image-user, auto, nomap, --uidmap) is written for a namespace nested in the
    /// canonical one; its outside IDs are IDs *inside the canonical namespace*.
    pub nested: Option<NestedMaps>,
    /// No other container may have the nested IDs (`auto`).
    pub exclusive: bool,
    /// Join this user namespace instead of making one (`container:ID`, `ns:PATH`); [`Namespace::Host`]: none is made,
    /// the container lives in the caller's own.
    ///
    /// [`Namespace::Host`]: crate::container::spec::Namespace::Host
    pub join: Option<crate::container::spec::Namespace>,
    /// The user that runs the command when neither `--user` nor the image says so (keep-id: the caller).
    pub default_user: Option<(u32, u32)>,
    pub writer: MapWriter,
    /// What was left out or taken instead, for `-v`, `info` and error hints.
    pub notes: Vec<String>,
}

impl Identity {
    /// The container's user IDs on the host: the canonical map, or the nested one put onto it.
    pub fn host_uid_map(&self) -> IdMap {
        match &self.nested {
            Some(nested) => nested.uid_map.over(&self.uid_map),
            None => self.uid_map.clone(),
        }
    }

    /// The container's group IDs on the host.
    pub fn host_gid_map(&self) -> IdMap {
        match &self.nested {
            Some(nested) => nested.gid_map.over(&self.gid_map),
            None => self.gid_map.clone(),
        }
    }

    /// The maps of the container's own namespace where that is below one with the canonical maps.
    pub fn maps_below(&self) -> NestedMaps {
        let same = |map: &IdMap| {
            IdMap(map.0.iter().map(|line| MapLine::new(line.inside, line.inside, line.count)).collect())
        };
        self.nested
            .clone()
            .unwrap_or_else(|| NestedMaps { uid_map: same(&self.uid_map), gid_map: same(&self.gid_map) })
    }

    /// The map of users that stands in the container's own namespace.
    pub fn inner_uid_map(&self) -> &IdMap {
        self.nested.as_ref().map_or(&self.uid_map, |nested| &nested.uid_map)
    }

    /// The map of groups that stands in the container's own namespace.
    pub fn inner_gid_map(&self) -> &IdMap {
        self.nested.as_ref().map_or(&self.gid_map, |nested| &nested.gid_map)
    }

    /// Whose all files of layers seem to be. In the single tier there is nobody else; under a map without root,
    /// files of root would be nobody's and nothing could be made beside them. None: they keep their owners.
    pub fn sole_owner(&self) -> Option<(u32, u32)> {
        let (users, groups) = (self.inner_uid_map(), self.inner_gid_map());
        let has_root = users.to_host(0).is_some() && groups.to_host(0).is_some();
        if self.join.is_some() || has_root && self.tier != Tier::Single {
            return None;
        }
        self.lowest()
    }

    /// The container's root, or the user and group with the lowest IDs where the map has no root.
    pub fn lowest(&self) -> Option<(u32, u32)> {
        Some((self.inner_uid_map().lowest_inside()?, self.inner_gid_map().lowest_inside()?))
    }

    /// Why a process with container IDs `uid` and `gid` may not do what it tried on a file of the host.
    pub fn explain(&self, uid: u32, gid: u32) -> String {
        let user = self.host_uid_map().explain_inside(uid);
        let group = self.host_gid_map().explain_inside(gid);
        format!("user: {user}; group: {group}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedMaps {
    pub uid_map: IdMap,
    pub gid_map: IdMap,
}

impl NestedMaps {
    /// The canonical IDs that the maps take, but for 0, the caller: what `auto` keeps from other containers.
    pub fn blocks(&self) -> Vec<(u32, u32)> {
        let lines = self.uid_map.0.iter().chain(&self.gid_map.0);
        let ranges: Vec<IdRange> = lines.map(|line| line.outside_range()).collect();
        let mut blocks: Vec<(u32, u32)> = map::subtract(&ranges, &[IdRange::new(0, 1)])
            .into_iter()
            .map(|range| (range.start, range.count))
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }
}

/// Who writes the canonical maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapWriter {
    /// The caller itself, into /proc/PID.
    Direct,
    /// newuidmap and newgidmap, one start each.
    TwoHelpers { newuidmap: std::path::PathBuf, newgidmap: std::path::PathBuf },
    /// newuidmap-shim, which writes both maps in one start.
    Shim(std::path::PathBuf),
}

/// Something that keeps a tier from being taken, recognised before the attempt, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub reason: String,
    pub mend: Option<String>,
}

impl Obstacle {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), mend: None }
    }

    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Adds all of the obstacles to an error: one cause, and a hint for each mend.
    pub(crate) fn explain(obstacles: &[Self], error: Error) -> Error {
        if obstacles.is_empty() {
            return error;
        }
        let reasons: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.reason.as_str()).collect();
        let mends = obstacles.iter().filter_map(|obstacle| obstacle.mend.as_ref());
        mends.fold(error.because(reasons.join("; ")), |error, mend| error.hint(mend))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod hostile_tests;
