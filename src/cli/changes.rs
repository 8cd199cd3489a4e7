//! How changes of files are shown (podman-diff(1)).

use serde_json::{Value, json};

use crate::error::Result;
use crate::image::difference::Change;
use crate::output;

/// Prints the changes, a line each or as one JSON object.
pub(super) fn print(changes: &[(Change, Vec<u8>)], as_json: bool) -> Result<()> {
    output::print::text(&if as_json { document(changes) } else { lines(changes) }).map(|_| ())
}

fn lines(changes: &[(Change, Vec<u8>)]) -> String {
    let line = |(change, path): &(Change, Vec<u8>)| {
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        format!("{letter} {}\n", shown(path))
    };
    changes.iter().map(line).collect()
}

fn document(changes: &[(Change, Vec<u8>)]) -> String {
    let of = |wanted: Change| -> Vec<String> {
        let those = changes.iter().filter(|(change, _)| *change == wanted);
        those.map(|(_, path)| String::from_utf8_lossy(path).into_owned()).collect()
    };
    let mut document = serde_json::Map::new();
    for (key, change) in
        [("added", Change::Added), ("changed", Change::Changed), ("deleted", Change::Deleted)]
    {
        let paths = of(change);
        if !paths.is_empty() {
            document.insert(key.to_owned(), json!(paths));
        }
    }
    Value::Object(document).to_string() + "\n"
}

/// Names of an archive could command the reader's terminal.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
