//! What a replay made of packets: its report, and the frames that left each port.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::NFV;
use super::packets::{read_capture, write_capture};

/// A replay that has ended.
#[derive(Debug)]
pub struct Replayed {
    folder: TempDir,
    /// How it ended, and what it printed.
    pub output: Output,
    /// Its report.
    pub report: Value,
}

impl Replayed {
    /// Replays frames, a time in nanoseconds each, that the port `lan` receives; the account must balance.
    pub fn of(chain: &str, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        Self::with(chain, frames, &[], &[])
    }

    /// As [`Replayed::of`], with more arguments and environment.
    pub fn with(
        chain: &str,
        frames: impl IntoIterator<Item = (u64, Vec<u8>)>,
        more: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (capture, report) = (folder.path().join("in.pcap"), folder.path().join("report.json"));
        write_capture(&capture, frames);
        let output = Command::new(NFV)
            .args(["replay", chain, "--in", &format!("lan={}", capture.display())])
            .arg("--out")
            .arg(folder.path())
            .arg("--report")
            .arg(&report)
            .args(more)
            .envs(environment.iter().copied())
            .output()
            .expect("nfv starts");
        let text = std::fs::read_to_string(report).unwrap_or_default();
        let report = serde_json::from_str(&text).unwrap_or(Value::Null);
        let this = Self { folder, output, report };
        if !this.report.is_null() {
            let n = |key: &str| this.report[key].as_u64().unwrap();
            assert_eq!(
                n("rx_packets") + n("created_packets"),
                n("tx_packets") + n("dropped_packets") + n("consumed_packets"),
                "{}",
                this.report
            );
        }
        this
    }

    /// It ended well.
    pub fn succeeded(self) -> Self {
        let errors = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success(), "{}: {errors}", self.output.status);
        self
    }

    /// What left a port.
    pub fn sent(&self, port: &str) -> Vec<Vec<u8>> {
        self.timed(port).into_iter().map(|(_, frame)| frame).collect()
    }

    /// What left a port, with its time.
    pub fn timed(&self, port: &str) -> Vec<(u64, Vec<u8>)> {
        read_capture(&self.path(&format!("{port}.pcap")))
    }

    /// A file beside the captures.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a function counts.
    pub fn counter(&self, function: &str, counter: &str) -> u64 {
        let value = &self.report["functions"][function]["counters"][counter];
        value.as_u64().unwrap_or_else(|| panic!("{function}.{counter} is in {}", self.report))
    }

    /// How many were dropped for a reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.report["drops"][reason].as_u64().unwrap_or(0)
    }
}
