//! Logs as Suricata writes them: records of EVE JSON, one a line.
//!
//! ```text
//!   workers --Record--> bounded queue --> a thread: to JSON, to a file or a socket
//! ```

mod record;

pub use self::record::{Body, Head, PacketSource, Record};
