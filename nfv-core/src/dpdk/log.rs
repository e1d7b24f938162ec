//! DPDK's log, as lines of the program's own.

use std::ffi::c_char;
use std::sync::Mutex;

/// A line that is being written in parts, and the errors since they were last taken.
struct Collected {
    partial: String,
    errors: Vec<String>,
}

static COLLECTED: Mutex<Collected> =
    Mutex::new(Collected { partial: String::new(), errors: Vec::new() });

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

/// The last error lines, oldest first; they are forgotten then.
pub(super) fn take_errors() -> Vec<String> {
    COLLECTED.lock().map(|mut c| std::mem::take(&mut c.errors)).unwrap_or_default()
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
        emit(level, line.trim(), &mut collected.errors);
    }
    if collected.partial.len() > LINE_MAX {
        collected.partial.clear();
    }
}

fn emit(level: u32, line: &str, errors: &mut Vec<String>) {
    if line.is_empty() {
        return;
    }
    match level {
        0..=4 => {
            if errors.len() == ERRORS_KEPT {
                errors.remove(0);
            }
            errors.push(line.to_owned());
            tracing::error!(target: "dpdk", "{line}");
        }
        5 => tracing::warn!(target: "dpdk", "{line}"),
        6 => tracing::info!(target: "dpdk", "{line}"),
        _ => tracing::debug!(target: "dpdk", "{line}"),
    }
}
