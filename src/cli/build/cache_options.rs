//! `--cache-from`, `--cache-to` and their kin: which steps other builds have carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::build::remote::{Export, Import, Place};
use crate::container::duration;
use crate::container::volume::csv;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::transfer::convert::Packing;

/// Which steps earlier builds have carried out.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheOptions {
    /// Carry out every step, whatever earlier builds have left
    #[arg(long)]
    pub no_cache: bool,
    /// Carry out every step of this stage
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Take steps that others have carried out: REPOSITORY, with a tag for each step; `type=registry,ref=NAME`, also that
    /// of an image with `type=inline`; `type=local,src=DIR`. Whoever can write there decides what the steps come to
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Bring what the steps come to there: REPOSITORY, `type=registry,ref=NAME`, `type=local,dest=DIR`, `type=inline` (into
    /// the image); with `mode=min` what the image is made of alone, with `mode=max` all stages
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Take no steps that were carried out longer ago than this: `24h`
    #[arg(long, value_name = "TIME")]
    cache_ttl: Option<String>,
}

impl CacheOptions {
    /// # Errors
    /// A place is not understood.
    pub fn imports(&self) -> Result<Vec<Import>> {
        self.cache_from.iter().map(|text| import(text)).collect()
    }

    /// # Errors
    /// As of [`Self::imports`].
    pub fn exports(&self) -> Result<Vec<Export>> {
        self.cache_to.iter().map(|text| export(text)).collect()
    }

    /// # Errors
    /// It is no time.
    pub fn ttl(&self) -> Result<Option<Duration>> {
        self.cache_ttl.as_deref().map(|text| duration::parse("--cache-ttl", text)).transpose()
    }
}

/// The fields of one option that have not been read yet.
struct Fields<'t> {
    flag: &'static str,
    text: &'t str,
    fields: BTreeMap<String, String>,
}

impl<'t> Fields<'t> {
    fn read(flag: &'static str, text: &'t str) -> Result<Self> {
        let mut fields = Self { flag, text, fields: BTreeMap::new() };
        for field in csv::fields(text).map_err(|why| fields.refused(why))? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| fields.refused(format!("`{field}` has no value")))?;
            fields.fields.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
        Ok(fields)
    }

    fn refused(&self, why: impl std::fmt::Display) -> Error {
        Error::new(format!("cannot use `{} {}`", self.flag, self.text.escape_debug()))
            .because(why)
            .hint("there are: REPOSITORY, `type=registry,ref=NAME`, `type=local,src=DIR` or `dest=DIR`, `type=inline`")
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.fields.remove(key)
    }

    fn need(&mut self, key: &str) -> Result<String> {
        self.take(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.refused(format!("it has no `{key}`")))
    }

    fn switch(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(self.refused(format!("`{key}` is true or false"))),
        }
    }

    fn end(self) -> Result<()> {
        match self.fields.keys().next() {
            Some(key) => Err(self.refused(format!("`{}` is not known", key.escape_debug()))),
            None => Ok(()),
        }
    }

    fn unknown(&self, kind: &str) -> Error {
        match kind {
            "gha" | "s3" | "azblob" => self.refused(
                "caches of a cloud's own interface are not reached: a registry or directory takes one",
            ),
            _ => self.refused(format!("there is no type `{}`", kind.escape_debug())),
        }
    }
}

/// A place in a registry: without a tag a repository that has one for each step, as podman has it.
fn bare(text: &str) -> Result<Place> {
    let reference = Reference::parse(text)?;
    Ok(match (&reference.tag, &reference.digest) {
        (None, None) => Place::Repository(reference),
        _ => Place::Registry(reference),
    })
}

fn import(text: &str) -> Result<Import> {
    if !text.contains('=') {
        return Ok(Import { place: bare(text)?, insecure: false });
    }
    let mut fields = Fields::read("--cache-from", text)?;
    let place = match fields.need("type")?.as_str() {
        "registry" => Place::Registry(Reference::parse(&fields.need("ref")?)?.or_latest()),
        "local" => {
            let directory = fields.need("src")?.into();
            let digest = fields.take("digest").map(|text| text.parse::<Digest>()).transpose();
            let digest = digest.map_err(|error| fields.refused(error))?;
            Place::Directory { directory, digest }
        }
        "inline" => {
            return Err(
                fields.refused("what is in an image is taken from its registry: `type=registry,ref=IMAGE`")
            );
        }
        other => return Err(fields.unknown(other)),
    };
    let insecure = fields.switch("registry.insecure")? == Some(true);
    fields.end()?;
    Ok(Import { place, insecure })
}

fn export(text: &str) -> Result<Export> {
    if !text.contains('=') {
        // podman brings the steps of all stages there.
        return Ok(Export { place: bare(text)?, all_stages: true, ..Export::default() });
    }
    let mut fields = Fields::read("--cache-to", text)?;
    let place = match fields.need("type")?.as_str() {
        "registry" => Place::Registry(Reference::parse(&fields.need("ref")?)?.or_latest()),
        "local" => Place::Directory { directory: fields.need("dest")?.into(), digest: None },
        "inline" => Place::Inline,
        other => return Err(fields.unknown(other)),
    };
    let all_stages = match fields.take("mode").as_deref() {
        // BuildKit's default is the one that a registry has room for.
        None | Some("min") => false,
        Some("max") => true,
        Some(_) => return Err(fields.refused("`mode` is min or max")),
    };
    if place == Place::Inline && all_stages {
        return Err(
            fields.refused("an image has its own layers alone: `mode=max` needs a cache apart from it")
        );
    }
    for key in ["oci-mediatypes", "image-manifest"] {
        if fields.switch(key)? == Some(false) {
            return Err(
                fields.refused(format!("a cache is always an OCI image: `{key}=false` cannot be honoured"))
            );
        }
    }
    let (kind, level) = (fields.take("compression"), fields.take("compression-level"));
    let forced = fields.switch("force-compression")?;
    let packing: Option<Packing> =
        super::output_options::packing(kind.as_deref(), level.as_deref(), forced, &|why| {
            fields.refused(why)
        })?;
    let ignores_failure = fields.switch("ignore-error")? == Some(true);
    let insecure = fields.switch("registry.insecure")? == Some(true);
    fields.end()?;
    Ok(Export { place, insecure, all_stages, packing, ignores_failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let from = |text| import(text).unwrap_or_else(|error| panic!("{text}: {error}")).place;
        assert!(matches!(from("r.example/x"), Place::Repository(_)));
        assert!(matches!(from("r.example/x:1"), Place::Registry(_)));
        assert!(matches!(from("type=registry,ref=r.example/x"), Place::Registry(name) if name.tag.is_some()));
        assert!(matches!(from("type=local,src=d"), Place::Directory { .. }));
        let to =
            export("type=registry,ref=r.example/x,mode=max,image-manifest=true,ignore-error=true").unwrap();
        assert!(to.all_stages && to.ignores_failure);
        assert!(!export("type=inline").unwrap().all_stages);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("type=registry", "no `ref`"),
            ("type=gha", "cloud"),
            ("type=x", "no type `x`"),
            ("type=local,dest=d,bogus=1", "`bogus`"),
            ("type=registry,ref=r/x,mode=most", "min or max"),
            ("type=registry,ref=r/x,image-manifest=false", "image-manifest=false"),
            ("type=inline,mode=max", "mode=max"),
            ("ref=r/x", "no `type`"),
        ] {
            let error = export(text).expect_err(text).report();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(import("type=inline").is_err() && import("type=local,src=d,digest=x").is_err());
    }
}
