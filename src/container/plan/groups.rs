//! What a container has to do with others: its pod, and those that it requires.

use crate::cli::container_options::ContainerOptions;
use crate::cli::limit_options::ControlGroupOptions;
use crate::container::store::Store;
use crate::delegation::Mode;
use crate::error::{Error, Result, Step};
use crate::pod::{self, Pod, PodStore};

/// The pod that it is to be in.
///
/// # Errors
/// There is no such pod.
pub(super) fn pod(options: &ContainerOptions, store: &Store) -> Result<Option<Pod>> {
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
    found.ok_or_else(|| pod::missing(&word).while_doing(failed())).map(Some)
}

/// Where its control group is to be: in the pod's parent, unless something else was said.
pub(super) fn control_group(options: &ContainerOptions, pod: Option<&Pod>) -> ControlGroupOptions {
    let mut group = options.control_group.clone();
    if matches!(group.cgroups, None | Some(Mode::Enabled)) && group.cgroup_parent.is_none() {
        group.cgroup_parent = pod.and_then(|pod| pod.cgroup_parent.clone());
    }
    group
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
