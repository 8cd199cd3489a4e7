//! `--secret` and `--ssh`: what commands may read and no image has.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::build::keys::Signer;
use crate::build::mounts::Secret;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Commands of RUN")]
pub struct SecretOptions {
    /// Give a secret to `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=VARIABLE`
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Let `RUN --mount=type=ssh` have signatures of an SSH agent or of keys: `default`, `ID=SOCKET`, `ID=KEY[,KEY…]`
    #[arg(long, value_name = "ID[=SOCKET|KEY]")]
    ssh: Vec<String>,
}

impl SecretOptions {
    /// # Errors
    /// A secret is not understood.
    pub fn secrets(&self) -> Result<BTreeMap<String, Secret>> {
        self.secret.iter().map(|text| secret(text)).collect()
    }

    /// # Errors
    /// An agent or a key is not there.
    pub fn signers(&self) -> Result<BTreeMap<String, Signer>> {
        self.ssh.iter().map(|text| signer(text)).collect()
    }
}

/// `ID` is the caller's own agent.
fn signer(text: &str) -> Result<(String, Signer)> {
    let refused =
        |why: String| Error::new(format!("cannot use `--ssh {}`", text.escape_debug())).because(why);
    let (id, named) = match text.split_once('=') {
        None => (text, None),
        Some((id, named)) => (id, Some(named)),
    };
    if id.is_empty() {
        return Err(refused("it has no ID".to_owned()));
    }
    let paths: Vec<PathBuf> = match named {
        Some(named) => named.split(',').map(PathBuf::from).collect(),
        None => {
            let own = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
            vec![own.map(PathBuf::from).ok_or_else(|| {
                refused("there is no SSH agent: $SSH_AUTH_SOCK is not set".to_owned()).hint(format!(
                    "start one: `eval $(ssh-agent) && ssh-add`, or name a key: `--ssh {id}=KEY`"
                ))
            })?]
        }
    };
    let mut sockets = 0;
    for path in &paths {
        let found = path.metadata();
        let found =
            found.map_err(|error| refused(format!("cannot look at `{}`: {error}", path.display())))?;
        sockets += usize::from(found.file_type().is_socket());
    }
    match (sockets, <[PathBuf; 1]>::try_from(paths)) {
        (1, Ok([socket])) => Ok((id.to_owned(), Signer::Agent(socket))),
        (0, Ok([key])) => Ok((id.to_owned(), Signer::Keys(vec![key]))),
        (0, Err(keys)) => Ok((id.to_owned(), Signer::Keys(keys))),
        _ => Err(refused("it names a socket beside others".to_owned())
            .hint("name the socket of one agent, or the files of keys")),
    }
}

/// `id=ID,src=FILE` or `id=ID,env=VARIABLE`; without both, the variable or file of that name.
fn secret(text: &str) -> Result<(String, Secret)> {
    let refused = |why: String| {
        Error::new(format!("cannot use `--secret {}`", text.escape_debug()))
            .because(why)
            .hint("write `id=ID,src=FILE` or `id=ID,env=VARIABLE`")
    };
    let (mut id, mut found, mut kind) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => found = Some(Secret::File(value.into())),
            Some(("env", value)) => found = Some(Secret::Variable(value.to_owned())),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value.to_owned()),
            _ => return Err(refused(format!("`{}` is not known", field.escape_debug()))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| refused("it has no `id`".to_owned()))?;
    let secret = match (found, kind.as_deref()) {
        (Some(Secret::File(path)), Some("env")) => Secret::Variable(path.display().to_string()),
        (Some(found), _) => found,
        (None, Some("file")) => Secret::File(id.clone().into()),
        (None, _) if std::env::var_os(&id).is_some() => Secret::Variable(id.clone()),
        (None, _) => Secret::File(id.clone().into()),
    };
    Ok((id, secret))
}
