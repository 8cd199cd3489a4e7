//! `sbx update`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Named, each};
use crate::container::restart::Restart;
use crate::container::settings::Settings;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};

/// Change settings of containers
///
/// Those that run, too. Resource limits need a delegated control group, which sbx does not manage yet.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx update --restart always web")]
pub struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    /// Start the container again when it ends: no, `on-failure[:N]`, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
}

pub fn execute(args: &UpdateArgs, global: &Global) -> Result<u8> {
    let Some(restart) = args.restart else {
        return Err(Error::new("cannot update a container")
            .because("nothing was named that is to change")
            .hint("there is: `--restart POLICY`"));
    };
    let place = Place::of(global)?;
    let chosen = args.named.resolve(&place)?;
    each(&chosen, &place, "update", |id, _| {
        let spec = place.store.read_spec(id)?;
        if spec.remove_on_exit && restart != Restart::No {
            return Err(Error::new(format!("cannot use `--restart {restart}`"))
                .because("the container is removed when it ends (`--rm`)"));
        }
        place.store.change_settings(id, |settings| Ok(Settings { restart: Some(restart), ..settings }))?;
        events::record(place.store.root(), &place.runtime, Event::container(Action::Update, &spec));
        Ok(())
    })
}
