//! `kosmosctl completion`: what a shell needs to complete commands and options.

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For which shell: `source <(kosmosctl completion bash)`.
    #[arg(value_enum)]
    shell: Of,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let shell = match args.shell {
        Of::Bash => Shell::Bash,
        Of::Zsh => Shell::Zsh,
        Of::Fish => Shell::Fish,
    };
    generate(shell, &mut crate::Cli::command(), "kosmosctl", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
