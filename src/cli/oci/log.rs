//! The file of `--log`, which engines read.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result, Step};
use crate::sys::time::Utc;

pub(super) struct Log {
    file: Option<File>,
    json: bool,
}

impl Log {
    /// # Errors
    /// The file cannot be written.
    pub(super) fn open(path: Option<&Path>, format: &str) -> Result<Self> {
        let file = match path {
            None => None,
            Some(path) => Some(
                File::options()
                    .append(true)
                    .create(true)
                    .open(path)
                    .step(|| format!("cannot write the log `{}`", path.display()))?,
            ),
        };
        Ok(Self { file, json: format == "json" })
    }

    pub(super) fn error(&self, error: &Error) {
        let Some(mut file) = self.file.as_ref() else { return };
        let (text, time) = (error.to_string(), Utc::now().to_string());
        let line = if self.json {
            json!({ "level": "error", "msg": text, "time": time }).to_string()
        } else {
            format!("time={time:?} level=error msg={text:?}")
        };
        let _ = writeln!(file, "{line}");
    }
}
