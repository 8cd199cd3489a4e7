//! An event as it is printed.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Action, Event, Kind};
use crate::container::store::short;
use crate::output::harmless;

/// podman's line: `2026-01-02 03:04:05.123456789 +0000 UTC container start ID (image=…, name=…, …)`.
pub fn line(event: &Event, truncate: bool) -> String {
    let id = if truncate { shortened(&event.id) } else { &event.id };
    let (kind, action) = (event.kind.word(), event.action.podman());
    let head = format!("{} {kind} {action}", time(event).strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC"));
    let rest = match event.kind {
        Kind::Container | Kind::Pod => {
            let mut words = vec![format!("image={}", event.image), format!("name={}", event.name)];
            words.extend(event.details.iter().map(|(name, value)| format!("{name}={value}")));
            words.extend(event.labels.iter().map(|(name, value)| format!("{name}={value}")));
            format!("{id} ({})", words.join(", "))
        }
        Kind::Image | Kind::Network => format!("{id} {}", event.name),
        Kind::Volume | Kind::System => event.name.clone(),
        Kind::Secret => id.to_owned(),
    };
    harmless::line(format!("{head} {rest}").trim_end())
}

fn shortened(id: &str) -> &str {
    short(id.strip_prefix("sha256:").unwrap_or(id))
}

fn time(event: &Event) -> Timestamp {
    Timestamp::from_nanosecond(event.time.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// One object with the fields of both: podman's `ID Image Name Status Time Type Attributes`, and docker's
/// `status id from Type Action Actor scope time timeNano`.
pub fn json(event: &Event) -> Value {
    let docker = docker_action(event);
    let time_of = time(event);
    let mut attributes = Map::new();
    let mut fill = |name: &str, value: &str| attributes.insert(name.to_owned(), json!(value));
    for (name, value) in event.labels.iter().chain(&event.details) {
        fill(name, value);
    }
    if !event.image.is_empty() {
        fill("image", &event.image);
    }
    if !event.name.is_empty() {
        fill("name", &event.name);
    }
    let mut document = json!({
        "ID": event.id,
        "Image": event.image,
        "Name": event.name,
        "Status": event.action.podman(),
        "Time": time_of.to_string(),
        "Type": event.kind.word(),
        "Attributes": event.labels,
        "Action": docker,
        "Actor": { "ID": event.id, "Attributes": attributes },
        "id": event.id,
        "status": docker,
        "from": event.image,
        "scope": "local",
        "time": time_of.as_second(),
        "timeNano": event.time,
    });
    if let Some(code) = exit_code(event) {
        document["ContainerExitCode"] = json!(code);
    }
    if let Some(health) = event.details.get("health_status") {
        document["HealthStatus"] = json!(health);
    }
    if let Some(pod) = event.details.get("podId") {
        document["PodID"] = json!(pod);
    }
    document
}

/// The same for templates, which may name what this event does not have.
pub fn for_template(event: &Event) -> Value {
    let mut document = json(event);
    let seconds = time(event);
    document["TimeNano"] = json!(event.time);
    document["From"] = json!(event.image);
    document["Scope"] = json!("local");
    document["TimeUnix"] = json!(seconds.as_second());
    for (name, empty) in [
        ("ContainerExitCode", json!(0)),
        ("HealthStatus", json!("")),
        ("PodID", json!("")),
        ("Network", json!("")),
    ] {
        if document.get(name).is_none() {
            document[name] = empty;
        }
    }
    document
}

fn docker_action(event: &Event) -> String {
    let word = event.action.docker(event.kind);
    match event.details.get("health_status") {
        Some(health) if event.action == Action::HealthStatus => format!("{word}: {health}"),
        _ => word.to_owned(),
    }
}

fn exit_code(event: &Event) -> Option<i32> {
    event.details.get("exitCode")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died() -> Event {
        let mut event =
            Event::new(Kind::Container, Action::Died, "0123456789abcdef", "web").with("exitCode", 3);
        event.time = 1_767_323_045_123_456_789;
        event.image = "debian:12".to_owned();
        event.labels.insert("a".to_owned(), "1\x1b[2J".to_owned());
        event
    }

    #[test]
    fn the_line_is_podmans() {
        assert_eq!(
            line(&died(), false),
            "2026-01-02 03:04:05.123456789 +0000 UTC container died 0123456789abcdef (image=debian:12, name=web, \
             exitCode=3, a=1\\u{1b}[2J)"
        );
        assert!(line(&died(), true).contains(" 0123456789ab ("));
        let mut pulled = Event::image(Action::Pull, "sha256:00112233445566", "debian:12");
        pulled.time = 0;
        assert_eq!(line(&pulled, true), "1970-01-01 00:00:00 +0000 UTC image pull 001122334455 debian:12");
        let mut made = Event::new(Kind::Volume, Action::Create, "data", "data");
        made.time = 500_000_000;
        assert_eq!(line(&made, false), "1970-01-01 00:00:00.5 +0000 UTC volume create data");
    }

    #[test]
    fn both_dialects_find_their_fields() {
        let document = json(&died());
        for (field, value) in [
            ("/ID", json!("0123456789abcdef")),
            ("/id", json!("0123456789abcdef")),
            ("/Status", json!("died")),
            ("/status", json!("die")),
            ("/Action", json!("die")),
            ("/Image", json!("debian:12")),
            ("/from", json!("debian:12")),
            ("/Name", json!("web")),
            ("/Type", json!("container")),
            ("/Time", json!("2026-01-02T03:04:05.123456789Z")),
            ("/time", json!(1_767_323_045)),
            ("/timeNano", json!(1_767_323_045_123_456_789_i64)),
            ("/ContainerExitCode", json!(3)),
            ("/Actor/ID", json!("0123456789abcdef")),
            ("/Actor/Attributes/a", json!("1\x1b[2J")),
            ("/Actor/Attributes/exitCode", json!("3")),
            ("/Actor/Attributes/image", json!("debian:12")),
            ("/Actor/Attributes/name", json!("web")),
        ] {
            assert_eq!(document.pointer(field), Some(&value), "{field}");
        }
        assert!(json(&Event::image(Action::Pull, "sha256:0", "x")).get("ContainerExitCode").is_none());
        assert_eq!(for_template(&Event::image(Action::Pull, "sha256:0", "x"))["ContainerExitCode"], json!(0));
    }
}
