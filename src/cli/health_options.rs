//! The options that describe a container's health check.

use crate::container::health::OnFailure;
use crate::error::{Error, Result};

/// What is asked of a container to tell whether it is well.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HealthOptions {
    /// Command that tells by its exit code whether the container is well: a script for the shell, or a JSON array
    /// of words; `none`: not even the image's.
    #[arg(long, value_name = "COMMAND", help_heading = "Health check")]
    pub health_cmd: Option<String>,
    /// Time between two checks, or `disable`: only `sbx healthcheck run` makes one; default: 30s.
    #[arg(long, value_name = "TIME", help_heading = "Health check")]
    pub health_interval: Option<String>,
    /// Time until a check counts as failed; default: 30s.
    #[arg(long, value_name = "TIME", help_heading = "Health check")]
    pub health_timeout: Option<String>,
    /// Failures in a row that make the container unhealthy; default: 3.
    #[arg(long, value_name = "NUMBER", help_heading = "Health check")]
    pub health_retries: Option<u32>,
    /// Time after the start in which failures do not count; default: 0s.
    #[arg(long, value_name = "TIME", help_heading = "Health check")]
    pub health_start_period: Option<String>,
    /// Time between two checks in the start period; default: 5s.
    #[arg(long, value_name = "TIME", help_heading = "Health check")]
    pub health_start_interval: Option<String>,
    /// What becomes of a container that is unhealthy.
    #[arg(long, value_name = "ACTION", value_enum, default_value_t, help_heading = "Health check")]
    pub health_on_failure: OnFailure,
    /// Checks that `inspect` shows; default: 5.
    #[arg(long, value_name = "NUMBER", help_heading = "Health check")]
    pub health_max_log_count: Option<usize>,
    /// Bytes of output that are kept of each; default: 500.
    #[arg(long, value_name = "BYTES", help_heading = "Health check")]
    pub health_max_log_size: Option<usize>,
    /// Where the results are kept: `local`, beside the container.
    #[arg(long, value_name = "PLACE", default_value = "local", value_parser = local, help_heading = "Health check")]
    pub health_log_destination: String,
    /// Make no health checks, not even the image's.
    #[arg(long, help_heading = "Health check")]
    pub no_healthcheck: bool,
}

fn local(text: &str) -> Result<String> {
    match text {
        "local" => Ok(text.to_owned()),
        _ => Err(Error::new(format!("cannot use `--health-log-destination {text}`"))
            .because("results are kept beside the container alone, where `sbx inspect` reads them")
            .hint("leave it out, or write `local`")),
    }
}

impl HealthOptions {
    /// The first option that says something of a check but for what it is.
    pub fn first_detail(&self) -> Option<&'static str> {
        [
            ("--health-interval", self.health_interval.is_some()),
            ("--health-timeout", self.health_timeout.is_some()),
            ("--health-retries", self.health_retries.is_some()),
            ("--health-start-period", self.health_start_period.is_some()),
            ("--health-start-interval", self.health_start_interval.is_some()),
            ("--health-on-failure", self.health_on_failure != OnFailure::None),
            ("--health-max-log-count", self.health_max_log_count.is_some()),
            ("--health-max-log-size", self.health_max_log_size.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}
