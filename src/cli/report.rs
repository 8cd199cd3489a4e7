//! One value as `--format` wants it: JSON under its own names, templates under Go's.

use serde_json::{Map, Value};

use crate::Result;
use crate::output::template::Format;

/// A `--format` that is sound. JSON, and templates that name no field of Go, get the plain value: `{{json .}}`
/// and `{{.host.os}}`; the others get the value under Go's names (see [`go_view`]).
pub(crate) struct Wanted {
    format: Format,
    go_names: bool,
}

impl Wanted {
    /// Reads the flag; an empty one is none, as docker has it.
    ///
    /// # Errors
    /// The template is unsound.
    pub(crate) fn parse(flag: Option<&str>) -> Result<Option<Self>> {
        let Some(text) = flag.filter(|text| !text.is_empty()) else { return Ok(None) };
        let go_names = text.as_bytes().windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_uppercase());
        Ok(Some(Self { format: Format::parse(text)?, go_names }))
    }

    /// # Errors
    /// The template asks for what isn't there.
    pub(crate) fn object(&self, plain: &Value, view: impl Fn(&Value) -> Value) -> Result<String> {
        if self.go_names { self.format.object(&view(plain)) } else { self.format.object(plain) }
    }

    /// The same for a list, a row at a time.
    ///
    /// # Errors
    /// As [`Wanted::object`].
    pub(crate) fn list(&self, rows: &[Value], view: impl Fn(&Value) -> Value) -> Result<String> {
        if self.go_names {
            return self.format.list(&rows.iter().map(view).collect::<Vec<_>>(), &[]);
        }
        self.format.list(rows, &[])
    }
}

/// Names of podman's Go fields that are not their JSON names with a capital.
const GO_NAMES: &[(&str, &str)] = &[
    ("apparmorEnabled", "AppArmorEnabled"),
    ("selinuxEnabled", "SELinuxEnabled"),
    ("seccompEnabled", "SECCOMPEnabled"),
    ("cgroupVersion", "CgroupsVersion"),
    ("container_id", "ContainerID"),
    ("cpus", "CPUs"),
    ("gidmap", "GIDMap"),
    ("host_id", "HostID"),
    ("id", "ID"),
    ("idMappings", "IDMappings"),
    ("os", "OS"),
    ("slirp4netns", "Slirp4NetNS"),
    ("uidmap", "UIDMap"),
];

/// The same value under the names that Go templates use: exported fields begin with a capital.
pub(crate) fn go_view(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(go_view).collect(),
        Value::Object(fields) => {
            let renamed = fields.iter().map(|(key, value)| (go_name(key), go_view(value)));
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

fn go_name(key: &str) -> String {
    if let Some((_, name)) = GO_NAMES.iter().find(|(json, _)| *json == key) {
        return (*name).to_owned();
    }
    let mut letters = key.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_its_own_names_and_templates_have_both() {
        let plain = json!({ "host": { "os": "linux", "security": { "selinuxEnabled": false } } });
        let wanted = |format| Wanted::parse(Some(format)).unwrap().unwrap();
        let with = |format| wanted(format).object(&plain, go_view).unwrap();
        assert_eq!(with("{{.Host.Security.SELinuxEnabled}}"), "false\n");
        assert_eq!(with("{{.host.os}}"), "linux\n");
        assert_eq!(with("{{json .host.security}}"), "{\"selinuxEnabled\":false}\n");
        assert!(with("json").contains("\"selinuxEnabled\": false"));
        assert!(wanted("{{.Nothing}}").object(&plain, go_view).is_err());
        assert!(Wanted::parse(Some("{{")).is_err());
        assert!(Wanted::parse(Some("")).unwrap().is_none());
        assert_eq!(wanted("{{.Host.OS}}").list(&[plain], go_view).unwrap(), "linux\n");
    }
}
