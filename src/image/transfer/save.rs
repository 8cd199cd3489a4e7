//! From the store into an archive or a directory. What is written depends on the images alone: no times, no
//! owners of this machine, blobs as they were pulled.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, HashingReader};
use crate::image::documents::{Descriptor, Index, Manifest, chain_ids, media_type};
use crate::image::reference::Reference;
use crate::image::store::{Image, ImageStore, annotation};
use crate::image::transfer::convert::{Schema, to_schema};
use crate::output::progress::Progress;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// What every docker and podman loads; an OCI layout, too.
    #[default]
    DockerArchive,
    OciArchive,
    /// skopeo's `dir:`
    DockerDir,
    /// An OCI layout.
    OciDir,
}

impl Format {
    pub fn is_directory(self) -> bool {
        matches!(self, Self::DockerDir | Self::OciDir)
    }
}

/// An image with the names that it is saved under.
#[derive(Debug)]
pub struct Saved {
    pub image: Image,
    pub names: Vec<Reference>,
}

/// The images that the words mean, each once: under the names that were said; none where it was an ID.
///
/// # Errors
/// There is no such image.
pub fn find(store: &ImageStore, words: &[String]) -> Result<Vec<Saved>> {
    let mut saved: Vec<Saved> = Vec::new();
    for word in words {
        let image = store.find(word)?.ok_or_else(|| {
            Error::new(format!("there is no image `{}`", word.escape_debug()))
                .hint("`sbx images -a` lists the images; `sbx pull` fetches one")
        })?;
        let said = Reference::parse(word).map(Reference::or_latest).ok();
        let is_said = |name: &&Reference| {
            let local = |said: &Reference| format!("localhost/{}", said.path.trim_start_matches("library/"));
            said.as_ref().is_some_and(|said| {
                name.tag == said.tag
                    && (name.repository() == said.repository() || name.repository() == local(said))
            })
        };
        let names: Vec<Reference> = image.names.iter().filter(is_said).take(1).cloned().collect();
        match saved.iter_mut().find(|known| known.image.manifest.digest == image.manifest.digest) {
            Some(known) => known.names.extend(names),
            None => saved.push(Saved { image, names }),
        }
    }
    for each in &mut saved {
        each.names.sort();
        each.names.dedup();
    }
    Ok(saved)
}

/// Writes an archive.
///
/// # Errors
/// A blob is missing or damaged, or it cannot be written.
pub fn archive(
    store: &ImageStore,
    images: &[Saved],
    format: Format,
    target: &mut dyn Write,
    progress: &Progress,
) -> Result<()> {
    let lease = hold(store, images)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, target));
    let failed = |error: io::Error| no_room(error, "cannot write the archive".to_owned());
    let documents = documents(images, format)?;
    for (name, bytes) in &documents {
        append(&mut tar, name, bytes.len() as u64, bytes.as_slice()).map_err(failed)?;
    }
    // skopeo gives directories that it has to make to root, which it can't as anybody else.
    for name in ["blobs/", "blobs/sha256/"] {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name, io::empty()).map_err(failed)?;
    }
    for blob in blobs(images) {
        let bar = progress.bar(blob.digest.short(), blob.size);
        bar.moving("Saving");
        let file = store.open_blob(&blob)?;
        let mut reader = Counting { inner: HashingReader::new(file), bar: &bar };
        append(&mut tar, &format!("blobs/sha256/{}", blob.digest.hex()), blob.size, &mut reader)
            .map_err(failed)?;
        verify(store, &blob, reader.inner)?;
        bar.done("Saved");
    }
    let mut target = tar.into_inner().map_err(failed)?;
    target.flush().map_err(failed)?;
    drop(lease);
    Ok(())
}

/// Fills a directory that is empty or not there.
///
/// # Errors
/// As [`archive`], and where there is something in the directory.
pub fn directory(
    store: &ImageStore,
    images: &[Saved],
    format: Format,
    target: &Path,
    progress: &Progress,
) -> Result<()> {
    let failed = || format!("cannot save to `{}`", target.display());
    let refused = |why: &str| Err(Error::new(failed()).because(why.to_owned()));
    if format == Format::DockerDir && images.len() != 1 {
        return refused("a directory of this kind holds one image");
    }
    let mut entries = fs::create_dir_all(target)
        .and_then(|()| fs::read_dir(target))
        .map_err(|error| no_room(error, failed()))?;
    if entries.next().is_some() {
        return refused("there is something in it");
    }
    let lease = hold(store, images)?;
    let (documents, blobs_in) = match (format, images) {
        (Format::DockerDir, [only]) => (docker_directory(&only.image)?, PathBuf::new()),
        _ => (documents(images, format)?, PathBuf::from("blobs/sha256")),
    };
    let blobs_in = target.join(blobs_in);
    fs::create_dir_all(&blobs_in).map_err(|error| no_room(error, failed()))?;
    for blob in blobs(images) {
        if format == Format::DockerDir && blob.digest == images[0].image.manifest.digest {
            continue;
        }
        let bar = progress.bar(blob.digest.short(), blob.size);
        bar.moving("Saving");
        let mut reader = Counting { inner: HashingReader::new(store.open_blob(&blob)?), bar: &bar };
        let path = blobs_in.join(blob.digest.hex());
        let copied = File::create_new(&path).and_then(|mut file| io::copy(&mut reader, &mut file));
        copied.map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))?;
        verify(store, &blob, reader.inner)?;
        bar.done("Saved");
    }
    for (name, bytes) in &documents {
        let path = target.join(name);
        fs::write(&path, bytes)
            .map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))?;
    }
    drop(lease);
    Ok(())
}

fn hold(store: &ImageStore, images: &[Saved]) -> Result<crate::image::store::Lease> {
    let lease = store.lease()?;
    for blob in blobs(images) {
        lease.add(&blob.digest)?;
    }
    Ok(lease)
}

/// Every blob once, in the order of the images: manifest, configuration, layers.
fn blobs(images: &[Saved]) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for Saved { image, .. } in images {
        let own = [&image.manifest, &image.document.config].into_iter().chain(&image.document.layers);
        blobs.extend(own.filter(|blob| seen.insert(blob.digest.clone())).cloned());
    }
    blobs
}

fn verify<R: Read>(store: &ImageStore, blob: &Descriptor, reader: HashingReader<R>) -> Result<()> {
    match reader.finish() {
        (_, digest, _) if digest == blob.digest => Ok(()),
        _ => Err(store.damaged(&blob.digest, "its content has another digest")),
    }
}

/// The small files, in the order in which they are written.
fn documents(images: &[Saved], format: Format) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let text = |value: &Value| serde_json::to_vec(value).step(|| "cannot write a document");
    let index = serde_json::to_vec(&index(images)).step(|| "cannot write the index")?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    let mut documents = vec![("oci-layout", layout), ("index.json", index)];
    if format == Format::DockerArchive {
        documents.push(("manifest.json", text(&docker_list(images))?));
        documents.push(("repositories", text(&repositories(images))?));
    }
    Ok(documents)
}

fn index(images: &[Saved]) -> Index {
    let mut manifests = Vec::new();
    for Saved { image, names } in images {
        let mut plain =
            Descriptor::new(&image.manifest.media_type, image.manifest.digest.clone(), image.manifest.size);
        if names.is_empty() {
            manifests.push(plain.clone());
        }
        for name in names {
            plain.annotations.insert(annotation::NAME.to_owned(), name.to_string());
            plain.annotations.insert(annotation::CONTAINERD_NAME.to_owned(), name.to_string());
            manifests.push(plain.clone());
        }
    }
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests,
        annotations: std::collections::BTreeMap::new(),
        other: Map::new(),
    }
}

/// `manifest.json`
fn docker_list(images: &[Saved]) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let items = images.iter().map(|Saved { image, names }| {
        let tags: Vec<String> = names.iter().map(Reference::to_string).collect();
        let layers: Vec<String> = image.document.layers.iter().map(|layer| path(&layer.digest)).collect();
        let tags = if tags.is_empty() { Value::Null } else { tags.into() };
        json!({ "Config": path(&image.document.config.digest), "RepoTags": tags, "Layers": layers })
    });
    items.collect()
}

/// The list of docker before 1.10, which newer ones still write: names, and an ID of the topmost layer.
fn repositories(images: &[Saved]) -> Value {
    let mut repositories: std::collections::BTreeMap<String, Map<String, Value>> =
        std::collections::BTreeMap::new();
    for Saved { image, names } in images {
        let Some(top) = chain_ids(&image.config.rootfs.diff_ids).pop() else { continue };
        for name in names {
            let Some(tag) = &name.tag else { continue };
            repositories.entry(name.repository()).or_default().insert(tag.clone(), top.hex().into());
        }
    }
    json!(repositories)
}

/// The files of skopeo's `dir:`, with a manifest of docker's schema.
fn docker_directory(image: &Image) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let manifest: Manifest = to_schema(&image.document, Schema::Docker)?;
    let bytes = serde_json::to_vec(&manifest).step(|| "cannot write the manifest")?;
    Ok(vec![("manifest.json", bytes), ("version", b"Directory Transport Version: 1.1\n".to_vec())])
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    tar.append_data(&mut header(size, 0o644), name, content.take(size))
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

struct Counting<'b, R> {
    inner: R,
    bar: &'b crate::output::progress::Bar,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bar.advance(count as u64);
        Ok(count)
    }
}
