//! What a container has to do with others: its pod, and those that it requires.

use crate::cli::container_options::ContainerOptions;
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::pod::{self, Membership, PodStore};

/// The pod that it is to be in.
///
/// # Errors
/// There is no such pod.
pub(super) fn pod(options: &ContainerOptions, store: &Store) -> Result<Option<Membership>> {
    let from_file = options.pod_id_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path)
            .step(|| format!("cannot read the pod's ID in `{}`", path.display()))?;
        Ok::<_, Error>(text.lines().next().unwrap_or_default().trim().to_owned())
    });
    let Some(word) = options.pod.clone().map(Ok).or(from_file).transpose()? else { return Ok(None) };
    let failed = || format!("cannot use `--pod {}`", word.escape_debug());
    if let Some(name) = word.strip_prefix("new:") {
        return Err(Error::new(failed())
            .because("the pod that podman makes then shares namespaces, which sbx does not")
            .hint(format!("make one that shares nothing: `sbx pod create --infra=false --share= {name}`")));
    }
    let found = PodStore::new(store.root()).find(&word)?;
    let found = found.ok_or_else(|| pod::missing(&word).while_doing(failed()))?;
    Ok(Some(Membership { id: found.id, name: found.name }))
}

/// IDs of the containers that are to run before it does.
///
/// # Errors
/// There is no such container.
pub(super) fn required(options: &ContainerOptions, store: &Store) -> Result<Vec<String>> {
    let find = |word: &String| {
        store.find(word).map_err(|error| error.while_doing(format!("cannot use `--requires {word}`")))
    };
    options.requires.iter().map(find).collect()
}
