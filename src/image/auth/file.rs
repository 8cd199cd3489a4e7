//! One file of credentials, as podman and docker write it. What is not known here is kept.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Credentials;
use crate::error::{Error, Result, Step};

/// No file of credentials is larger, in bytes.
const LARGEST: u64 = 4 << 20;

/// A file that was read and has the right shape.
#[derive(Debug, Clone, Default)]
pub struct AuthFile {
    whole: Map<String, Value>,
    name: String,
}

/// What stands under the name of a registry.
pub struct Entry(Value);

impl Entry {
    pub fn of(credentials: &Credentials) -> Self {
        Self(match credentials {
            Credentials::Password { user, password } => {
                json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })
            }
            // docker writes a user of no meaning with a token.
            Credentials::Token(token) => json!({
                "auth": STANDARD.encode("00000000-0000-0000-0000-000000000000:"),
                "identitytoken": token,
            }),
        })
    }
}

impl AuthFile {
    /// Reads the file; None where there is none.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let failed = || format!("cannot read the credentials in `{}`", path.display());
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(LARGEST).read_to_string(&mut text).step(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => return Ok(None),
            Err(error) => return Err(Error::new(failed()).because(error)),
        };
        Self::parse(&text, &path.display().to_string()).map(Some)
    }

    /// Reads the text of a file with this name. An empty text is an empty file.
    ///
    /// # Errors
    /// It is no JSON, or of another shape.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let refused = |why: String| {
            Err(Error::new(format!("cannot read the credentials in `{name}`"))
                .because(why)
                .hint("mend the file, or remove it and log in again"))
        };
        if text.trim().is_empty() {
            return Ok(Self { whole: Map::new(), name: name.to_owned() });
        }
        let whole: Map<String, Value> = match serde_json::from_str(text) {
            Ok(whole) => whole,
            Err(error) => return refused(error.to_string()),
        };
        for field in ["auths", "credHelpers"] {
            match whole.get(field) {
                None | Some(Value::Null | Value::Object(_)) => {}
                Some(_) => return refused(format!("`{field}` is no object")),
            }
        }
        Ok(Self { whole, name: name.to_owned() })
    }

    fn object(&self, field: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.whole.get(field).and_then(Value::as_object).into_iter().flatten()
    }

    /// The helper that keeps what belongs to `key`: that of the registry itself, else the one for all.
    pub fn helper_of(&self, key: &str) -> Option<&str> {
        let own = self.object("credHelpers").find(|(name, _)| normal(name) == key);
        own.map(|(_, helper)| helper)
            .or_else(|| self.whole.get("credsStore"))
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// All helpers that the file names.
    pub fn helpers(&self) -> Vec<String> {
        let all = self.object("credHelpers").map(|(_, helper)| helper).chain(self.whole.get("credsStore"));
        let mut names: Vec<String> =
            all.filter_map(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    pub fn has(&self, key: &str) -> bool {
        self.object("auths").any(|(name, _)| normal(name) == key)
    }

    /// The credentials under `key`; an exact name comes before one that docker wrote long ago as a URL.
    ///
    /// # Errors
    /// The entry has another shape.
    pub fn get(&self, key: &str) -> Result<Option<Credentials>> {
        let exact = self.object("auths").find(|(name, _)| *name == key);
        let found = exact.or_else(|| self.object("auths").find(|(name, _)| normal(name) == key));
        let Some((_, entry)) = found else { return Ok(None) };
        credentials(entry).map_err(|why| {
            Error::new(format!("cannot read the credentials for `{key}` in `{}`", self.name))
                .because(why)
                .hint(format!("log in again: `sbx login {key}`"))
        })
    }

    pub fn put(&mut self, key: &str, entry: &Entry) {
        self.remove(key);
        let auths = self.whole.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key.to_owned(), entry.0.clone());
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(auths) = self.whole.get_mut("auths").and_then(Value::as_object_mut) {
            auths.retain(|name, _| normal(name) != key);
        }
    }

    pub fn remove_all(&mut self) {
        self.whole.insert("auths".to_owned(), json!({}));
    }

    /// The text, indented by a tab as docker and podman do.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, tabs);
        // A map of JSON values always can be written.
        let _ = serde::Serialize::serialize(&self.whole, &mut writer);
        String::from_utf8_lossy(&bytes).into_owned() + "\n"
    }
}

fn credentials(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    let field = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = field("identitytoken") {
        return Ok(Some(Credentials::Token(token.to_owned())));
    }
    if let Some(auth) = field("auth") {
        let bytes = STANDARD.decode(auth).map_err(|_| "`auth` is no base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is no text")?;
        let (user, password) = text.split_once(':').ok_or("`auth` has no `:` between user and password")?;
        return Ok(Some(Credentials::Password {
            user: user.to_owned(),
            // Written so by early versions of docker.
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    // docker leaves an empty entry where a helper keeps what belongs there.
    let Some(user) = field("username") else { return Ok(None) };
    Ok(Some(Credentials::Password {
        user: user.to_owned(),
        password: field("password").unwrap_or_default().to_owned(),
    }))
}

/// A key as podman writes it: docker's are URLs, and that of its hub has a name of its own.
fn normal(key: &str) -> &str {
    let (bare, is_url) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(bare) => (bare, true),
        None => (key, false),
    };
    let bare = if is_url { bare.split('/').next().unwrap_or(bare) } else { bare };
    match bare {
        "index.docker.io" | "index.docker.io/v1" | "index.docker.io/v1/" => "docker.io",
        bare => bare,
    }
}

/// Reads the file, changes it and writes it anew with mode 0600, visible by one rename. Who else does the same
/// waits; a symlink stays one.
///
/// # Errors
/// The file cannot be understood, or not be written.
pub fn change(path: &Path, change: impl FnOnce(&mut AuthFile)) -> Result<()> {
    let failed = || format!("cannot write the credentials to `{}`", path.display());
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).step(failed)?;
    let lock = File::open(directory).step(failed)?;
    // Where the file system has no locks, the last one wins.
    let _ = rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive);
    let mut file = AuthFile::read(&target)?.unwrap_or_default();
    change(&mut file);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let half = directory.join(format!(".{name}.{}", std::process::id()));
    let written = write_new(&half, file.text().as_bytes()).and_then(|()| fs::rename(&half, &target));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written.step(failed)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
