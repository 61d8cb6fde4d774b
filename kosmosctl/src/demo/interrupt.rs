//! Ctrl-C and SIGTERM take the sandbox down before they end the program.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// As a shell says that Ctrl-C ended a program: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Takes the sandbox of a name down at the first signal, and ends the program.
pub(crate) struct TakesDown {
    taking: Arc<AtomicBool>,
}

impl TakesDown {
    pub(crate) fn at_interrupt(name: &str) -> Result<Self> {
        let signals = Signals::new()?;
        let taking = Arc::new(AtomicBool::new(false));
        let (name, flag) = (name.to_owned(), Arc::clone(&taking));
        thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
            signals.wait();
            flag.store(true, Ordering::SeqCst);
            // What it cannot remove, the next `up` of the name does.
            let _ = sandbox::client::down(&name);
            process::exit(INTERRUPTED);
        })?;
        Ok(TakesDown { taking })
    }

    /// Returns unless the sandbox is being taken down: then whatever failed for that is no news, and that thread ends us.
    pub(crate) fn unless_interrupted(&self) {
        while self.taking.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) fn interrupted() -> Result<()> {
    Signals::new()?.wait();
    Ok(())
}

struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Whatever comes from now on is noticed.
    fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let _context = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(_context);
        Ok(Signals { runtime, interrupt, terminate })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        });
    }
}
