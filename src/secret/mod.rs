//! Secrets: small pieces of data that containers are given without being in an image.
//!
//! `<store>/secrets/s.NAME` is one secret with its data, mode 0600, and appears by one rename. A container keeps a copy
//! of those it was made with ([`copies`]): it starts again with the same data, whatever becomes of the secret.

pub mod copies;
pub mod option;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::container::store::no_room;
use crate::error::{Error, Result};
use crate::records::Records;

/// podman's limit (podman-secret-create(1)), in bytes.
pub const LARGEST: u64 = 512_000;
/// podman's limit.
const LONGEST_NAME: usize = 253;
const ID_LENGTH: usize = 25;

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
    records: Records,
}

impl SecretStore {
    /// Those of the store below `store`; nothing is made before something is written.
    pub fn new(store: &Path) -> Self {
        Self { records: Records::in_directory(store.join("secrets")) }
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
        self.records.write(&secret.name, &serde_json::to_vec(secret)?, replace)
    }

    fn named(&self, name: &str) -> Result<Option<Secret>> {
        self.records.value("the secret", name, |secret: &Secret| secret.name == name)
    }

    /// Every secret, by name. One that is damaged is told and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Secret>> {
        let read = |name: String| match self.named(&name) {
            Ok(found) => found,
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        Ok(self.records.names()?.into_iter().filter_map(read).collect())
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
        let failed = || format!("cannot remove the secret `{}`", secret.name);
        self.records.remove(&secret.name).map_err(|error| no_room(error, failed()))
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

/// As `inspect` and the copies show data.
pub fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

#[cfg(test)]
mod tests {
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
    fn messages_have_no_data() {
        let (_folder, store) = world();
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
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
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
    fn what_is_damaged_harms_nobody() {
        let (_folder, store) = world();
        create(&store, "good", b"x").unwrap();
        let good = store.records.read("good").unwrap().unwrap();
        store.records.write("torn", b"{\"id\":", false).unwrap();
        store.records.write("moved", &good, false).unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.find("torn").is_err() && store.find("moved").is_err());
        assert!(create(&store, "torn", b"x").is_err(), "the name is taken");
    }
}
