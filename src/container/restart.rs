//! `--restart`: whether a container that ended is started again, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The wait before the first new start; it doubles with each (docker-run(1), --restart).
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A container that was up for so long is well: the waits begin anew.
const WELL: Duration = Duration::from_secs(10);

/// A restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    #[default]
    No,
    /// Where the exit code is not 0; at most so many times in a row, none: without end.
    OnFailure(Option<u32>),
    Always,
    /// As [`Self::Always`], and after a boot only where no command had stopped it.
    UnlessStopped,
}

impl Restart {
    /// As scripts and filters have it, without the number of attempts.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a container that ended by itself with `code`, and was started again `restarts` times, is to start
    /// again.
    pub fn applies(self, code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && most.is_none_or(|most| restarts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

impl FromStr for Restart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(format!("cannot use `--restart {text}`"))
                .hint("there are: no, on-failure, on-failure:N, always, unless-stopped")
        };
        Ok(match text {
            "" | "no" | "never" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure(None),
            _ => {
                let most = text.strip_prefix("on-failure:").ok_or_else(wrong)?;
                let most: u32 = most.parse().map_err(|_| wrong())?;
                // docker's way to say without end.
                Self::OnFailure((most > 0).then_some(most))
            }
        })
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
            other => f.write_str(other.name()),
        }
    }
}

/// The waits between the lives of one container.
#[derive(Debug)]
pub struct BackOff {
    next: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { next: FIRST_WAIT }
    }
}

impl BackOff {
    /// How long to wait after a life of `up`.
    pub fn after(&mut self, up: Duration) -> Duration {
        if up >= WELL {
            self.next = FIRST_WAIT;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_shown() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<Restart>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse::<Restart>().unwrap(), Restart::OnFailure(None));
        for text in ["on-failure:", "on-failure:x", "always:3", "sometimes", "on-failure:-1"] {
            assert!(text.parse::<Restart>().unwrap_err().report().contains("unless-stopped"), "{text}");
        }
    }

    #[test]
    fn failures_are_counted_and_success_ends_them() {
        let policy = Restart::OnFailure(Some(2));
        assert!(policy.applies(1, 0) && policy.applies(1, 1));
        assert!(!policy.applies(1, 2) && !policy.applies(0, 0));
        assert!(Restart::Always.applies(0, 1000) && !Restart::No.applies(1, 0));
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_when_it_is_well() {
        let mut waits = BackOff::default();
        let short = Duration::from_secs(1);
        let first: Vec<u128> = (0..4).map(|_| waits.after(short).as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        assert_eq!((0..10).map(|_| waits.after(short)).last(), Some(LONGEST_WAIT));
        assert_eq!(waits.after(WELL), FIRST_WAIT);
    }
}
