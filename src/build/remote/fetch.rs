//! Reading a cache that is elsewhere. What is asked of a registry is asked by processes in the user namespace, each with
//! connections of its own.

use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::document::Bundle;
use crate::build::builder::Builder;
use crate::build::cache::Record;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{
    self, Descriptor, Index, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, media_type,
};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::transfer::archive::members::Members;
use crate::image::transfer::layer::{self, Layer, Origin};
use crate::image::transfer::session::Session;
use crate::registry::{Client, Kind};

/// There is no such cache, for the first build perhaps.
#[derive(Debug, Serialize, Deserialize)]
pub struct Missing(pub String);

pub enum Source {
    Registry(Client, Reference),
    Directory(PathBuf, Option<Digest>),
}

impl Source {
    pub fn name(&self) -> String {
        match self {
            Self::Registry(_, name) => name.familiar(),
            Self::Directory(path, _) => path.display().to_string(),
        }
    }

    /// All steps of a cache.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn bundle(&self, wanted: &Wanted, session: &Session) -> Result<std::result::Result<Bundle, Missing>> {
        match self {
            Self::Registry(client, name) => match client.manifest(name) {
                Ok(found) => {
                    self.of_manifest(client, name, (&found.media_type, found.bytes), Some(wanted)).map(Ok)
                }
                Err(failure) if failure.kind == Kind::NotFound => {
                    Ok(Err(Missing(failure.error.message().to_owned())))
                }
                Err(failure) => Err(failure.error),
            },
            Self::Directory(path, digest) => {
                let named = path.join("index.json").display().to_string();
                let failed = || format!("cannot read `{named}`");
                let members = match path.exists() {
                    true => Members::of_directory(path)?,
                    false => return Ok(Err(Missing(format!("`{named}` is not there")))),
                };
                let Some(index) = members.document("index.json", LARGEST_MANIFEST, session)? else {
                    return Ok(Err(Missing(format!("`{named}` is not there"))));
                };
                let index: Index = documents::parse(&named, &index)?;
                let digest = match digest {
                    Some(digest) => digest.clone(),
                    None => match index.manifests.as_slice() {
                        [only] => only.digest.clone(),
                        _ => {
                            return Err(Error::new(failed())
                                .because("it has not just one image")
                                .hint("name one with `digest=`"));
                        }
                    },
                };
                let blob = |digest: &Digest, most| document(&members, digest, most, session);
                let manifest = blob(&digest, LARGEST_MANIFEST)?;
                let parsed: Manifest = documents::parse("the manifest", &manifest)?;
                let config = blob(&parsed.config.digest, LARGEST_CONFIG)?;
                Bundle::read(&self.name(), &manifest, &config).map(Ok)
            }
        }
    }

    fn of_manifest(
        &self,
        client: &Client,
        name: &Reference,
        (kind, bytes): (&str, Vec<u8>),
        wanted: Option<&Wanted>,
    ) -> Result<Bundle> {
        if let (true, Some(wanted)) = (media_type::is_index(kind), wanted) {
            let index: Index = documents::parse(&name.familiar(), &bytes)?;
            let chosen = wanted.choose(&index, &name.familiar())?;
            let name = Reference { tag: None, digest: Some(chosen.digest.clone()), ..name.clone() };
            let found = client.manifest(&name)?;
            return self.of_manifest(client, &name, (&found.media_type, found.bytes), None);
        }
        let manifest: Manifest = documents::parse(&name.familiar(), &bytes)?;
        let failed = || format!("cannot read the cache `{}`", name.familiar());
        let config = bounded(client.blob(name, &manifest.config, 0)?, LARGEST_CONFIG)?;
        if Digest::of(&config) != manifest.config.digest {
            return Err(
                Error::new(failed()).because("its configuration has another digest than its manifest says")
            );
        }
        Bundle::read(&name.familiar(), &bytes, &config)
    }

    /// One step of a repository with a tag for each; none: it was not carried out there.
    ///
    /// # Errors
    /// The registry cannot be reached.
    pub fn step(&self, key: &Digest, oldest: Option<SystemTime>) -> Result<Option<Record>> {
        let Self::Registry(client, repository) = self else { return Ok(None) };
        let name = tag_of(repository, key);
        match client.manifest(&name) {
            Ok(found) => {
                let mut bundle = self.of_manifest(client, &name, (&found.media_type, found.bytes), None)?;
                Ok(bundle.records.remove(key).filter(|_| !bundle.is_older_than(oldest)))
            }
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    /// Brings the layer of a record into the store.
    ///
    /// # Errors
    /// It is not what its digests say, or cannot be had.
    pub fn bring(&self, builder: &Builder<'_>, session: &Session, record: Record) -> Result<Record> {
        let Some(mut made) = record.layer else { return Ok(record) };
        let open = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>> {
            Ok(match self {
                Self::Registry(client, name) => Box::new(client.blob(name, blob, offset)?),
                Self::Directory(path, _) => {
                    let name = name_of(&blob.digest);
                    let found = Members::of_directory(path)?.find(&name)?;
                    found.ok_or_else(|| missing(&name))?.open(offset, session)?
                }
            })
        };
        builder.lease.add(&made.blob.digest)?;
        builder.lease.add(&made.diff_id)?;
        let bar = session.progress.bar(made.blob.digest.short(), made.blob.size);
        let layer = Layer { blob: &made.blob, diff_id: &made.diff_id };
        made.size = layer::bring(session, layer, &bar, &Origin { action: "Downloading", open: &open })?;
        Ok(Record { layer: Some(made) })
    }
}

/// The name of a step in a repository.
pub fn tag_of(repository: &Reference, key: &Digest) -> Reference {
    Reference { tag: Some(key.hex().to_owned()), digest: None, ..repository.clone() }
}

/// A blob of a layout (OCI image layout, "Blobs").
fn name_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn missing(name: &str) -> Error {
    Error::new(format!("cannot find `{name}` in the directory"))
}

fn document(members: &Members, digest: &Digest, most: u64, session: &Session) -> Result<Vec<u8>> {
    let name = name_of(digest);
    let bytes = members.document(&name, most, session)?.ok_or_else(|| missing(&name))?;
    match Digest::of(&bytes) == *digest {
        true => Ok(bytes),
        false => Err(Error::new(format!("cannot read `{name}`")).because("its content has another digest")),
    }
}

fn bounded(source: impl Read, most: u64) -> Result<Vec<u8>> {
    let failed = || "cannot read a document of the cache";
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes).step(failed)?;
    match bytes.len() as u64 > most {
        true => Err(Error::new(failed()).because(format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
}
