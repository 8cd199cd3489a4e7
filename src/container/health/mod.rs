//! Health checks: what is asked of a container, how often, and what the answers make of its health.

pub mod plan;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::store::Store;
use crate::error::Result;
use crate::sys::time::Utc;

/// The exit code of a check that took too long (docker's).
pub const TIMED_OUT: i32 = -1;

/// What is asked of a container, and how often; part of its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// docker's form: `CMD` and words, or `CMD-SHELL` and one script.
    pub test: Vec<String>,
    /// Nanoseconds between the end of one check and the next; 0: only when it is asked for.
    pub interval: u64,
    /// Nanoseconds until a check counts as failed.
    pub timeout: u64,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: u64,
    /// Nanoseconds between two checks in that time.
    pub start_interval: u64,
    /// Failures in a row that make the container unhealthy.
    pub retries: u32,
    pub on_failure: OnFailure,
    /// Answers that are kept.
    pub log_count: usize,
    /// Bytes of output that are kept of each.
    pub log_size: usize,
}

/// What becomes of a container that is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    #[default]
    None,
    /// SIGKILL; the restart policy decides what follows.
    Kill,
    Restart,
    Stop,
}

impl Check {
    /// The words to execute.
    pub fn words(&self) -> Vec<String> {
        match self.test.split_first() {
            Some((kind, script)) if kind == "CMD-SHELL" => {
                [&["/bin/sh".to_owned(), "-c".to_owned()], script].concat()
            }
            Some((_, words)) => words.to_vec(),
            None => Vec::new(),
        }
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout)
    }

    /// How long to wait after a check, so long after the start.
    pub fn pause(&self, health: &Health, up: Duration) -> Option<Duration> {
        let starting = health.status == Status::Starting && up < Duration::from_nanos(self.start_period);
        let nanoseconds = if starting { self.start_interval } else { self.interval };
        (self.interval > 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check that was made. The names are those of docker's inspect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    pub start: Utc,
    pub end: Utc,
    pub exit_code: i32,
    pub output: String,
}

/// The health of one life of a container: `health.json`, which the monitor alone writes, in docker's form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    pub status: Status,
    pub failing_streak: u32,
    pub log: VecDeque<Answer>,
}

impl Health {
    /// Takes an answer, so long after the start of the container; the new status where it has changed.
    pub fn take(&mut self, answer: Answer, check: &Check, up: Duration) -> Option<Status> {
        let before = self.status;
        if answer.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if before != Status::Starting || up >= Duration::from_nanos(check.start_period) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push_back(answer);
        while self.log.len() > check.log_count {
            self.log.pop_front();
        }
        (self.status != before).then_some(self.status)
    }
}

/// The health of a container as its monitor wrote it last; none: it has no check, or was never started. Of one that is
/// down it tells how it was before.
pub fn read(store: &Store, id: &str) -> Option<Health> {
    store.read_record(&store.directory(id).health())
}

/// Replaces what [`read`] gives.
///
/// # Errors
/// The disk is full.
pub fn write(store: &Store, id: &str, health: &Health) -> Result<()> {
    store.write_record(&store.directory(id).health(), health)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn check() -> Check {
        Check {
            test: vec!["CMD-SHELL".to_owned(), "test -e /up".to_owned()],
            interval: 30 * SECOND,
            timeout: SECOND,
            start_period: 0,
            start_interval: 5 * SECOND,
            retries: 3,
            on_failure: OnFailure::None,
            log_count: 5,
            log_size: 500,
        }
    }

    fn answer(exit_code: i32) -> Answer {
        Answer { start: Utc::at(1, 0), end: Utc::at(2, 0), exit_code, output: String::new() }
    }

    /// The status after each of these answers, a second apart.
    fn after(check: &Check, codes: &[i32]) -> (Health, Vec<Option<Status>>) {
        let mut health = Health::default();
        let changes = (0..)
            .zip(codes)
            .map(|(second, code)| health.take(answer(*code), check, Duration::from_secs(second)))
            .collect();
        (health, changes)
    }

    #[test]
    fn one_success_is_health_and_several_failures_are_its_end() {
        let (health, changes) = after(&check(), &[0, 1, 1, 0, 1, 1, 1, 1, 0]);
        let (healthy, unhealthy) = (Some(Status::Healthy), Some(Status::Unhealthy));
        assert_eq!(changes, [healthy, None, None, None, None, None, unhealthy, None, healthy]);
        assert_eq!((health.failing_streak, health.log.len()), (0, 5));
        let (health, changes) = after(&check(), &[1, TIMED_OUT, 127]);
        assert_eq!((changes[2], health.failing_streak), (unhealthy, 3));
    }

    #[test]
    fn failures_while_it_starts_do_not_count_until_it_was_well_once() {
        let check = Check { start_period: 5 * SECOND, retries: 2, ..check() };
        let (health, changes) = after(&check, &[1, 1, 1, 1, 1]);
        assert_eq!((health.status, health.failing_streak), (Status::Starting, 0));
        assert_eq!(changes, [None; 5]);
        let (health, _) = after(&check, &[1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((health.status, health.failing_streak), (Status::Unhealthy, 2));
        let (health, _) = after(&check, &[1, 0, 1, 1]);
        assert_eq!(health.status, Status::Unhealthy);
    }

    #[test]
    fn it_is_asked_more_often_while_it_starts() {
        let check = Check { start_period: 20 * SECOND, ..check() };
        let mut health = Health::default();
        let pause = |health: &Health, up| check.pause(health, Duration::from_secs(up));
        assert_eq!(pause(&health, 10), Some(Duration::from_secs(5)));
        assert_eq!(pause(&health, 20), Some(Duration::from_secs(30)));
        health.take(answer(0), &check, Duration::from_secs(3));
        assert_eq!(pause(&health, 10), Some(Duration::from_secs(30)));
        assert_eq!(Check { interval: 0, ..check.clone() }.pause(&health, Duration::ZERO), None);
    }

    #[test]
    fn words_are_executed_and_scripts_given_to_a_shell() {
        assert_eq!(check().words(), ["/bin/sh", "-c", "test -e /up"]);
        let words = Check { test: ["CMD", "a", "b c"].map(str::to_owned).to_vec(), ..check() };
        assert_eq!(words.words(), ["a", "b c"]);
    }

    #[test]
    fn the_record_has_dockers_names() {
        let mut health = Health::default();
        health.take(answer(1), &check(), Duration::ZERO);
        let text = serde_json::to_value(&health).unwrap();
        assert_eq!(text["Status"], "starting");
        assert_eq!(text["FailingStreak"], 1);
        assert_eq!(text["Log"][0]["ExitCode"], 1);
        assert_eq!(text["Log"][0]["Start"], "1970-01-01T00:00:01.000000000Z");
        assert_eq!(serde_json::from_value::<Health>(text).unwrap(), health);
    }
}
