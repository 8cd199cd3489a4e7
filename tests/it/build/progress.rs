//! What people see of a build: lines, a terminal that is drawn on, BuildKit's messages.

use serde_json::Value;

use super::{Kitchen, kitchen};
use crate::harness::Pty;

impl Kitchen {
    /// `sbx build` on a terminal of 24 rows and 80 columns.
    fn on_terminal(&self, dockerfile: &str, options: &[&str]) -> Pty<'_> {
        self.file("Dockerfile", dockerfile);
        let context = self.context().display().to_string();
        self.world.pty([&["build", "--network", "none"], options, &[&context]].concat())
    }
}

/// Waits for the end, and gives all that was shown.
fn end(mut terminal: Pty<'_>, code: i32) -> String {
    assert_eq!(terminal.finish(), code, "{}", terminal.screen());
    terminal.screen()
}

/// Whether the line ends in a time in brackets.
fn is_timed(line: &str) -> bool {
    let time = line.rsplit_once(" (").and_then(|(_, rest)| rest.strip_suffix("s)"));
    time.is_some_and(|time| time.parse::<f64>().is_ok())
}

#[test]
fn lines_tell_steps_with_their_output_and_times() {
    let kitchen = kitchen();
    let dockerfile = "FROM base\nENV A=1\nRUN echo out; sleep 1; printf unfinished; echo x >/x\n";
    let said = kitchen.build(dockerfile, &[]).expect_code(0).stderr();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "STEP 1/3: FROM base",
            "STEP 2/3: ENV A=1",
            "STEP 3/3: RUN echo out; sleep 1; printf unfinished; echo x >/x"
        ]
    );
    assert!(said.contains("\nout\nunfinished\n--> "), "{said}");
    let last = lines[lines.len() - 1];
    assert!(last.starts_with("--> ") && is_timed(last) && !last.contains("(0."), "{said}");
    let again = kitchen.build(dockerfile, &["--progress=plain"]).expect_code(0).stderr();
    assert!(!again.contains("out\n") && again.contains("--> Using cache ") && !is_timed(&again), "{again}");
    let nothing = kitchen.build(dockerfile, &["--no-cache", "--progress", "quiet"]).expect_code(0);
    assert_eq!((nothing.stderr().as_str(), nothing.stdout().len()), ("", 65));
}

#[test]
fn stages_side_by_side_say_whose_a_line_is() {
    let kitchen = kitchen();
    let dockerfile = "FROM base AS one\nRUN echo from one; printf rest\nFROM base AS two\nRUN echo from two\n\
                      FROM base\nCOPY --from=one /etc/passwd /a\nCOPY --from=two /etc/passwd /b\n";
    let said = kitchen.build(dockerfile, &["--jobs", "2"]).expect_code(0).stderr();
    for line in ["[1/3] STEP 1/2: FROM base AS one", "[1/3] from one", "[1/3] rest", "[2/3] from two"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert_eq!(
        said.lines().filter(|line| line.starts_with("[3/3] --> ") && is_timed(line)).count(),
        2,
        "{said}"
    );
}

#[test]
fn a_failing_step_is_shown_with_its_end_and_its_place() {
    let kitchen = kitchen();
    let dockerfile = "FROM base\n\n  RUN seq 1000 && \\\n    exit 3\n";
    let place = "Error: Dockerfile:3:3: the command ended with exit code 3\n   3 |   RUN seq 1000 && \\\n     |   ^^^";
    let quiet = kitchen.build(dockerfile, &["-q"]).expect_code(3).stderr();
    assert!(quiet.contains("\n1000\nError: ") && quiet.contains(place), "{quiet}");
    let lines = kitchen.build(dockerfile, &[]).expect_code(3).stderr();
    assert_eq!(lines.matches("\n999\n").count(), 1, "{lines}");
    assert!(lines.contains(place), "{lines}");
}

#[test]
fn a_terminal_shows_what_runs_and_folds_what_is_done() {
    let kitchen = kitchen();
    let dockerfile =
        "FROM base\nRUN for i in $(seq 30); do echo line-$i; done; sleep 2; echo end\nRUN echo second >/x\n";
    let mut terminal = kitchen.on_terminal(dockerfile, &["-t", "made"]);
    // While it runs its last lines are there, with the time so far.
    terminal.expect("line-30");
    assert!(
        !terminal.screen().contains("line-2\u{1b}") && !terminal.screen().contains("line-2\r"),
        "{}",
        terminal.screen()
    );
    terminal.expect("=> STEP 2/3: RUN for i in");
    terminal.expect("1.");
    // Done, it is one line with its time; what it wrote is gone.
    let done = "\u{1b}[32m=>\u{1b}[0m STEP 2/3: RUN for i in $(seq 30); do echo line-$i; done; sleep 2; echo end (2.";
    terminal.expect(done);
    terminal.expect("STEP 3/3: RUN echo second >/x (0.");
    terminal.expect("Successfully tagged made:latest");
    end(terminal, 0);
    let mut cached = kitchen.on_terminal(dockerfile, &[]);
    cached.expect("STEP 2/3: RUN for i in $(seq 30); do echo line-$i; done; sleep 2; echo end (cached)");
    end(cached, 0);
}

#[test]
fn a_terminal_shows_the_end_of_what_failed() {
    let kitchen = kitchen();
    let mut terminal =
        kitchen.on_terminal("FROM base\nRUN seq 100; echo \"\u{1b}[31mred\u{1b}[0m\" ; exit 4\n", &[]);
    terminal.expect("=> ERROR STEP 2/2: RUN seq 100");
    let tail = terminal.expect("   red");
    assert!(tail.contains("   100 ") && !tail.contains("   70 "), "{tail}");
    terminal.expect("Error: Dockerfile:2:1: the command ended with exit code 4");
    end(terminal, 4);
}

#[test]
fn colours_and_drawing_can_be_done_without() {
    let kitchen = kitchen();
    let coloured = |run: Pty<'_>| {
        let mut run = run;
        run.expect("STEP 2/2: RUN true (");
        end(run, 0)
    };
    let dockerfile = "FROM base\nRUN true\n";
    let screen = coloured(kitchen.on_terminal(dockerfile, &["--no-cache"]));
    assert!(screen.contains("\u{1b}[32m"), "{screen}");
    let plain = Kitchen { world: kitchen.world.env("NO_COLOR", "1") };
    let screen = coloured(plain.on_terminal(dockerfile, &["--no-cache"]));
    assert!(!screen.contains("\u{1b}[32m"), "{screen}");
    let mut lines = plain.on_terminal(dockerfile, &["--no-cache", "--progress", "plain"]);
    lines.expect("--> no file was changed (");
    let screen = end(lines, 0);
    assert!(!screen.contains('\u{1b}'), "{screen}");
    plain.build(dockerfile, &["--progress", "tty"]).expect_code(125).stderr_has("standard error is none");
    let nameless = Kitchen { world: plain.world.env_remove("TERM") };
    let mut lines = nameless.on_terminal(dockerfile, &["--no-cache"]);
    lines.expect("--> no file was changed (");
    let screen = end(lines, 0);
    assert!(!screen.contains('\u{1b}'), "{screen}");
    let plain = nameless;
    let dumb = Kitchen { world: plain.world.env("BUILDKIT_PROGRESS", "plain") };
    let mut lines = dumb.on_terminal(dockerfile, &["--no-cache"]);
    lines.expect("--> no file was changed (");
    end(lines, 0);
    let wrong = Kitchen { world: dumb.world.env("BUILDKIT_PROGRESS", "x") };
    wrong.build(dockerfile, &[]).expect_code(125).stderr_has("BUILDKIT_PROGRESS=x");
}

#[test]
fn programs_read_buildkits_messages() {
    let kitchen = kitchen();
    let finished = kitchen.build("FROM base\nRUN echo hello\n", &["--progress=rawjson"]).expect_code(0);
    let messages: Vec<Value> =
        finished.stderr().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = messages.iter().filter_map(|m| m["vertexes"][0]["name"].as_str()).collect();
    assert_eq!(names.last(), Some(&"STEP 2/2: RUN echo hello"));
    let log = messages.iter().find(|message| message["logs"].is_array()).expect("a log");
    assert_eq!(log["logs"][0]["data"], "aGVsbG8K");
    assert_eq!(log["logs"][0]["vertex"], messages.last().expect("an end")["vertexes"][0]["digest"]);
    assert!(messages.last().expect("an end")["vertexes"][0]["completed"].is_string());
    // `Dockerfile:1:11: FromAsCasing: …`
    let warned = kitchen.build("FROM base as x\n", &["--progress=rawjson"]).expect_code(0).stderr();
    let warning: Value = serde_json::from_str(warned.lines().next().expect("a line")).expect("JSON");
    let text = warning["warnings"][0]["short"].as_str().expect("a text");
    assert!(text.starts_with("RG9ja2VyZmlsZToxOjExOiBGcm9tQXND"), "{text}");
}
