//! What an action such as `{{.Mounts}}` prints: Go shows maps as `map[key:value]` and structs as the values of their
//! fields in order. docker and podman have structs here, of which the JSON keeps the names alone.

use gotmpl::{Result, Value};

/// The function that each printing action ends with.
pub(super) const FUNCTION: &str = "shown__";

/// The fields of a struct in Go's order.
type Struct = &'static [&'static str];

/// podman's (libpod/define, InspectMount and its like). One is told by its first fields, up to [`Shape::needed`].
struct Shape {
    fields: Struct,
    /// So many of the fields are always there; the others may be left out.
    needed: Struct,
}

const SHAPES: &[Shape] = &[
    Shape {
        fields: &["Type", "Name", "Source", "Destination", "Driver", "Mode", "Options", "RW", "Propagation"],
        needed: &["Type", "Source", "Destination", "Mode", "RW", "Propagation"],
    },
    Shape { fields: &["HostIp", "HostPort"], needed: &["HostIp", "HostPort"] },
    Shape { fields: &["Name", "MaximumRetryCount"], needed: &["Name", "MaximumRetryCount"] },
    Shape { fields: &["Status", "FailingStreak", "Log"], needed: &["Status", "FailingStreak", "Log"] },
    Shape {
        fields: &["Start", "End", "ExitCode", "Output"],
        needed: &["Start", "End", "ExitCode", "Output"],
    },
];

/// Lists and maps as Go's fmt shows them; all else as it is.
pub(super) fn function(arguments: &[Value]) -> Result<Value> {
    Ok(match arguments {
        [value @ (Value::List(_) | Value::Map(_))] => Value::String(shown(value).into()),
        [value] => value.clone(),
        _ => Value::Nil,
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(fields) => {
            let has = |name: &str| fields.contains_key(name);
            let shape = SHAPES.iter().find(|shape| {
                shape.needed.iter().all(|name| has(name))
                    && fields.keys().all(|name| shape.fields.contains(&&**name) || &**name == "SubPath")
            });
            let Some(shape) = shape else {
                let entries: Vec<String> =
                    fields.iter().map(|(key, value)| format!("{key}:{}", within_a_map(value))).collect();
                return format!("map[{}]", entries.join(" "));
            };
            // docker has no `Options`, podman and docker leave `Name` and `Driver` empty.
            let named = shape.fields.iter().filter(|name| **name != "Options" || has(name));
            let values: Vec<String> =
                named.map(|name| fields.get(*name).map(shown).unwrap_or_default()).collect();
            format!("{{{}}}", values.join(" "))
        }
        other => other.to_string(),
    }
}

/// The values of docker's sets, such as `ExposedPorts`, are structs without fields.
fn within_a_map(value: &Value) -> String {
    match value {
        Value::Map(fields) if fields.is_empty() => "{}".to_owned(),
        value => shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::functions::from_json;
    use super::*;
    use serde_json::json;

    #[test]
    fn structs_are_their_values_in_order() {
        let mount = json!({"Destination": "/to", "Driver": "local", "Mode": "", "Name": "site", "Options": ["rbind"],
            "Propagation": "rprivate", "RW": true, "Source": "/from", "Type": "volume"});
        for (value, text) in [
            (json!([mount]), "[{volume site /from /to local  [rbind] true rprivate}]"),
            (
                json!({"Destination": "/to", "Mode": "", "Propagation": "", "RW": false, "Source": "/from", "Type": "bind"}),
                "{bind  /from /to   false }",
            ),
            (json!({"80/tcp": [{"HostPort": "8080", "HostIp": "0.0.0.0"}]}), "map[80/tcp:[{0.0.0.0 8080}]]"),
            (json!({"80/tcp": {}, "81/tcp": null}), "map[80/tcp:{} 81/tcp:<nil>]"),
            (json!({"MaximumRetryCount": 3, "Name": "on-failure"}), "{on-failure 3}"),
            (
                json!({"HostIp": "a label", "HostPort": "another", "more": "1"}),
                "map[HostIp:a label HostPort:another more:1]",
            ),
            (json!({}), "map[]"),
            (json!(["a", 1, null]), "[a 1 <nil>]"),
        ] {
            let shown = function(&[from_json(&value)]).unwrap();
            assert_eq!(shown.as_str(), Some(text), "{value}");
        }
    }
}
