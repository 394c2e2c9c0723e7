//! Stopping: what asks for it (a signal, or the end of standard input for a gateway that the demo
//! started), and what a panic does in a thread that must not be missing.
//!
//! What a stranger gets wrong: a panic in the controller or on the field bus ends the process on
//! purpose. The service manager restarts it, and meanwhile the devices' own time-outs cover the gap.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::storm;
use crate::io::clock::Clock;

/// Threads that the process does not outlive.
pub const VITAL_THREADS: [&str; 5] = ["control", "fieldbus", "latch", "jobs", "book"];
/// Exit status after a panic in a vital thread (sysexits: internal software error).
const PANICKED: i32 = 70;

/// Makes a panic in a vital thread end the process, after its message; it is noted in the state folder with
/// when this process began (time since boot), once both are known.
pub fn end_process_on_vital_panic(known: Arc<OnceLock<(PathBuf, Duration)>>) {
    let message = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        message(info);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        tracing::error!(thread = %name, "panic: {info}");
        if VITAL_THREADS.contains(&name.as_str()) {
            if let Some((state, began)) = known.get() {
                storm::note_panic(state, Clock::real().now().uptime, *began);
            }
            std::process::exit(PANICKED);
        }
    }));
}

/// Waits until somebody asks for a stop: who. Nothing: `trial` came back, a release that did not prove itself.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn wait(
    with_stdin: bool,
    trial: impl Future<Output = ()>,
) -> std::io::Result<Option<&'static str>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reason = runtime.block_on(async {
        tokio::select! {
            asked = requested(with_stdin) => asked.map(Some),
            () = trial => Ok(None),
        }
    });
    // The thread that reads standard input may block for ever: it is left behind.
    runtime.shutdown_background();
    reason
}

/// Waits for SIGINT or SIGTERM, and for the end of standard input when `with_stdin`.
///
/// # Errors
/// When the signals cannot be listened to.
pub async fn requested(with_stdin: bool) -> std::io::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (closed, stdin_end) = tokio::sync::oneshot::channel();
    if with_stdin {
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut bytes = [0u8; 64];
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut bytes).is_ok_and(|count| count > 0) {}
            let _ = closed.send(());
        })?;
    } else {
        std::mem::forget(closed);
    }
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = stdin_end => "end of standard input",
    })
}
