//! `sbx doctor`.

use std::io::IsTerminal;

use super::{Global, report};
use crate::Result;
use crate::doctor::{self, Check, Situation, Status};
use crate::error::Step;
use crate::host::apparmor;
use crate::output::print;

/// Check what this host offers, and say how to mend what it lacks
///
/// Exits with 0 if `sbx run` has all it needs (warnings name what works less well), with 1 if something is
/// missing, and with 125 if the checks themselves failed. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx doctor
  sbx doctor --format json
  sbx doctor --format '{{.ID}} {{.Status}} {{.Found}}'
  sbx doctor --apparmor-profile | sudo tee /etc/apparmor.d/sbx")]
pub struct DoctorArgs {
    /// Print `json`, or what a Go template makes of each check
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print an AppArmor profile for this very binary, which gives it user namespaces (Ubuntu 23.10 and later)
    #[arg(long, conflicts_with = "format")]
    apparmor_profile: bool,
}

pub fn execute(args: DoctorArgs, global: &Global) -> Result<u8> {
    let DoctorArgs { format, apparmor_profile } = args;
    if apparmor_profile {
        print::text(&apparmor::profile(&apparmor::own_binary()))?;
        return Ok(0);
    }
    let wanted = report::Wanted::parse(format.as_deref())?;
    let checks = doctor::examine(&Situation::current(global.root.clone()));
    print::text(&match wanted {
        None => text(&checks, Colors::of_stdout()),
        Some(wanted) => {
            let rows = checks.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
            wanted.list(&rows.step(|| "cannot write the checks as JSON")?, report::go_view)?
        }
    })?;
    Ok(doctor::exit_code(&checks))
}

#[derive(Clone, Copy)]
struct Colors(bool);

impl Colors {
    /// On a terminal, unless the user has none of it (no-color.org).
    fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !unwanted)
    }

    fn paint(self, status: Status, text: &str) -> String {
        let color = match status {
            Status::Ok => 32,
            Status::Warning => 33,
            Status::Missing => 31,
        };
        if self.0 { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Missing => "missing",
    }
}

fn text(checks: &[Check], colors: Colors) -> String {
    let width = checks.iter().map(|check| check.title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = colors.paint(check.status, &format!("{:<7}", mark(check.status)));
        text.push_str(&format!("{mark}  {:<width$}  {}\n", check.title, check.found));
        let details = [("stops working:", &check.stops_working), ("mend:", &check.mend)];
        for (label, detail) in details.iter().filter_map(|(label, detail)| Some((label, detail.as_ref()?))) {
            text.push_str(&format!("{:9}{label:<15}{detail}\n", ""));
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    text.push_str(&match (count(Status::Missing), count(Status::Warning)) {
        (0, 0) => "\nEverything is there.\n".to_owned(),
        (0, warnings) => {
            format!("\n`sbx run` works; {warnings} of {} checks could be better.\n", checks.len())
        }
        (missing, _) => {
            format!("\n`sbx run` lacks something: {missing} of {} checks failed.\n", checks.len())
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &'static str, status: Status) -> Check {
        let ill = status != Status::Ok;
        Check {
            id,
            title: id,
            status,
            found: "found".to_owned(),
            stops_working: ill.then(|| "everything".to_owned()),
            mend: ill.then(|| "sudo mend".to_owned()),
        }
    }

    #[test]
    fn checks_are_aligned_with_what_stops_and_the_mend_below() {
        let checks = [check("a", Status::Ok), check("longer", Status::Warning)];
        assert_eq!(
            text(&checks, Colors(false)),
            "ok       a       found\n\
             warning  longer  found\n         stops working: everything\n         mend:          sudo mend\n\
             \n`sbx run` works; 1 of 2 checks could be better.\n"
        );
        assert!(
            text(&[check("a", Status::Missing)], Colors(true))
                .starts_with("\x1b[31mmissing\x1b[0m  a  found\n")
        );
    }
}
