//! `--output`, `--push` and `--load`: where the result goes.

use std::collections::BTreeMap;

use super::image_options::annotation;
use crate::build::finish::{Archive, Output, Target};
use crate::container::volume::csv;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::image::transfer::convert::{Packing, Schema};
use crate::layers::compression::Compression;

const STDOUT: &str = "-";

/// Where the result goes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Where the result goes: DIR, `-`, or `type=TYPE,KEY=VALUE,…` with the types image and registry (`name=`, `push=`),
    /// docker and oci (`dest=FILE|-`; for oci also `tar=false`), tar (`dest=FILE|-`), local (`dest=DIR`), cacheonly;
    /// default: the store. Again for more
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Push the image to where its names say when it is built
    #[arg(long)]
    push: bool,
    /// Have the image in the store, whatever `--output` says
    #[arg(long)]
    load: bool,
}

/// Everything that becomes of the result.
#[derive(Debug, Default)]
pub struct Outputs {
    pub outputs: Vec<Output>,
    /// With those of `--tag`.
    pub names: Vec<Reference>,
    pub annotations: BTreeMap<String, String>,
    /// `oci-mediatypes=`.
    pub schema: Option<Schema>,
}

impl OutputOptions {
    /// # Errors
    /// An output is not understood, or there is no name to push to.
    pub fn resolve(&self, tags: Vec<Reference>, wants_image: bool) -> Result<Outputs> {
        let mut all = Outputs { names: tags, ..Outputs::default() };
        for text in &self.output {
            let output = one(text, &mut all)?;
            all.outputs.push(output);
        }
        if self.push {
            all.outputs.push(Output::to_registry(true));
        }
        let has_image = all.outputs.iter().any(|output| matches!(output.target, Target::Image { .. }));
        // A name is given to an image, also where files are made of it.
        let named = self.load || wants_image || !all.names.is_empty();
        let made_elsewhere = all.outputs.iter().any(|output| output.target.is_archive());
        if !has_image && (all.outputs.is_empty() || self.load || named && !made_elsewhere) {
            all.outputs.push(Output::to_registry(false));
        }
        let mut seen = Vec::new();
        all.names.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
        let pushes = all.outputs.iter().any(|output| matches!(output.target, Target::Image { push: true }));
        if pushes && all.names.is_empty() {
            return Err(Error::new("cannot push the image")
                .because("it has no name that says where to")
                .hint("add `-t REGISTRY/NAME:TAG`"));
        }
        let to_stdout = all.outputs.iter().filter(|output| output.target.is_stdout()).count();
        if to_stdout > 1 {
            return Err(Error::new("cannot write two outputs to standard output"));
        }
        Ok(all)
    }
}

/// One `--output`.
fn one(text: &str, all: &mut Outputs) -> Result<Output> {
    if text == STDOUT {
        return Ok(Output::plain(Target::Tar(None)));
    }
    if text.trim().is_empty() {
        return Err(Error::new("cannot use an empty `--output`")
            .because("it names no directory")
            .hint("`-o .` writes into the current one"));
    }
    if !text.contains('=') {
        return Ok(Output::plain(Target::Directory(text.into())));
    }
    let refused = |why: String| {
        Error::new(format!("cannot use `--output {}`", text.escape_debug())).because(why).hint(
            "there are `type=image`, `registry`, `docker`, `oci`, `tar`, `local` and `cacheonly`: see `sbx build --help`",
        )
    };
    let mut fields = BTreeMap::new();
    for field in csv::fields(text).map_err(refused)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        fields.insert(key.trim().to_ascii_lowercase(), value.to_owned());
    }
    let kind = fields.remove("type").ok_or_else(|| refused("it has no `type`".to_owned()))?;
    let destination = fields.remove("dest").or_else(|| fields.remove("destination"));
    let mut switch = |key: &str| match fields.remove(key).as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(_) => Err(refused(format!("`{key}` is true or false"))),
    };
    let (push, tar, oci) = (switch("push")?, switch("tar")?, switch("oci-mediatypes")?);
    let (insecure, forced) = (switch("registry.insecure")?, switch("force-compression")?);
    // What docker's image store has to be asked for is done here always.
    for key in ["unpack", "store"] {
        if switch(key)? == Some(false) {
            return Err(refused(format!("`{key}=false` cannot be honoured: the store has an image whole")));
        }
    }
    if let Some(names) = fields.remove("name") {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            all.names.push(super::name(name)?);
        }
    }
    let (packed, level) = (fields.remove("compression"), fields.remove("compression-level"));
    let packing = packing(packed.as_deref(), level.as_deref(), forced, &refused)?;
    for key in fields.keys().filter(|key| key.starts_with("annotation")).cloned().collect::<Vec<_>>() {
        let value = fields.remove(&key).unwrap_or_default();
        let rest = key.trim_start_matches("annotation");
        let (level, name) = rest.split_once('.').ok_or_else(|| refused(format!("`{key}` is not known")))?;
        let text = match level.trim_start_matches('-') {
            "" => format!("{name}={value}"),
            level => format!("{level}:{name}={value}"),
        };
        all.annotations.extend([annotation(&text)?]);
    }
    if let Some(key) = fields.keys().next() {
        return Err(refused(format!("`{}` is not known", key.escape_debug())));
    }
    let file = || destination.clone().filter(|path| path != STDOUT).map(Into::into);
    let only_for = |given: bool, key: &str, kinds: &str| match given {
        true => Err(refused(format!("`{key}` belongs to {kinds}"))),
        false => Ok(()),
    };
    let is_image = matches!(kind.as_str(), "image" | "registry");
    only_for(push.is_some() && !is_image, "push", "images")?;
    only_for(tar.is_some() && kind != "oci" && kind != "docker", "tar", "`type=oci`")?;
    only_for(packing.is_some() && !is_image, "compression", "images that are pushed")?;
    only_for(destination.is_some() && is_image, "dest", "files")?;
    let target = match kind.as_str() {
        "image" => Target::Image { push: push == Some(true) },
        "registry" => Target::Image { push: push != Some(false) },
        // cross and buildx say so where they want the image in the store.
        "docker" if destination.is_none() && tar.is_none() => Target::Image { push: false },
        "docker" if tar == Some(false) => {
            return Err(refused(
                "docker's format is an archive; `type=oci,tar=false` makes a directory".to_owned(),
            ));
        }
        "docker" => Target::Archive(Archive::Docker, file()),
        "oci" if tar == Some(false) => match file() {
            Some(path) => Target::Layout(path),
            None => return Err(refused("a directory needs a `dest`".to_owned())),
        },
        "oci" => Target::Archive(Archive::Oci, file()),
        "tar" => Target::Tar(file()),
        "local" => match file() {
            Some(path) => Target::Directory(path),
            None => return Err(refused("it has no `dest`, a directory".to_owned())),
        },
        "cacheonly" => Target::Nothing,
        other => return Err(refused(format!("there is no type `{}`", other.escape_debug()))),
    };
    all.schema = match oci {
        Some(true) => Some(Schema::Oci),
        Some(false) => Some(Schema::Docker),
        None => all.schema,
    };
    Ok(Output { target, packing, insecure: insecure == Some(true) })
}

/// # Errors
/// There is no such packing, or no such level of it.
pub fn packing(
    kind: Option<&str>,
    level: Option<&str>,
    forced: Option<bool>,
    refused: &dyn Fn(String) -> Error,
) -> Result<Option<Packing>> {
    let level = match level {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| refused("`compression-level` is a number".to_owned()))?),
    };
    let (kind, highest) = match kind {
        None if level.is_none() && forced.is_none() => return Ok(None),
        None | Some("gzip") => (Compression::Gzip, 9),
        Some("zstd") => (Compression::Zstd, 22),
        Some(other) => {
            return Err(refused(format!(
                "layers are pushed with gzip or zstd, not `{}`",
                other.escape_debug()
            )));
        }
    };
    if level.is_some_and(|level| level > highest) {
        return Err(refused(format!("the highest level is {highest}")));
    }
    Ok(Some(Packing { kind, level, all: forced == Some(true) || kind != Compression::Gzip }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(texts: &[&str]) -> Result<Outputs> {
        let output = texts.iter().map(|text| (*text).to_owned()).collect();
        OutputOptions { output, ..OutputOptions::default() }.resolve(Vec::new(), false)
    }

    #[test]
    fn every_form_is_read() {
        for (text, target) in [
            ("out", Target::Directory("out".into())),
            ("-", Target::Tar(None)),
            ("type=local,dest=out", Target::Directory("out".into())),
            ("type=tar", Target::Tar(None)),
            ("type=tar,dest=x.tar", Target::Tar(Some("x.tar".into()))),
            ("type=docker", Target::Image { push: false }),
            ("type=docker,dest=-", Target::Archive(Archive::Docker, None)),
            ("type=oci,dest=x", Target::Archive(Archive::Oci, Some("x".into()))),
            ("type=oci,dest=x,tar=false", Target::Layout("x".into())),
            ("type=cacheonly", Target::Nothing),
            ("type=image", Target::Image { push: false }),
            ("type=registry,name=r/x", Target::Image { push: true }),
            ("type=image,\"name=r/x,r/y:2\",push=true", Target::Image { push: true }),
        ] {
            let outputs = resolve(&[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(outputs.outputs[0].target, target, "{text}");
        }
        let two = resolve(&["type=image,\"name=r/x,r/y:2\",annotation.a=b,oci-mediatypes=false"]).unwrap();
        assert_eq!(two.names.len(), 2);
        assert_eq!((two.annotations["a"].as_str(), two.schema), ("b", Some(Schema::Docker)));
        assert!(resolve(&[]).unwrap().outputs[0].target == Target::Image { push: false });
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("type=registry", "no name"),
            ("type=local", "no `dest`"),
            ("type=docker,dest=x,tar=false", "tar=false"),
            ("type=oci,tar=false", "`dest`"),
            ("type=x", "no type `x`"),
            ("dest=x", "no `type`"),
            ("type=tar,push=true", "belongs to images"),
            ("type=image,dest=x", "belongs to files"),
            ("type=image,compression=xz", "gzip or zstd"),
            ("type=image,compression-level=11", "highest level"),
            ("type=image,bogus=1", "`bogus` is not known"),
            ("type=image,annotation-index.a=b", "no index"),
        ] {
            let error = resolve(&[text]).expect_err(text).report();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(resolve(&["-", "type=oci"]).is_err());
    }
}
