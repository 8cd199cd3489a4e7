//! The copies that a container keeps of its secrets: `containers/<id>/secrets.json`, mode 0600.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{LARGEST, SecretStore, base64, missing};
use crate::container::directory::ContainerDirectory;
use crate::container::spec::Spec;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::records::read;

/// Secrets of one container, at most.
const MOST: u64 = 1000;

/// Data by the IDs of the secrets.
pub type Values = BTreeMap<String, Vec<u8>>;

/// Copies the secrets that a new container names into its directory. Where it names none nothing is made.
///
/// # Errors
/// One was removed meanwhile, or there is no room.
pub fn keep(store: &Path, spec: &Spec, directory: &ContainerDirectory) -> Result<()> {
    let mut wanted = spec.secrets().peekable();
    if wanted.peek().is_none() {
        return Ok(());
    }
    let secrets = SecretStore::new(store);
    let mut values = BTreeMap::new();
    for (id, name) in wanted {
        let found = secrets.find(name)?.filter(|found| found.id == id).ok_or_else(|| missing(name))?;
        values.insert(id, base64(&found.data));
    }
    if values.len() as u64 > MOST {
        return Err(
            Error::new("cannot make the container").because(format!("it has more than {MOST} secrets"))
        );
    }
    let path = directory.secrets();
    let failed = || format!("cannot write `{}`", path.display());
    let text = serde_json::to_vec(&values).step(failed)?;
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(&path).and_then(|mut file| file.write_all(&text)).map_err(|error| no_room(error, failed()))
}

/// The copies of a container; none where it has no secrets. Only the caller can read them: before the change of IDs.
///
/// # Errors
/// They are not there, or damaged.
pub fn values(spec: &Spec, directory: &ContainerDirectory) -> Result<Values> {
    if spec.secrets().next().is_none() {
        return Ok(Values::new());
    }
    let failed = || "cannot read the secrets of the container";
    let text = read(&directory.secrets(), MOST * 2 * LARGEST).step(failed)?;
    let encoded: BTreeMap<String, String> = serde_json::from_slice(&text).step(failed)?;
    let decode = |(id, text): (String, String)| Ok((id, STANDARD.decode(text).step(failed)?));
    encoded.into_iter().map(decode).collect()
}

/// `NAME=VALUE` of the secrets that are variables.
///
/// # Errors
/// One is missing, or cannot be a variable's value.
pub fn variables(spec: &Spec, values: &Values) -> Result<Vec<String>> {
    let variable = |wanted: &crate::container::spec::SecretEnv| {
        let failed =
            || format!("cannot set the variable `{}` from the secret `{}`", wanted.variable, wanted.name);
        let data =
            values.get(&wanted.secret).ok_or_else(|| Error::new(failed()).because("its copy is gone"))?;
        if data.contains(&0) {
            return Err(Error::new(failed())
                .because("it contains a NUL byte")
                .hint("mount it as a file instead"));
        }
        let text = std::str::from_utf8(data).map_err(|_| {
            Error::new(failed()).because("it is not UTF-8").hint("mount it as a file instead")
        })?;
        Ok(format!("{}={text}", wanted.variable))
    };
    spec.secret_env.iter().map(variable).collect()
}
