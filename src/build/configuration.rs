//! Instructions that change an image's configuration alone, and what all leave in its history.

use serde_json::{Value, json};

use crate::build::dockerfile::step::{CommandLine, Healthcheck, Program, Step};
use crate::container::env::DEFAULT_PATH;
use crate::image::changes;
use crate::image::documents::{ImageConfig, RunConfig};

/// docker's, where an image names none (Dockerfile reference, SHELL).
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The configuration of a stage while it is built.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Configuration {
    pub image: ImageConfig,
    /// A CMD stood in this stage, so that ENTRYPOINT leaves it.
    has_command: bool,
}

impl Configuration {
    /// That of a stage on `image`, whose triggers have been used.
    pub fn on(mut image: ImageConfig) -> Self {
        image.config.other.remove("OnBuild");
        // As docker and buildah do it, `FROM scratch` included.
        if !image.config.env.iter().any(|pair| pair.starts_with("PATH=")) {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        Self { image, has_command: false }
    }

    /// That of a stage on this one.
    #[must_use]
    pub fn next_stage(self) -> Self {
        Self::on(self.image)
    }

    /// The stage's shell.
    pub fn shell(&self) -> Vec<String> {
        let words = self.image.config.other.get("Shell").and_then(Value::as_array);
        let words = words.map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        words
            .filter(|words: &Vec<String>| !words.is_empty())
            .unwrap_or_else(|| SHELL.map(str::to_owned).to_vec())
    }

    pub fn working_directory(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    fn command(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Shell(line) if line.is_empty() => Vec::new(),
            CommandLine::Shell(line) => self.shell().into_iter().chain([line.clone()]).collect(),
            CommandLine::Exec(words) => words.clone(),
        }
    }

    /// The words that RUN executes; a script is a file at `script`.
    pub fn program(&self, program: &Program, script: &str) -> Vec<String> {
        match program {
            Program::Shell(line) => self.command(&CommandLine::Shell(line.clone())),
            Program::Exec(words) => words.clone(),
            Program::Script { .. } => vec![script.to_owned()],
        }
    }

    /// Takes an instruction in. RUN, COPY and ADD change nothing here.
    pub fn apply(&mut self, step: &Step) {
        let shell_words = |line: &CommandLine| self.command(line);
        match step {
            Step::Cmd(line) => {
                self.image.config.cmd = Some(shell_words(line));
                self.has_command = true;
            }
            Step::Entrypoint(line) => {
                let words = shell_words(line);
                self.image.config.entrypoint = Some(words).filter(|words| !words.is_empty());
                if !self.has_command {
                    self.image.config.cmd = None;
                }
            }
            Step::Healthcheck(check) => {
                let check = self.health_check(check);
                self.config().other.insert("Healthcheck".to_owned(), check);
            }
            Step::Env(pairs) => {
                pairs.iter().for_each(|(name, value)| set(&mut self.config().env, name, value));
            }
            Step::Expose(ports) => {
                let ports = ports.iter().map(|port| (port.clone(), json!({})));
                self.config().exposed_ports.extend(ports);
            }
            Step::Label(pairs) => self.config().labels.extend(pairs.iter().cloned()),
            Step::Maintainer(name) => self.image.author = Some(name.clone()),
            Step::OnBuild(trigger) => {
                match self.config().other.entry("OnBuild").or_insert_with(|| json!([])) {
                    Value::Array(triggers) => triggers.push(trigger.clone().into()),
                    other => *other = json!([trigger]),
                }
            }
            Step::Shell(words) => {
                self.config().other.insert("Shell".to_owned(), json!(words));
            }
            Step::StopSignal(signal) => self.config().stop_signal = Some(signal.clone()),
            Step::User(user) => self.config().user.clone_from(user),
            Step::Volume(paths) => {
                let paths = paths.iter().map(|path| (path.clone(), json!({})));
                self.config().volumes.extend(paths);
            }
            Step::Workdir(path) => {
                let path = changes::working_directory(self.working_directory(), path);
                self.config().working_dir = path;
            }
            Step::Add(_) | Step::Arg | Step::Copy(_) | Step::Run(_) => {}
        }
    }

    fn config(&mut self) -> &mut RunConfig {
        &mut self.image.config
    }

    /// docker's Healthcheck: spans are nanoseconds.
    fn health_check(&self, check: &Healthcheck) -> Value {
        let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } = check
        else {
            return json!({ "Test": ["NONE"] });
        };
        let test: Vec<String> = match command {
            CommandLine::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            CommandLine::Exec(words) => {
                std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect()
            }
        };
        let mut value = json!({ "Test": test });
        let spans = [
            ("Interval", interval),
            ("Timeout", timeout),
            ("StartPeriod", start_period),
            ("StartInterval", start_interval),
        ];
        for (name, span) in spans {
            if let Some(span) = span {
                value[name] = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).into();
            }
        }
        if let Some(retries) = retries {
            value["Retries"] = (*retries).into();
        }
        value
    }
}

fn set(variables: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let is_it = |old: &&mut String| old.split_once('=').is_some_and(|(old, _)| old == name);
    match variables.iter_mut().find(is_it) {
        Some(old) => *old = pair,
        None => variables.push(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> CommandLine {
        CommandLine::Shell(line.to_owned())
    }

    #[test]
    fn an_entrypoint_resets_the_command_of_the_base_and_not_that_of_the_stage() {
        let mut image = ImageConfig::default();
        image.config.cmd = Some(vec!["old".to_owned()]);
        let mut on_base = Configuration::on(image.clone());
        on_base.apply(&Step::Entrypoint(CommandLine::Exec(vec!["a".to_owned()])));
        assert_eq!(on_base.image.config.cmd, None);
        let mut of_stage = Configuration::on(image);
        of_stage.apply(&Step::Cmd(shell("x")));
        of_stage.apply(&Step::Entrypoint(shell("y")));
        assert_eq!(of_stage.image.config.cmd.unwrap(), ["/bin/sh", "-c", "x"]);
        assert_eq!(of_stage.image.config.entrypoint.unwrap(), ["/bin/sh", "-c", "y"]);
    }

    #[test]
    fn a_shell_holds_for_what_follows_it() {
        let mut stage = Configuration::on(ImageConfig::default());
        stage.apply(&Step::Cmd(shell("before")));
        stage.apply(&Step::Shell(vec!["/bin/bash".to_owned(), "-c".to_owned()]));
        assert_eq!(stage.image.config.cmd.as_ref().unwrap()[0], "/bin/sh");
        assert_eq!(stage.program(&Program::Shell("x".to_owned()), ""), ["/bin/bash", "-c", "x"]);
    }

    #[test]
    fn triggers_of_the_base_are_used_up() {
        let mut image = ImageConfig::default();
        image.config.other.insert("OnBuild".to_owned(), json!(["RUN x"]));
        let mut stage = Configuration::on(image);
        assert!(!stage.image.config.other.contains_key("OnBuild"));
        stage.apply(&Step::OnBuild("RUN y".to_owned()));
        assert_eq!(stage.image.config.other["OnBuild"], json!(["RUN y"]));
    }

    #[test]
    fn directories_variables_and_checks() {
        let mut stage = Configuration::on(ImageConfig::default());
        stage.apply(&Step::Workdir("a".to_owned()));
        stage.apply(&Step::Workdir("../b".to_owned()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        stage.apply(&Step::Env(vec![pair("A", "1"), pair("B", "2")]));
        stage.apply(&Step::Env(vec![pair("A", "3")]));
        assert_eq!(
            (stage.working_directory(), stage.image.config.env.join(" ")),
            ("/b", format!("PATH={DEFAULT_PATH} A=3 B=2"))
        );
        stage.apply(&Step::Healthcheck(Healthcheck::None));
        assert_eq!(stage.image.config.other["Healthcheck"], json!({ "Test": ["NONE"] }));
    }
}
