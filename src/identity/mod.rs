//! Who the container's users are on the host: subordinate ranges, the map as a value, its writing.

use serde::{Deserialize, Serialize};

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

/// One line of uid_map or gid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapLine {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// A checked map: one to five lines, no overlap on either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap(pub Vec<MapLine>);

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
    /// Join this user namespace instead of making one (`container:ID`, `ns:PATH`).
    pub join: Option<crate::container::spec::Namespace>,
    /// The user that runs the command when neither `--user` nor the image says so (keep-id: the caller).
    pub default_user: Option<(u32, u32)>,
    pub writer: MapWriter,
    /// What was left out or taken instead, for `-v`, `info` and error hints.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedMaps {
    pub uid_map: IdMap,
    pub gid_map: IdMap,
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
