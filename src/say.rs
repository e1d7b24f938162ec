//! Standard output: whoever reads it may stop at any time, and that is no failure.

use std::io::{ErrorKind, Write};

/// Prints text as it is. When nobody reads any more, it is lost without a word.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(why) = printed
        && why.kind() != ErrorKind::BrokenPipe
    {
        tracing::warn!("standard output: {why}");
    }
}
