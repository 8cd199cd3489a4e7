//! Credentials for registries (containers-auth.json(5), docker's config.json): where they are kept, which ones a
//! repository gets, and how login and logout change them.

pub mod file;
mod helper;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::paths::{Surroundings, home};
use file::{AuthFile, Entry};
use helper::Helper;

/// The entry of `credential-helpers` that stands for the files themselves (containers-registries.conf(5)).
pub const FILES: &str = "containers-auth.json";
/// What docker calls the registry that everybody else calls `docker.io`.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a registry is told of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token, for the token server alone.
    Token(String),
}

impl Credentials {
    /// `--creds USER[:PASSWORD]`
    pub fn parse(text: &str) -> Self {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Self::Password { user: user.to_owned(), password: password.to_owned() }
    }

    /// The name of the user, where there is one.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::Token(_) => None,
        }
    }
}

/// Never the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "the password of {user:?}"),
            Self::Token(_) => f.write_str("a token"),
        }
    }
}

/// Where credentials are looked for and kept.
#[derive(Debug, Clone)]
pub struct AuthStore {
    /// In the order in which they are read; the first is written.
    files: Vec<PathBuf>,
    /// `credential-helpers` of registries.conf(5).
    helpers: Vec<String>,
}

impl AuthStore {
    /// `--authfile`, REGISTRY_AUTH_FILE or DOCKER_CONFIG alone where one is set; else
    /// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and ~/.docker/config.json.
    pub fn find(authfile: Option<&Path>, helpers: &[String]) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let alone = authfile
            .map(Path::to_owned)
            .or_else(|| variable("REGISTRY_AUTH_FILE"))
            .or_else(|| variable("DOCKER_CONFIG").map(|directory| directory.join("config.json")));
        let files = match alone {
            Some(file) => vec![file],
            None => {
                let surroundings = Surroundings::current();
                // Without a home there is nothing kept; that is an error only to those who want to keep something.
                let home = home(&surroundings).ok();
                let config = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
                let config = config.or_else(|| Some(home.as_ref()?.join(".config")));
                let runtime = surroundings.xdg_runtime_dir.map(PathBuf::from);
                let runtime = runtime.filter(|path| path.is_absolute() && path.is_dir());
                let mut files: Vec<PathBuf> =
                    runtime.map(|path| path.join("containers/auth.json")).into_iter().collect();
                files.extend(config.map(|config| config.join("containers/auth.json")));
                files.extend(home.map(|home| home.join(".docker/config.json")));
                files
            }
        };
        let helpers = if helpers.is_empty() { vec![FILES.to_owned()] } else { helpers.to_vec() };
        Self { files, helpers }
    }

    /// The credentials for `repository` (`quay.io/org/name`, or a registry alone): the longest name that leads to it
    /// in the first place that has one.
    ///
    /// # Errors
    /// A file cannot be read or understood, or a helper fails.
    pub fn get(&self, repository: &str) -> Result<Option<Credentials>> {
        let keys = keys(repository);
        for place in &self.helpers {
            let found = if place == FILES {
                self.get_from_files(&keys)?
            } else {
                get_from_helper(&Helper::named(place)?, &keys)?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn get_from_files(&self, keys: &[String]) -> Result<Option<Credentials>> {
        for path in &self.files {
            let Some(file) = AuthFile::read(path)? else { continue };
            for key in keys {
                if let Some(name) = file.helper_of(key) {
                    if let Some(found) = get_from_helper(&Helper::named(name)?, std::slice::from_ref(key))? {
                        return Ok(Some(found));
                    }
                } else if let Some(found) = file.get(key)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Keeps credentials under `key` and says where.
    ///
    /// # Errors
    /// The file cannot be changed, or the helper fails.
    pub fn put(&self, key: &str, credentials: &Credentials) -> Result<String> {
        if let Some(name) = self.helpers.first().filter(|place| *place != FILES) {
            Helper::named(name)?.store(key, credentials)?;
            return Ok(format!("the helper `docker-credential-{name}`"));
        }
        let path = self.file()?;
        let helper = AuthFile::read(path)?.and_then(|file| file.helper_of(key).map(str::to_owned));
        if let Some(name) = helper {
            Helper::named(&name)?.store(helper_key(key), credentials)?;
            return Ok(format!("the helper `docker-credential-{name}`"));
        }
        file::change(path, |file| file.put(key, &Entry::of(credentials)))?;
        Ok(format!("`{}`", path.display()))
    }

    /// Forgets what is kept under `key`; false where there was nothing.
    ///
    /// # Errors
    /// As [`AuthStore::put`].
    pub fn remove(&self, key: &str) -> Result<bool> {
        let mut removed = false;
        for name in self.helpers.iter().filter(|place| *place != FILES) {
            removed |= Helper::named(name)?.erase(key)?;
        }
        let path = self.file()?;
        let Some(file) = AuthFile::read(path)? else { return Ok(removed) };
        if let Some(name) = file.helper_of(key) {
            removed |= Helper::named(name)?.erase(helper_key(key))?;
        }
        if file.has(key) {
            file::change(path, |file| file.remove(key))?;
            removed = true;
        }
        Ok(removed)
    }

    /// Forgets everything that the written file and its helpers keep.
    ///
    /// # Errors
    /// As [`AuthStore::put`].
    pub fn remove_all(&self) -> Result<()> {
        let mut names: Vec<String> = self.helpers.iter().filter(|place| *place != FILES).cloned().collect();
        let path = self.file()?;
        let file = AuthFile::read(path)?;
        if let Some(file) = &file {
            names.extend(file.helpers());
        }
        for name in names {
            let helper = Helper::named(&name)?;
            for key in helper.list()? {
                helper.erase(&key)?;
            }
        }
        if file.is_some() {
            file::change(path, AuthFile::remove_all)?;
        }
        Ok(())
    }

    /// Where the files' other credentials for `key` are, which logout does not touch.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub fn elsewhere(&self, key: &str) -> Result<Option<&Path>> {
        for path in self.files.iter().skip(1) {
            if AuthFile::read(path)?.is_some_and(|file| file.has(key)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The file that is written.
    ///
    /// # Errors
    /// There is no place for one.
    pub fn file(&self) -> Result<&Path> {
        self.files.first().map(PathBuf::as_path).ok_or_else(|| {
            Error::new("cannot keep credentials")
                .because("neither HOME nor XDG_RUNTIME_DIR is set")
                .hint("name a file with `--authfile FILE` or REGISTRY_AUTH_FILE")
        })
    }
}

fn get_from_helper(helper: &Helper, keys: &[String]) -> Result<Option<Credentials>> {
    for key in keys {
        for name in helper_keys(key) {
            if let Some(found) = helper.get(name)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The names under which a helper may know a registry; docker's own of its hub comes first.
fn helper_keys(key: &str) -> Vec<&str> {
    if key == "docker.io" { vec![DOCKER_HUB, key] } else { vec![key] }
}

fn helper_key(key: &str) -> &str {
    helper_keys(key)[0]
}

/// `quay.io/org/name`, `quay.io/org`, `quay.io`.
fn keys(repository: &str) -> Vec<String> {
    let mut keys = vec![repository.to_owned()];
    let mut rest = repository;
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        keys.push(shorter.to_owned());
        rest = shorter;
    }
    keys
}

/// The key of `login REGISTRY[/NAMESPACE]`, without what people paste in front and behind.
///
/// # Errors
/// It is no host name with an optional port and namespace.
pub fn key(text: &str) -> Result<String> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => return Ok("docker.io".to_owned()),
        host => host,
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let is_path = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) || path.is_some_and(|path| !path.bytes().all(is_path)) {
        return Err(Error::new(format!("cannot use `{}` as the name of a registry", text.escape_debug()))
            .hint("write `HOST[:PORT]`, such as `quay.io` or `localhost:5000`, or `HOST/NAMESPACE`"));
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests;
