//! The verbs that move images.

pub mod export;
pub mod import;
pub mod load;
pub mod options;
pub(crate) mod output;
pub mod pull;
pub mod push;
pub mod save;

use crate::cli::Global;
use crate::error::Result;
use crate::host::paths;
use crate::image::transfer::Place;
use options::TierOption;

/// The store of the command line.
///
/// # Errors
/// As [`Place::of`].
fn place(global: &Global, tier: TierOption) -> Result<Place> {
    let store = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    Place::of(&store, tier.id_tier)
}
