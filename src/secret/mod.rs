//! Secrets: small pieces of data that containers are given without being in an image.
//!
//! `<store>/secrets/s.NAME` is one secret with its data, mode 0600, and appears by one rename. A container keeps a copy
//! of those it was made with ([`copies`]): it starts again with the same data, whatever becomes of the secret.

pub mod copies;
pub mod option;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};

/// podman's limit (podman-secret-create(1)), in bytes.
pub const LARGEST: u64 = 512_000;
/// podman's limit: longer names would not fit into a file name beside the prefix.
const LONGEST_NAME: usize = 253;
const ID_LENGTH: usize = 25;
/// No name begins a temporary file's.
const PREFIX: &str = "s.";
const UNFINISHED: &str = "new.";
/// Bytes of a file, data in base64 and labels included.
const LARGEST_FILE: u64 = 4 << 20;

/// One secret, with its data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// 25 hexadecimal digits.
    pub id: String,
    pub name: String,
    /// RFC 3339.
    pub created: String,
    pub updated: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(with = "encoded")]
    pub data: Vec<u8>,
}

/// Data may be anything; in JSON it is base64.
mod encoded {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(data))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// The data stays out of every message.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The secrets of a store.
pub struct SecretStore {
    directory: PathBuf,
}

impl SecretStore {
    /// Those of the store below `store`; nothing is made before something is written.
    pub fn new(store: &Path) -> Self {
        Self { directory: store.join("secrets") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{name}"))
    }

    /// Keeps a secret. With `replace` one of the same name gets the data and labels, and keeps its ID.
    ///
    /// # Errors
    /// The name or the data cannot be a secret's, or the name is taken.
    pub fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        data: Vec<u8>,
        replace: bool,
    ) -> Result<Secret> {
        check_name(name)?;
        let failed = || format!("cannot keep the secret `{name}`");
        if data.is_empty() || data.len() as u64 > LARGEST {
            return Err(Error::new(failed())
                .because(format!("it has {} bytes", data.len()))
                .hint(format!("a secret has 1 to {LARGEST} bytes")));
        }
        let now = crate::sys::time::Utc::now().to_string();
        let former = if replace { self.named(name)? } else { None };
        let (id, created) = match former {
            Some(former) => (former.id, former.created),
            None => (crate::container::name::random_id()?[..ID_LENGTH].to_owned(), now.clone()),
        };
        let secret = Secret { id, name: name.to_owned(), created, updated: now, labels, data };
        self.write(&secret, replace).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(failed())
                .because("the name is in use")
                .hint(format!("remove that secret (`sbx secret rm {name}`), or take `--replace`")),
            _ => no_room(error, failed()),
        })?;
        Ok(secret)
    }

    fn write(&self, secret: &Secret, replace: bool) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.remove_unfinished();
        let temporary = self.directory.join(format!("{UNFINISHED}{}.{}", std::process::id(), secret.id));
        let text = serde_json::to_vec(secret)?;
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&temporary).and_then(|mut file| file.write_all(&text)).and_then(|()| {
            // A link is refused where the name is taken, a rename is not.
            match replace {
                true => fs::rename(&temporary, self.path(&secret.name)),
                false => fs::hard_link(&temporary, self.path(&secret.name)),
            }
        });
        let _ = fs::remove_file(&temporary);
        written
    }

    /// What a process was writing when it was killed.
    fn remove_unfinished(&self) {
        for name in self.entries().unwrap_or_default() {
            let Some(rest) = name.strip_prefix(UNFINISHED) else { continue };
            let writer = rest.split('.').next().and_then(|pid| pid.parse::<u32>().ok());
            if writer.is_none_or(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                let _ = fs::remove_file(self.directory.join(name));
            }
        }
    }

    fn entries(&self) -> Result<Vec<String>> {
        let failed = || format!("cannot read `{}`", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.step(failed)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn named(&self, name: &str) -> Result<Option<Secret>> {
        let path = self.path(name);
        let failed = || format!("cannot read the secret `{}`", name.escape_debug());
        let text = match read(&path, LARGEST_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.step(failed)?,
        };
        let secret: Secret = serde_json::from_slice(&text).step(failed)?;
        if secret.name != name {
            return Err(Error::new(failed()).because("it is another's"));
        }
        Ok(Some(secret))
    }

    /// Every secret, by name. One that is damaged is told and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Secret>> {
        let mut names = self.entries()?;
        names.sort();
        let read = |name: String| match self.named(name.strip_prefix(PREFIX)?) {
            Ok(found) => found,
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        Ok(names.into_iter().filter_map(read).collect())
    }

    /// The one that a name, an ID or the beginning of an ID means.
    ///
    /// # Errors
    /// Several IDs begin so, or it is damaged.
    pub fn find(&self, word: &str) -> Result<Option<Secret>> {
        if check_name(word).is_ok()
            && let Some(secret) = self.named(word)?
        {
            return Ok(Some(secret));
        }
        let fits = |secret: &Secret| !word.is_empty() && secret.id.starts_with(word);
        let mut found = self.list()?.into_iter().filter(fits);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Error::new(format!("the ID prefix `{word}` is ambiguous"))),
            (found, None) => Ok(found),
        }
    }

    /// Forgets a secret. Containers that were made with it keep their copies.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, secret: &Secret) -> Result<()> {
        match fs::remove_file(self.path(&secret.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(no_room(error, format!("cannot remove the secret `{}`", secret.name)))
            }
            _ => Ok(()),
        }
    }
}

/// There is none of that name.
pub fn missing(word: &str) -> Error {
    Error::new(format!("there is no secret `{}`", word.escape_debug()))
        .hint("`sbx secret ls` lists the secrets; `sbx secret create NAME FILE` makes one")
}

fn check_name(name: &str) -> Result<()> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `{}` as the name of a secret", name.escape_debug())).because(cause)
    };
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(wrong(format!("it has {} bytes, and not 1 to {LONGEST_NAME}", name.len())));
    }
    match name.chars().find(|c| matches!(c, ',' | '/' | '=') || c.is_control()) {
        Some(c) => Err(wrong(format!("`{}` cannot be in it", c.escape_debug()))),
        None => Ok(()),
    }
}

/// Reads a file of the store, never through a symlink and never from a pipe.
fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(at_most).read_to_end(&mut text)?;
    Ok(text)
}

/// As `inspect` and the copies show data.
pub fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn world() -> (tempfile::TempDir, SecretStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::new(folder.path());
        (folder, store)
    }

    fn create(store: &SecretStore, name: &str, data: &[u8]) -> Result<Secret> {
        store.create(name, BTreeMap::new(), data.to_vec(), false)
    }

    #[test]
    fn a_secret_is_found_by_its_name_and_the_beginning_of_its_id() {
        let (_folder, store) = world();
        assert!(store.list().unwrap().is_empty() && store.find("a").unwrap().is_none());
        let made = create(&store, "key", b"\0\xff data").unwrap();
        assert_eq!(made.id.len(), 25);
        for word in ["key", &made.id, &made.id[..5]] {
            assert_eq!(store.find(word).unwrap().unwrap(), made, "{word}");
        }
        assert!(store.find("ke").unwrap().is_none() && store.find("").unwrap().is_none());
        store.remove(&made).unwrap();
        assert!(store.find("key").unwrap().is_none());
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 0, "something is left");
    }

    #[test]
    fn a_name_is_taken_until_it_is_to_be_replaced() {
        let (_folder, store) = world();
        let first = create(&store, "key", b"1").unwrap();
        let error = create(&store, "key", b"2").unwrap_err();
        assert!(error.report().contains("in use"), "{}", error.report());
        assert_eq!(store.find("key").unwrap().unwrap().data, b"1");
        let second = store.create("key", BTreeMap::new(), b"2".to_vec(), true).unwrap();
        assert_eq!((second.id, second.created), (first.id, first.created));
        assert_eq!(store.find("key").unwrap().unwrap().data, b"2");
    }

    #[test]
    fn nobody_else_reads_them() {
        let (_folder, store) = world();
        create(&store, "key", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.directory), 0o700);
        assert_eq!(mode(&store.path("key")), 0o600);
        assert!(!format!("{:?}", create(&store, "other", b"hidden data").unwrap()).contains("data"));
    }

    #[test]
    fn names_stay_in_the_directory() {
        let (folder, store) = world();
        for bad in ["", "a/b", "../x", "a,b", "a=b", "a\0", "a\n", &"x".repeat(254)] {
            assert!(create(&store, bad, b"x").is_err(), "{bad:?}");
        }
        for good in ["..", ".", "new.1.x", "ä b", &"x".repeat(253)] {
            create(&store, good, b"x").unwrap_or_else(|error| panic!("{good}: {error}"));
            assert!(store.find(good).unwrap().is_some(), "{good}");
        }
        assert_eq!(store.list().unwrap().len(), 5);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn data_has_an_end() {
        let (_folder, store) = world();
        assert!(create(&store, "none", b"").is_err());
        assert!(create(&store, "large", &vec![0; LARGEST as usize + 1]).is_err());
        create(&store, "largest", &vec![0; LARGEST as usize]).unwrap();
        assert_eq!(store.find("largest").unwrap().unwrap().data.len() as u64, LARGEST);
    }

    #[test]
    fn what_is_damaged_or_unfinished_harms_nobody() {
        let (_folder, store) = world();
        create(&store, "good", b"x").unwrap();
        fs::write(store.path("torn"), b"{\"id\":").unwrap();
        fs::copy(store.path("good"), store.path("moved")).unwrap();
        std::os::unix::fs::symlink(store.path("good"), store.path("link")).unwrap();
        fs::write(store.directory.join("new.999999999.x"), b"half").unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.find("torn").is_err() && store.find("moved").is_err());
        create(&store, "next", b"x").unwrap();
        assert!(!store.directory.join("new.999999999.x").exists());
        // A damaged one can be replaced.
        assert!(create(&store, "torn", b"x").is_err());
    }
}
