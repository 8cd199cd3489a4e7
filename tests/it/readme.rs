//! What README.md promises first: one command that runs the main job, with nothing downloaded.

use crate::harness::{Sbx, repository, sbx};

/// The words after `cargo run --release --` in README.md.
fn first_command() -> String {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md can be read");
    let line = readme.lines().find_map(|line| line.strip_prefix("cargo run --release -- "));
    line.expect("README.md has the command").to_owned()
}

/// Runs the command as a shell would; what it prints.
fn run_first_command(world: &Sbx) -> String {
    let script = format!("exec \"$0\" {}", first_command());
    world.program("sh").arg("-c").arg(script).arg(crate::harness::sbx_binary()).succeed()
}

fn shows_a_world_of_its_own(printed: &str) {
    let mut lines = printed.lines();
    assert!(lines.next().is_some_and(|id| id.starts_with("uid=0(root) gid=0(root)")), "{printed}");
    let hostname = lines.next().unwrap_or_default();
    assert!(hostname.len() == 12 && hostname.bytes().all(|byte| byte.is_ascii_hexdigit()), "{printed}");
    assert!(lines.next().is_some_and(|header| header.contains("PID")), "{printed}");
    let processes: Vec<&str> = lines.collect();
    assert!(processes.first().is_some_and(|process| process.trim_start().starts_with("1 ")), "{printed}");
    assert_eq!(processes.len(), 2, "the shell and ps alone: {printed}");
}

#[test]
fn the_first_command_runs_the_main_job() {
    shows_a_world_of_its_own(&run_first_command(&sbx()));
}

mod as_root {
    use super::{run_first_command, sbx, shows_a_world_of_its_own};
    use crate::harness::require_root;

    #[test]
    fn the_first_command_runs_the_main_job() {
        require_root();
        shows_a_world_of_its_own(&run_first_command(&sbx()));
    }
}
