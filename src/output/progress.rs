//! What happens meanwhile, on standard error: a bar for each layer on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::harmless;

/// A line that is never longer than the 80 columns of a plain terminal.
const MOVING: &str =
    "{prefix}: {msg:11} [{bar:16}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";

/// Shared by threads.
#[derive(Clone)]
pub struct Progress(Kind);

#[derive(Clone)]
enum Kind {
    /// `--quiet`
    Silent,
    Lines,
    Bars(Arc<MultiProgress>),
}

/// One thing that is moved. Dropped before it is done, its bar goes without a word.
pub struct Bar {
    name: String,
    kind: BarKind,
}

enum BarKind {
    Silent,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Bars where standard error is a terminal, else lines; neither where the caller wants quiet.
    pub fn new(quiet: bool) -> Self {
        Self(match quiet {
            true => Kind::Silent,
            false if std::io::stderr().is_terminal() => {
                // Ten times a second is as often as anybody can read.
                Kind::Bars(Arc::new(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))))
            }
            false => Kind::Lines,
        })
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        match &self.0 {
            Kind::Silent => {}
            Kind::Lines => write_line(text),
            Kind::Bars(bars) => bars.suspend(|| write_line(text)),
        }
    }

    /// A bar of `size` bytes that waits for its turn.
    pub fn bar(&self, name: &str, size: u64) -> Bar {
        let kind = match &self.0 {
            Kind::Silent => BarKind::Silent,
            Kind::Lines => BarKind::Lines,
            Kind::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(size).with_style(style("{prefix}: {msg}")));
                bar.set_prefix(name.to_owned());
                bar.set_message("Waiting");
                BarKind::Bar(bar)
            }
        };
        Bar { name: name.to_owned(), kind }
    }
}

impl Bar {
    /// Bytes move from now on; `action` says where: `Downloading`.
    pub fn moving(&self, action: &'static str) {
        if let BarKind::Bar(bar) = &self.kind {
            bar.set_style(style(MOVING));
            bar.set_message(action);
            bar.reset_eta();
        }
    }

    pub fn advance(&self, bytes: u64) {
        if let BarKind::Bar(bar) = &self.kind {
            bar.inc(bytes);
        }
    }

    /// Bytes that were moved so far; less than before where it is tried again.
    pub fn set(&self, bytes: u64) {
        if let BarKind::Bar(bar) = &self.kind {
            bar.set_position(bytes);
        }
    }

    /// There was nothing to do.
    pub fn forget(&self) {
        if let BarKind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }

    /// Nothing is counted any more, but there is work left.
    pub fn working(&self, action: &'static str) {
        if let BarKind::Bar(bar) = &self.kind {
            bar.set_style(style("{prefix}: {msg}"));
            bar.set_message(action);
        }
    }

    pub fn done(&self, outcome: &'static str) {
        match &self.kind {
            BarKind::Silent => {}
            BarKind::Lines => write_line(&format!("{}: {outcome}", self.name)),
            BarKind::Bar(bar) => {
                bar.set_style(style("{prefix}: {msg}"));
                bar.finish_with_message(outcome);
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let BarKind::Bar(bar) = &self.kind
            && !bar.is_finished()
        {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that it does not understand would be a mistake of ours; then the plain bar does.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn write_line(text: &str) {
    use std::io::Write;
    // Nobody reads it: no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless::lines(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in ["{prefix}: {msg}", MOVING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
