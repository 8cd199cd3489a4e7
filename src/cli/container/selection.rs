//! Which containers a command acts on.

use std::path::PathBuf;

use crate::cli::container::Place;
use crate::cli::failures::Failures;
use crate::container::filter::Filters;
use crate::container::list::{self, Listed};
use crate::error::{Error, Result, Step};
use crate::output::print;

/// Containers by name, or by what they are.
#[derive(Debug, clap::Args)]
pub struct Selection {
    /// All containers
    #[arg(short, long, conflicts_with_all = ["containers", "latest"])]
    pub all: bool,
    /// Containers that fit: `KEY=VALUE`, as `sbx ps --filter` takes it
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "latest"])]
    pub filter: Vec<String>,
    #[command(flatten)]
    pub named: Named,
}

/// Containers by name, or the last that was made.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The container that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,
    /// Take the container's ID from this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Vec<PathBuf>,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// One that was chosen.
pub struct Chosen {
    /// As it was typed; its whole ID where it was not.
    pub word: String,
    /// None: not looked up yet.
    pub id: Option<String>,
}

impl Selection {
    /// What the words mean; of `--all` those that `fit`.
    ///
    /// # Errors
    /// Nothing was named, or a file cannot be read.
    pub fn resolve(&self, place: &Place, fit: impl Fn(&Listed) -> bool) -> Result<Vec<Chosen>> {
        if !self.all && self.filter.is_empty() {
            return self.named.resolve(place);
        }
        all(place, &self.filter, fit)
    }
}

/// Every container that fits, and that the filters let through.
///
/// # Errors
/// A filter that is none.
pub fn all(place: &Place, filters: &[String], fit: impl Fn(&Listed) -> bool) -> Result<Vec<Chosen>> {
    let filters = Filters::parse(filters)?;
    let all = filters.apply(&place.store, list::all(&place.store))?.into_iter().filter(fit);
    Ok(all.map(|found| Chosen { word: found.id.clone(), id: Some(found.id) }).collect())
}

impl Named {
    /// # Errors
    /// Nothing was named, or a file cannot be read.
    pub fn resolve(&self, place: &Place) -> Result<Vec<Chosen>> {
        let mut chosen: Vec<Chosen> =
            self.containers.iter().map(|word| Chosen { word: word.clone(), id: None }).collect();
        for file in &self.cidfile {
            let text = std::fs::read_to_string(file)
                .step(|| format!("cannot read the container's ID in `{}`", file.display()))?;
            let word = text.lines().next().unwrap_or_default().trim().to_owned();
            chosen.push(Chosen { word, id: None });
        }
        if self.latest {
            let latest = list::all(&place.store).into_iter().next();
            let latest = latest.ok_or_else(|| Error::new("there is no container"))?;
            chosen.push(Chosen { word: latest.id.clone(), id: Some(latest.id) });
        }
        if chosen.is_empty() {
            return Err(Error::new("cannot tell which container is meant")
                .because("no name or ID was given")
                .hint("`sbx ps -a` lists them"));
        }
        Ok(chosen)
    }
}

impl Chosen {
    /// # Errors
    /// There is none, or more than one.
    pub fn id(&self, place: &Place) -> Result<String> {
        match &self.id {
            Some(id) => Ok(id.clone()),
            None => place.store.find(&self.word),
        }
    }
}

/// Does the same to each, in turn, prints each as it was typed, and goes on after one that fails.
///
/// # Errors
/// The gravest failure, once the others have been told.
pub fn each(
    chosen: &[Chosen],
    place: &Place,
    what: &str,
    mut act: impl FnMut(&str, &Chosen) -> Result<()>,
) -> Result<u8> {
    let mut failures = Failures::default();
    for one in chosen {
        match one.id(place).and_then(|id| act(&id, one)) {
            Ok(()) => {
                print::line(&one.word)?;
            }
            Err(error) => {
                failures.add(error.while_doing(format!("cannot {what} container `{}`", one.word)));
            }
        }
    }
    failures.finish()
}
