//! `--progress rawjson`: the messages of BuildKit's status stream (client.SolveStatus), as `docker buildx` writes them.

use std::io::Write;

use base64::Engine;
use serde_json::{Value, json};

use super::Showing;
use crate::image::digest::Digest;

fn vertex(step: &Showing<'_>) -> Digest {
    Digest::of(format!("{} {}", step.id, step.text).as_bytes())
}

pub fn begun(step: &Showing<'_>) -> Value {
    let started = step.began.to_string();
    json!({ "vertexes": [{ "digest": vertex(step), "name": step.text, "started": started }] })
}

pub fn ended(step: &Showing<'_>, cached: bool, error: Option<&str>) -> Value {
    let mut ended = begun(step);
    ended["vertexes"][0]["completed"] = jiff::Timestamp::now().to_string().into();
    if cached {
        ended["vertexes"][0]["cached"] = true.into();
    }
    if let Some(error) = error {
        ended["vertexes"][0]["error"] = error.into();
    }
    ended
}

pub fn log(step: &Showing<'_>, bytes: &[u8]) -> Value {
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let now = jiff::Timestamp::now().to_string();
    json!({ "logs": [{ "vertex": vertex(step), "stream": 1, "data": data, "timestamp": now }] })
}

/// Of the whole build (client.VertexWarning).
pub fn warning(text: &str) -> Value {
    let short = base64::engine::general_purpose::STANDARD.encode(text);
    json!({ "warnings": [{ "level": 1, "short": short }] })
}

pub fn write(message: &Value) {
    let _ = std::io::stderr().write_all(format!("{message}\n").as_bytes());
}
