//! Logs as Suricata writes them: records of EVE JSON, one a line.
//!
//! ```text
//!   workers --Record--> bounded queue --> a thread: to JSON, to a file or a socket
//! ```
//!
//! A worker makes a [`Record`] only of what [`Settings`] ask for, by the constructors of its body: [`Alert::of`],
//! [`DropRecord::of`], [`Application::of`] and so on. They copy, once and into few pieces, since what they are made of goes
//! on: an alert shares its rule, an HTTP record has all its words in one text.

mod alert;
mod anomaly;
mod application;
mod community;
mod dns;
mod drop;
mod flow;
mod http;
mod json;
mod line;
pub mod log;
mod protocol;
mod record;
mod settings;
mod ssh;
mod stats;
mod text;
mod time;
mod tls;

#[cfg(test)]
mod tests;

pub use self::alert::{Alert, AlertAction, Payload, PayloadFrom, Rejects, Tunnel, Verdict};
pub use self::anomaly::{Anomaly, Layer};
pub use self::application::{Application, Place};
pub use self::dns::DnsRecord;
pub use self::drop::{DropReason, DropRecord};
pub use self::flow::{
    AppNames, Counts, FlowAction, FlowEnd, FlowRecord, FlowState, FlowSummary, TcpRecord,
};
pub use self::http::HttpRecord;
pub use self::log::{Log, LogConfig, LogCounts, LogError, LogQueue, ReplayLog, Target};
pub use self::record::{Body, Head, Kind, PacketSource, Record, TaggedPacket, Variables};
pub use self::settings::{
    AlertSettings, AnomalySettings, DnsSettings, DnsVersion, DropSettings, DroppedFlows,
    HeaderDump, HttpSettings, Settings, StatsSettings, TlsField, TlsSettings,
};
pub use self::ssh::SshRecord;
pub use self::stats::Stats;
pub use self::tls::TlsRecord;
