//! DPDK's log, as lines of the program's own.

use std::ffi::c_char;
use std::sync::Mutex;

/// A line that is being written in parts, and the errors since they were last taken.
struct Collected {
    partial: String,
    errors: Vec<String>,
    /// Whether errors are only kept: whoever takes them tells them.
    starts: bool,
}

static COLLECTED: Mutex<Collected> =
    Mutex::new(Collected { partial: String::new(), errors: Vec::new(), starts: true });

const ERRORS_KEPT: usize = 8;
const LINE_MAX: usize = 4096;

/// Sends DPDK's log to `tracing`, target `dpdk`, from now on. Called before EAL starts.
pub(super) fn to_tracing() {
    // SAFETY: `write` has the type that the shim wants, never unwinds, and lives as long as the program.
    let failed = unsafe { dpdk_sys::nfv_log_to(Some(write)) };
    if failed != 0 {
        tracing::warn!("DPDK's log goes to its own place: rte_openlog_stream failed");
    }
}

/// EAL has started: errors are logged from now on, and those that did not hinder it are logged now.
pub(super) fn started() {
    let errors = COLLECTED.lock().map(|mut c| {
        c.starts = false;
        std::mem::take(&mut c.errors)
    });
    for line in errors.unwrap_or_default() {
        tracing::error!(target: "dpdk", "{line}");
    }
}

/// The last error lines, oldest first; they are forgotten then.
pub(super) fn take_errors() -> Vec<String> {
    COLLECTED.lock().map(|mut c| std::mem::take(&mut c.errors)).unwrap_or_default()
}

/// What `f` returns, without what DPDK says meanwhile of things that it is asked and cannot do.
pub(super) fn quietly<T>(f: impl FnOnce() -> T) -> T {
    let set = |starts: bool| COLLECTED.lock().map(|mut c| std::mem::replace(&mut c.starts, starts));
    let before = set(true);
    let result = f();
    take_errors();
    if let Ok(before) = before {
        let _ = set(before);
    }
    result
}

/// Takes a line or a part of one from DPDK. Total: it cannot unwind into C.
extern "C" fn write(level: u32, text: *const c_char, bytes: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: stdio hands over `bytes` readable bytes that stay for the call.
    let raw = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), bytes) };
    let Ok(mut collected) = COLLECTED.lock() else { return };
    collected.partial.push_str(&String::from_utf8_lossy(raw));
    while let Some(end) = collected.partial.find('\n') {
        let line: String = collected.partial.drain(..=end).collect();
        emit(level, line.trim(), &mut collected);
    }
    if collected.partial.len() > LINE_MAX {
        collected.partial.clear();
    }
}

fn emit(level: u32, line: &str, collected: &mut Collected) {
    if line.is_empty() {
        return;
    }
    match level {
        0..=4 => {
            if collected.errors.len() == ERRORS_KEPT {
                collected.errors.remove(0);
            }
            collected.errors.push(line.to_owned());
            if !collected.starts {
                tracing::error!(target: "dpdk", "{line}");
            }
        }
        // Nothing is amiss: there is only nobody to serve an interface of old.
        5 if line.starts_with("TELEMETRY: No legacy callbacks") => {
            tracing::debug!(target: "dpdk", "{line}");
        }
        5 => tracing::warn!(target: "dpdk", "{line}"),
        6 => tracing::info!(target: "dpdk", "{line}"),
        _ => tracing::debug!(target: "dpdk", "{line}"),
    }
}
