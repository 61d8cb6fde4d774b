//! The commands that speak to API servers; what they do is in the crate `lifecycle`.

use std::{io::ErrorKind, process::ExitCode};

use clap::Subcommand;
use lifecycle::{
    check::{self, CheckArgs},
    gather::{self, GatherArgs},
    get::{self, GetArgs},
    install::{self, InstallArgs},
    join::{self, JoinArgs},
    say::Say,
    status::{self, StatusArgs},
    uninstall::{self, UninstallArgs},
    unjoin::{self, UnjoinArgs},
    upgrade::{self, UpgradeArgs},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    Install(Box<InstallArgs>),
    Join(Box<JoinArgs>),
    Status(StatusArgs),
    Get(GetArgs),
    Check(Box<CheckArgs>),
    Upgrade(Box<UpgradeArgs>),
    Unjoin(UnjoinArgs),
    Uninstall(UninstallArgs),
    Gather(GatherArgs),
}

/// Runs a command; the exit status is 0 where it says that all is well.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut say = Say::standard();
    match runtime.block_on(dispatch(command, &mut say)) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // Whoever reads has read enough; what writes to API servers is not done for that.
        Err(error) if only_reads(command) && is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

async fn dispatch(command: &Command, say: &mut Say) -> anyhow::Result<bool> {
    match command {
        Command::Install(args) => install::run(args, say).await?,
        Command::Join(args) => join::run(args, say).await?,
        Command::Status(args) => return status::run(args, say).await,
        Command::Get(args) => get::run(args, say).await?,
        Command::Check(args) => return check::run(args, say).await,
        Command::Upgrade(args) => upgrade::run(args, say).await?,
        Command::Unjoin(args) => unjoin::run(args, say).await?,
        Command::Uninstall(args) => uninstall::run(args, say).await?,
        Command::Gather(args) => gather::run(args, say).await?,
    }
    Ok(true)
}

fn only_reads(command: &Command) -> bool {
    matches!(command, Command::Status(_) | Command::Get(_) | Command::Check(_))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
