//! What other programs make of a case does not change from one run to the next: it is kept beside the tests' other files,
//! so that only the first run on a machine waits for it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{cache, sha256};

/// What nobody asked for in so long is removed.
const STALE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What was made of a recipe, which has to tell of all that decides; else it is made now.
pub fn kept<T: Serialize + DeserializeOwned>(name: &str, recipe: &str, make: impl FnOnce() -> T) -> T {
    let kept = place(name, recipe);
    if let Some(made) = fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
        let file = File::open(&kept).expect("it was just read");
        file.set_modified(SystemTime::now()).expect("a time");
        return made;
    }
    let made = make();
    let half = tempfile::NamedTempFile::new_in(cache(name)).expect("a file");
    serde_json::to_writer(&half, &made).expect("JSON");
    half.persist(&kept).expect("a file");
    made
}

/// The next one makes it anew.
pub fn forget(name: &str, recipe: &str) {
    // It may be gone.
    let _ = fs::remove_file(place(name, recipe));
}

fn place(name: &str, recipe: &str) -> PathBuf {
    cache(name).join(&sha256(recipe.as_bytes())[..24])
}

/// Removes what is old.
pub fn forget_stale(name: &str) {
    for entry in fs::read_dir(cache(name)).expect("a directory").flatten() {
        let age = entry.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            // Another test may be quicker.
            let _ = fs::remove_file(entry.path());
        }
    }
}
