//! Looks into packets and streams for what rules of the Suricata and Snort language describe.
pub mod app;
pub mod blocklist;
pub mod buffer;
mod config;
pub mod detect;
pub mod eve;
pub mod inspector;
pub mod rules;
pub mod stream;
