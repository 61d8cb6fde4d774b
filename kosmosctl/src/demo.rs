//! `kosmosctl demo`.

use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    scenario: crate::sandbox::ScenarioArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let _ = args.scenario.scenario()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns at Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
