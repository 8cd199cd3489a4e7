//! The cache of builds elsewhere: in a registry, a directory, or an image. What is there is an OCI image whose layers
//! are those of steps, and whose configuration says which step each is of ([`document`]).
//!
//! What comes back is taken for a step by its key alone, so whoever can write there decides what steps come to; that it
//! is what the document says is verified by digest and diff ID, as of any image.

pub mod document;
mod fetch;
mod send;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::build::builder::Builder;
use crate::build::cache::Record;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::transfer::convert::Packing;
use crate::registry::{self, Client};
use document::Bundle;
use fetch::{Missing, Source};

pub use send::send;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// All steps in one image.
    Registry(Reference),
    /// A tag for each step, its key.
    Repository(Reference),
    /// An OCI layout, and which of its images.
    Directory { directory: PathBuf, digest: Option<Digest> },
    /// In the image that is built.
    #[default]
    Inline,
}

/// `--cache-from`
#[derive(Debug, Clone)]
pub struct Import {
    pub place: Place,
    pub insecure: bool,
}

/// `--cache-to`
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub place: Place,
    pub insecure: bool,
    /// Else the steps of the image alone.
    pub all_stages: bool,
    pub packing: Option<Packing>,
    pub ignores_failure: bool,
}

/// What others have carried out.
#[derive(Default)]
pub struct Remote(Vec<Known>);

struct Known {
    source: Source,
    /// None: each step is asked for.
    bundle: Option<Bundle>,
    /// It does not answer: it is not asked again.
    is_gone: AtomicBool,
}

/// The options of a registry with which one place is reached.
fn options(registry: &registry::Options, insecure: bool) -> registry::Options {
    match insecure {
        true => registry::Options { tls_verify: Some(false), ..registry.clone() },
        false => registry.clone(),
    }
}

impl Remote {
    /// Reads what the places have. One that cannot be read is warned of, and left out.
    ///
    /// # Errors
    /// The registries of this machine are not understood.
    pub fn open(
        builder: &Builder<'_>,
        imports: &[Import],
        registry: &registry::Options,
        oldest: Option<SystemTime>,
    ) -> Result<Self> {
        let mut known = Vec::new();
        for import in imports {
            let source = match &import.place {
                Place::Registry(name) | Place::Repository(name) => {
                    let client = Client::new(options(registry, import.insecure))?;
                    // Programs that know credentials are asked outside of user namespaces.
                    let _ = client.look_up_credentials(name);
                    Source::Registry(client, name.clone())
                }
                Place::Directory { directory, digest } => {
                    Source::Directory(directory.clone(), digest.clone())
                }
                Place::Inline => continue,
            };
            let bundle = match &import.place {
                Place::Repository(_) => None,
                _ => match builder.inside(|session| source.bundle(&builder.surroundings.platform, session)) {
                    Ok(Ok(bundle)) if bundle.is_older_than(oldest) => continue,
                    Ok(Ok(bundle)) => Some(bundle),
                    Ok(Err(Missing(what))) => {
                        builder.report.line(&format!("There is no cache yet: {what}"));
                        continue;
                    }
                    Err(error) => {
                        let why = format!("no steps are taken from `{}`: {}", source.name(), told(&error));
                        builder.report.warn(&why);
                        continue;
                    }
                },
            };
            known.push(Known { source, bundle, is_gone: AtomicBool::new(false) });
        }
        Ok(Self(known))
    }

    /// What the step with the key came to elsewhere, brought into the store.
    pub fn find(&self, builder: &Builder<'_>, key: &Digest, oldest: Option<SystemTime>) -> Option<Record> {
        let asked = self.0.iter().filter(|known| !known.is_gone.load(Ordering::Relaxed));
        for known in asked {
            let record = match &known.bundle {
                Some(bundle) => bundle.records.get(key).cloned().map_or(Ok(None), |record| Ok(Some(record))),
                None => builder.inside(|_| known.source.step(key, oldest)),
            };
            let brought = match record {
                Ok(None) => continue,
                Ok(Some(record)) => builder.inside(|session| known.source.bring(builder, session, record)),
                Err(error) => {
                    known.is_gone.store(true, Ordering::Relaxed);
                    Err(error)
                }
            };
            match brought {
                Ok(record) => return Some(record),
                Err(error) => {
                    let why = format!("a step of `{}` cannot be used: {}", known.source.name(), told(&error));
                    builder.report.warn(&why);
                }
            }
        }
        None
    }
}

fn told(error: &Error) -> String {
    let causes = error.causes().iter().map(String::as_str);
    std::iter::once(error.message()).chain(causes).collect::<Vec<_>>().join(": ")
}
