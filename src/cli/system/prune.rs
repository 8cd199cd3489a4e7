//! `sbx system prune`

use std::time::SystemTime;

use crate::build::leftover;
use crate::cli::container::Place;
use crate::cli::failures::Failures;
use crate::cli::image::Stores;
use crate::cli::image::prune::deleted;
use crate::cli::network::remove::remove_unused as remove_unused_networks;
use crate::cli::volume::prune::{deleted as deleted_volumes, remove_unused};
use crate::cli::{Global, builder, confirm};
use crate::container::disk;
use crate::container::list::{self, Status};
use crate::container::size;
use crate::container::store::Store;
use crate::container::sweep;
use crate::error::Result;
use crate::host::paths;
use crate::image::filter::Filters;
use crate::image::removal;
use crate::network::named::NamedNetwork;
use crate::output::print;
use crate::volume::Record;

/// Remove all that nobody uses
///
/// Containers that ended, networks that no container is in, images without a name, and what no image, container or pull
/// under way needs: blobs, layers, broken downloads. With `--all` every image that no container is left of, and what
/// builds have left for the next ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME (`24h`, `2024-05-06`).

Examples:
  sbx system prune
  sbx system prune -af
  sbx system prune -f --filter until=240h")]
pub struct PruneArgs {
    /// Remove images with names and the build cache, too
    #[arg(short, long)]
    all: bool,
    /// Remove the build cache, too
    #[arg(long)]
    build: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes that no container is left of, too
    #[arg(long)]
    volumes: bool,
    /// Remove only containers and images that fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub fn execute(args: &PruneArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse_for_prune(&args.filter)?.without_dangling();
    if !args.force && !confirm::ask(&warning(args))? {
        return Ok(0);
    }
    let stores = Stores::of(global)?;
    // What cannot be removed is no reason to keep the rest.
    let mut failures = Failures::default();
    let (containers, freed) = prune_containers(&stores.containers, &filters, &mut failures)?;
    let networks = prune_networks(&Place::of(global)?, &filters, &mut failures)?;
    if args.all || args.build {
        let until = filters.until().map(SystemTime::from);
        builder::forget(stores.containers.root(), until, &mut failures);
    }
    let pruned = removal::prune(&stores.images, &stores.containers, &filters, args.all);
    let (images, collected) = failures.note(pruned).unwrap_or_default();
    // After the containers, whose volumes nobody has now.
    let (volumes, given_up) = if args.volumes {
        let fits = |volume: &Record, _| {
            let young =
                filters.until().zip(volume.created_at()).is_some_and(|(until, created)| created >= until);
            !young && filters.labels_fit(|key| volume.labels.get(key).map(String::as_str))
        };
        remove_unused(&stores.containers, false, fits, &mut failures)?
    } else {
        (Vec::new(), 0)
    };
    let mut text = String::new();
    if !containers.is_empty() {
        text = format!("Deleted Containers:\n{}\n\n", containers.join("\n"));
    }
    if !networks.is_empty() {
        text.push_str(&format!("Deleted Networks:\n{}\n\n", networks.join("\n")));
    }
    let volumes = deleted_volumes(&volumes);
    let total = size::decimal(freed.saturating_add(collected.reclaimed).saturating_add(given_up));
    print::text(&format!("{text}{volumes}{}Total reclaimed space: {total}\n", deleted(&images)))?;
    failures.finish()
}

fn warning(args: &PruneArgs) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if args.all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    if args.all || args.build {
        text.push_str("  - all build cache\n");
    }
    text + "  - all blobs, layers and downloads that nothing needs\n"
}

/// The names of the networks that are gone.
fn prune_networks(place: &Place, filters: &Filters, failures: &mut Failures) -> Result<Vec<String>> {
    let fits = |network: &NamedNetwork| {
        let made = network.created.seconds().cast_signed();
        filters.until().is_none_or(|until| made < until.as_second())
            && filters.labels_fit(|key| network.labels.get(key).map(String::as_str))
    };
    let mut removed = Vec::new();
    failures.append(remove_unused_networks(place, fits, |name| removed.push(name.to_owned()))?);
    Ok(removed)
}

/// The IDs of the containers that are gone, and the bytes that they had written.
pub(crate) fn prune_containers(
    store: &Store,
    filters: &Filters,
    failures: &mut Failures,
) -> Result<(Vec<String>, u64)> {
    let runtime = paths::runtime(&paths::Surroundings::current())?.path;
    if !store.root().exists() {
        return Ok((Vec::new(), 0));
    }
    sweep::sweep(store, &runtime);
    let (mut removed, mut freed) = (Vec::new(), 0_u64);
    for found in list::all(store) {
        let Some(spec) =
            found.spec.filter(|_| matches!(found.status, Status::Exited { .. } | Status::Created))
        else {
            continue;
        };
        let young =
            filters.until().is_some_and(|until| spec.created.seconds().cast_signed() >= until.as_second());
        if young
            || leftover::is_in_use(&spec.name)
            || !filters.labels_fit(|key| spec.labels.get(key).map(String::as_str))
        {
            continue;
        }
        let written = disk::written(store, &spec);
        match sweep::remove_stopped(store, &found.id, &runtime) {
            Ok(()) => {
                removed.push(found.id);
                freed = freed.saturating_add(written);
            }
            // Somebody starts or removes it.
            Err(error) if error.code() == sweep::RUNNING => {}
            Err(error) => {
                failures.add(error.while_doing(format!("cannot remove the container `{}`", spec.name)));
            }
        }
    }
    Ok((removed, freed))
}
