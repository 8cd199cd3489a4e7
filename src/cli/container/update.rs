//! `sbx update`

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Named, each};
use crate::cli::limit_options::LimitOptions;
use crate::container::control_group;
use crate::container::restart::Restart;
use crate::container::settings::Settings;
use crate::container::spec::Spec;
use crate::delegation::{self, Mode};
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::limits::settings::{controllers, settings};
use crate::limits::{Limits, asked};

/// Change settings of containers
///
/// Those that run, too. What is not named stays as it is; 0 or -1 lifts a limit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx update --restart always web
  sbx update -m 512m --cpus 1.5 web
  sbx update --pids-limit -1 web")]
pub struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    /// Start the container again when it ends: no, `on-failure[:N]`, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    #[command(flatten)]
    limits: LimitOptions,
}

pub fn execute(args: &UpdateArgs, global: &Global) -> Result<u8> {
    let asked = asked::parse(&args.limits)?;
    if args.restart.is_none() && asked.is_empty() {
        return Err(Error::new("cannot update a container")
            .because("nothing was named that is to change")
            .hint("there are `--restart POLICY` and limits, such as `--memory 512m`"));
    }
    let place = Place::of(global)?;
    let chosen = args.named.resolve(&place)?;
    each(&chosen, &place, "update", |id, _| {
        let spec = place.store.read_spec(id)?;
        if let Some(restart) = args.restart.filter(|&restart| spec.remove_on_exit && restart != Restart::No) {
            return Err(Error::new(format!("cannot use `--restart {restart}`"))
                .because("the container is removed when it ends (`--rm`)"));
        }
        let limits = (!asked.is_empty()).then(|| limit(&place, &spec, asked.clone())).transpose()?;
        place.store.change_settings(id, |settings| {
            let restart = args.restart.or(settings.restart);
            Ok(Settings { restart, limits: limits.clone().or(settings.limits), ..settings })
        })?;
        events::record(place.store.root(), &place.runtime, Event::container(Action::Update, &spec));
        Ok(())
    })
}

/// The limits that hold from now on. Those of a container that runs are changed before they are written down, so that
/// what the kernel refuses changes nothing.
fn limit(place: &Place, spec: &Spec, asked: Limits) -> Result<Limits> {
    let after = asked.over(spec.limits.clone());
    asked::check(&after)?;
    let after = after.asked();
    asked::check_files(&after)?;
    let (old, new) = (settings(&spec.limits)?, settings(&after)?);
    if spec.placement.mode == Some(Mode::Disabled) {
        return Err(Error::new(format!("cannot limit container {}", spec.name))
            .because("it was made with `--cgroups disabled`"));
    }
    let runs = |record: &crate::container::store::Running| {
        record.started_at.is_some() && record.restarting.is_none()
    };
    if let Some(record) = place.store.running_record(&spec.id).ok().filter(runs) {
        // Where no other life of it would get them either.
        delegation::check(&spec.placement, &controllers(&new))?;
        control_group::change_limits(&spec.name, record.cgroup.as_deref(), &old, &new)?;
    }
    Ok(after)
}
