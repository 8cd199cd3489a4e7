//! `sbx completion`

mod names;

use clap_complete::Shell;

use crate::error::{Error, Result};
use crate::output::print;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sbx completion bash > ~/.local/share/bash-completion/completions/sbx\n  \
    sbx completion zsh > ~/.zfunc/_sbx\n  \
    sbx completion fish > ~/.config/fish/completions/sbx.fish")]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_name = "SHELL", required_unless_present = "names")]
    shell: Option<Shell>,
    /// For the scripts: print the names that the last of these words may become; exit code 1 where it is no name.
    #[arg(long, hide = true, conflicts_with = "shell")]
    names: bool,
    /// The words of a command line.
    #[arg(last = true, hide = true, requires = "names", value_name = "WORD")]
    words: Vec<String>,
}

pub fn execute(args: &CompletionArgs) -> Result<u8> {
    let mut command = super::command();
    let Some(shell) = args.shell else {
        let Some(names) = names::of(&args.words, &command)? else { return Ok(1) };
        print::text(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
        return Ok(0);
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "sbx", &mut script);
    let mut script = String::from_utf8(script).map_err(|_| Error::new("cannot print the script"))?;
    match shell {
        Shell::Bash => script.push_str(include_str!("completion/names.bash")),
        Shell::Fish => script.push_str(include_str!("completion/names.fish")),
        Shell::Zsh => with_names(&mut script),
        _ => {}
    }
    print::text(&script)?;
    Ok(0)
}

/// A file of `fpath` is the function itself the first time, and says at its end what is to be called from then on.
fn with_names(script: &mut String) {
    let end = script.rfind("\nif [ \"$funcstack[1]\"").unwrap_or(script.len());
    let last = script.split_off(end).replace("_sbx \"$@\"", "_sbx_with_names \"$@\"");
    let last = last.replace("compdef _sbx sbx", "compdef _sbx_with_names sbx");
    script.push_str(include_str!("completion/names.zsh"));
    script.push_str(&last);
}
