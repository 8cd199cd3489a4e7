//! The rules of `sbx build --check`, by which every build goes (docker's "Build checks").

use std::collections::BTreeSet;

use crate::build::builder::BaseImage;
use crate::build::dockerfile::lint::{self, Options, Surroundings};
use crate::build::report::{self, Report};
use crate::build::solve::Request;
use crate::error::{Error, Result};

/// Warns of what is most often a mistake; `base` gives an image that a stage is built on.
///
/// # Errors
/// There is something, and `# check=error=true` says that there may not be.
pub fn warn<'b>(request: &Request, base: &dyn Fn(&str) -> Option<&'b BaseImage>) -> Result<()> {
    let Request { dockerfile, settings, .. } = request;
    let environment = |name: &str| base(name).map(|base| base.config.config.env.clone());
    let surroundings = Surroundings { environment: &environment, ignore: Some(&request.context.ignore) };
    let warnings = lint::check(dockerfile, settings, &surroundings)?;
    if request.progress != report::Kind::Quiet {
        let report = Report::without_drawing(request.progress);
        warnings.iter().for_each(|warning| report.warn(&warning.line(&dockerfile.source)));
    }
    if warnings.is_empty() || !Options::of(dockerfile, settings)?.error {
        return Ok(());
    }
    let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    Err(Error::new("cannot build it")
        .because(format!(
            "with `check=error=true` no warning may be left, and there are: {}",
            rules.join(", ")
        ))
        .hint("`sbx build --check` shows the lines"))
}
