//! `config.json` and `process.json` as they are written (OCI runtime specification 1.2, config.md, config-linux.md).
//! Properties that are not known are left alone, as the specification asks; `null` is nothing, as Go writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Takes an object and nothing else: left to itself, a structure takes an array, too.
macro_rules! from_objects {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;
                impl<'de> Visitor<'de> for Object {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $name::deserialize(MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(Object)
            }
        }
    };
}

/// Every field may be missing or `null`.
macro_rules! objects {
    ($($(#[$documentation:meta])* $name:ident { $($field:ident $(= $key:literal)?: $kind:ty,)* })*) => { $(
        $(#[$documentation])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default, remote = "Self")]
        pub struct $name {
            $(#[serde($(rename = $key,)? deserialize_with = "or_default")] pub $field: $kind,)*
        }
        from_objects!($name);
    )* };
}

objects! {
    Config {
        oci_version: String,
        process: Option<Process>,
        root: Option<Root>,
        hostname: Option<String>,
        domainname: Option<String>,
        mounts: Vec<Mount>,
        hooks: Hooks,
        annotations: BTreeMap<String, String>,
        linux: Linux,
    }
    Root {
        path: PathBuf,
        readonly: bool,
    }
    Process {
        terminal: bool,
        console_size: Option<Size>,
        user: User,
        args: Vec<String>,
        env: Vec<String>,
        cwd: PathBuf,
        capabilities: Option<Capabilities>,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        oom_score_adj: Option<i32>,
        apparmor_profile: String,
        selinux_label: String,
        io_priority: Option<IoPriority>,
        scheduler: Option<Scheduler>,
        exec_cpu_affinity = "execCPUAffinity": Option<Affinity>,
    }
    Affinity {
        initial: String,
        last = "final": String,
    }
    Size {
        height: u32,
        width: u32,
    }
    User {
        uid: u32,
        gid: u32,
        umask: Option<u32>,
        additional_gids: Vec<u32>,
    }
    Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        permitted: Vec<String>,
        inheritable: Vec<String>,
        ambient: Vec<String>,
    }
    Rlimit {
        kind = "type": String,
        soft: u64,
        hard: u64,
    }
    IoPriority {
        class: String,
        priority: i32,
    }
    Scheduler {
        policy: String,
        nice: i32,
        priority: u32,
        flags: Vec<String>,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    Mount {
        destination: PathBuf,
        source: PathBuf,
        kind = "type": String,
        options: Vec<String>,
        uid_mappings: Vec<Mapping>,
        gid_mappings: Vec<Mapping>,
    }
    Hooks {
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
        create_container: Vec<Hook>,
        start_container: Vec<Hook>,
        poststart: Vec<Hook>,
        poststop: Vec<Hook>,
    }
    Hook {
        path: PathBuf,
        args: Vec<String>,
        env: Option<Vec<String>>,
        timeout: Option<i64>,
    }
    Linux {
        namespaces: Vec<Namespace>,
        uid_mappings: Vec<Mapping>,
        gid_mappings: Vec<Mapping>,
        time_offsets: BTreeMap<String, Offset>,
        devices: Vec<Device>,
        cgroups_path: Option<String>,
        resources: Option<serde_json::Value>,
        intel_rdt: Option<serde_json::Value>,
        sysctl: BTreeMap<String, String>,
        seccomp: Option<serde_json::Map<String, serde_json::Value>>,
        rootfs_propagation: String,
        masked_paths: Vec<PathBuf>,
        readonly_paths: Vec<PathBuf>,
        mount_label: String,
        personality: Option<Personality>,
    }
    Namespace {
        kind = "type": String,
        path: Option<PathBuf>,
    }
    Offset {
        secs: i64,
        nanosecs: u32,
    }
    Device {
        kind = "type": String,
        path: PathBuf,
        major: Option<i64>,
        minor: Option<i64>,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }
    Personality {
        domain: String,
        flags: Vec<String>,
    }
}

/// A line of a map.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(remote = "Self")]
pub struct Mapping {
    #[serde(rename = "containerID")]
    pub container: u32,
    #[serde(rename = "hostID")]
    pub host: u32,
    pub size: u32,
}

from_objects!(Mapping);
