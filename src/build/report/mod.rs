//! What people see of a build, on standard error: the steps as podman writes them, with their times, and what their
//! commands write. On a terminal a process of its own draws them ([`display`]).

mod display;
mod json;
mod tail;

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::build::builder::Outcome;
use crate::error::Result;
use crate::output::harmless;
use display::{Display, Event};
use tail::Tail;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but errors.
    Quiet,
    Lines,
    /// What runs is drawn at the bottom of a terminal.
    Terminal,
    /// BuildKit's status messages, a JSON object a line.
    Json,
}

impl Kind {
    /// What suits standard error.
    pub fn fitting() -> Self {
        // Of a terminal that nobody names nothing is known.
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match std::io::stderr().is_terminal() && !is_dumb {
            true => Self::Terminal,
            false => Self::Lines,
        }
    }
}

/// Shared by the processes of a build, which are forks of one.
pub struct Report {
    kind: Kind,
    display: Option<Display>,
}

impl Report {
    /// # Errors
    /// A terminal is to be drawn on, and there can be no process to do so.
    pub fn begin(kind: Kind) -> Result<Self> {
        let display = match kind {
            Kind::Terminal => Some(Display::start()?),
            _ => None,
        };
        Ok(Self { kind, display })
    }

    /// Before there is anything to be drawn.
    pub fn without_drawing(kind: Kind) -> Self {
        Self { kind: if kind == Kind::Terminal { Kind::Lines } else { kind }, display: None }
    }

    /// Ends the drawing; lines are written from now on.
    pub fn end(&mut self) {
        if let Some(display) = self.display.take() {
            display.stop();
            self.kind = Kind::Lines;
        }
    }

    /// A step begins. `[1/3]` stands before it where there are several stages.
    pub fn step(
        &self,
        (stage, stages): (usize, usize),
        (number, total): (usize, usize),
        text: &str,
    ) -> Showing<'_> {
        let prefix = if stages > 1 { format!("[{stage}/{stages}] ") } else { String::new() };
        let showing = Showing {
            report: self,
            id: (stage as u64) << 32 | number as u64,
            text: format!("{prefix}STEP {number}/{total}: {text}"),
            prefix,
            started: Instant::now(),
            began: jiff::Timestamp::now(),
            tail: RefCell::default(),
            is_over: false,
        };
        match self.kind {
            Kind::Quiet => {}
            Kind::Lines => write_line(&showing.text),
            Kind::Terminal => self.tell(&Event::Begin(showing.id, harmless::line(&showing.text))),
            Kind::Json => json::write(&json::begun(&showing)),
        }
        showing
    }

    pub fn line(&self, text: &str) {
        match self.kind {
            Kind::Quiet | Kind::Json => {}
            Kind::Lines => write_line(text),
            Kind::Terminal => self.tell(&Event::Line(harmless::lines(text))),
        }
    }

    /// A warning, also where nothing else is shown.
    pub fn warn(&self, text: &str) {
        match self.kind {
            Kind::Terminal => self.tell(&Event::Line(format!("Warning: {}.", harmless::lines(text)))),
            Kind::Json => json::write(&json::warning(text)),
            Kind::Quiet | Kind::Lines => log::warn!("{text}"),
        }
    }

    fn tell(&self, event: &Event) {
        if let Some(display) = &self.display {
            display.tell(event);
        }
    }
}

/// A step that is shown. One that is dropped before it is done has failed.
pub struct Showing<'r> {
    report: &'r Report,
    /// Unlike that of any other step.
    id: u64,
    text: String,
    prefix: String,
    started: Instant,
    began: jiff::Timestamp,
    /// What its command wrote last.
    tail: RefCell<Tail>,
    is_over: bool,
}

impl Showing<'_> {
    /// Something that the step's command has written.
    pub fn output(&self, bytes: &[u8]) {
        let lines = self.tail.borrow_mut().take(bytes);
        match self.report.kind {
            Kind::Quiet => {}
            Kind::Lines if self.prefix.is_empty() => {
                // Nobody is left to be told that nobody reads it, here and below.
                let _ = std::io::stderr().write_all(bytes);
            }
            Kind::Lines => self.write_lines(&lines),
            Kind::Terminal if lines.is_empty() => {}
            Kind::Terminal => self.report.tell(&Event::Output(self.id, lines)),
            Kind::Json => json::write(&json::log(self, bytes)),
        }
    }

    /// Other stages write meanwhile: each line says whose it is.
    fn write_lines(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{}{line}\n", self.prefix)).collect();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// What the step came to; none: it changes the configuration alone.
    pub fn done(mut self, outcome: Option<&Outcome>) {
        self.is_over = true;
        self.write_rest();
        let cached = outcome.is_some_and(|outcome| outcome.cached);
        let time = if cached { String::new() } else { format!(" ({})", shown(self.started.elapsed())) };
        match self.report.kind {
            Kind::Quiet => {}
            Kind::Lines => {
                let Some(outcome) = outcome else { return };
                let word = if cached { "Using cache " } else { "" };
                write_line(&match &outcome.layer {
                    Some(layer) => format!("{}--> {word}{}{time}", self.prefix, layer.diff_id.short()),
                    None if cached => format!("{}--> Using cache", self.prefix),
                    None => format!("{}--> no file was changed{time}", self.prefix),
                });
            }
            Kind::Terminal => {
                let how = if cached { " (cached)" } else { time.as_str() };
                let how = if outcome.is_some() { how } else { "" };
                self.report.tell(&Event::Done(self.id, format!("{}{how}", harmless::line(&self.text))));
            }
            Kind::Json => json::write(&json::ended(&self, cached, None)),
        }
    }

    fn write_rest(&self) {
        let rest = self.tail.borrow_mut().rest();
        if self.report.kind != Kind::Lines || rest.is_empty() {
            return;
        }
        match self.prefix.is_empty() {
            true => write_line(""),
            false => self.write_lines(&[rest]),
        }
    }
}

impl Drop for Showing<'_> {
    /// Shows again what was written last, where it has not just been seen.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.write_rest();
        let tail = self.tail.borrow();
        match self.report.kind {
            Kind::Lines if self.prefix.is_empty() => {}
            Kind::Quiet => {
                let _ = std::io::stderr().write_all(tail.bytes());
            }
            Kind::Lines => {
                write_line(&format!("{} failed after {}", self.text, shown(self.started.elapsed())));
            }
            Kind::Terminal => {
                let text = format!("{} ({})", harmless::line(&self.text), shown(self.started.elapsed()));
                self.report.tell(&Event::Failed(self.id, text, tail.lines()));
            }
            Kind::Json => json::write(&json::ended(self, false, Some("it failed"))),
        }
    }
}

/// `0.3s`, `1m05s`.
fn shown(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

fn write_line(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", harmless::lines(text)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (milliseconds, text) in [(0, "0.0s"), (1250, "1.2s"), (59_900, "59.9s"), (65_000, "1m05s")] {
            assert_eq!(shown(Duration::from_millis(milliseconds)), text);
        }
    }
}
