//! `sbx completion`

use clap::{Arg, Command};
use clap_complete::Shell;

use crate::error::Result;
use crate::output::print;

/// For bash: names of containers, images and the like are asked for while one types.
const NAMES: &str = include_str!("completion/names.bash");

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sbx completion bash > ~/.local/share/bash-completion/completions/sbx\n  \
    sbx completion zsh > ~/.zfunc/_sbx\n  \
    sbx completion fish > ~/.config/fish/completions/sbx.fish")]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn execute(args: &CompletionArgs) -> Result<u8> {
    let mut script = Vec::new();
    let mut command = super::command();
    clap_complete::generate(args.shell, &mut command, "sbx", &mut script);
    if args.shell == Shell::Bash {
        script.extend(NAMES.as_bytes());
        script.extend(table(&command).as_bytes());
    }
    print::bytes(&script)?;
    Ok(0)
}

/// A function of bash that says of a command which names and which options with a value it takes, and fails where there
/// is no such command.
fn table(command: &Command) -> String {
    let mut lines = String::from("\n_sbx_takes() {\n    case $1 in\n");
    add(command, &[], &mut lines);
    lines.push_str("        *) return 1 ;;\n    esac\n}\n");
    lines
}

fn add(command: &Command, above: &[String], lines: &mut String) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let words = std::iter::once(verb.get_name()).chain(verb.get_all_aliases());
        let words: Vec<String> = match above {
            [] => words.map(str::to_owned).collect(),
            above => {
                words.flat_map(|word| above.iter().map(move |group| format!("{group} {word}"))).collect()
            }
        };
        let patterns: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let group = above.first().map_or("", String::as_str);
        let kinds = verb.get_positionals().map(|positional| kind(positional, group, verb.get_name()));
        let kinds: Vec<String> = kinds.collect();
        let valued: Vec<String> =
            verb.get_opts().filter(|option| takes_a_word(option)).flat_map(spelled).collect();
        let (patterns, kinds, valued) = (patterns.join(" | "), kinds.join(" "), valued.join(" "));
        lines.push_str(&format!("        {patterns}) kinds=\"{kinds}\" valued=\" {valued} \" ;;\n"));
        add(verb, &words, lines);
    }
}

/// The word of `_sbx_list` for what an argument names; `+`: again and again.
fn kind(positional: &Arg, group: &str, verb: &str) -> String {
    let running = ["attach", "exec", "kill", "pause", "stats", "stop", "top"].contains(&verb);
    let containers = if running { "running" } else { "containers" };
    let name = positional.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let kind = match name {
        "WORD" if ["run", "create"].contains(&verb) => "roots foreign",
        "WORD" if ["exec", "top"].contains(&verb) => return format!("{containers} foreign"),
        "CONTAINER" if group != "oci" => containers,
        "CONTAINER|IMAGE|VOLUME" => "objects",
        "IMAGE" => "images",
        "NETWORK" => "networks",
        "POD" => "pods",
        "SECRET" => "secrets",
        "NAME" if group == "volume" && verb != "create" => "volumes",
        "SRC" | "DST" => "places",
        _ => "other",
    };
    let again = positional.get_num_args().is_some_and(|number| number.max_values() > 1);
    if again && !kind.ends_with("foreign") { format!("{kind}+") } else { kind.to_owned() }
}

/// Whether the value of an option is the next word.
fn takes_a_word(option: &Arg) -> bool {
    option.get_num_args().is_none_or(|number| number.min_values() > 0) && !option.is_require_equals_set()
}

fn spelled(option: &Arg) -> Vec<String> {
    let long = option.get_long_and_visible_aliases().unwrap_or_default();
    let short = option.get_short_and_visible_aliases().unwrap_or_default();
    let long = long.into_iter().map(|name| format!("--{name}"));
    long.chain(short.into_iter().map(|name| format!("-{name}"))).collect()
}
