//! `sbx completion`

use clap_complete::Shell;

use crate::error::Result;
use crate::output::print;

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
    clap_complete::generate(args.shell, &mut super::command(), "sbx", &mut script);
    print::bytes(&script)?;
    Ok(0)
}
