//! The NIC's part of the work: an emulated NIC between real hosts.

mod testkit;

use std::path::PathBuf;

use testkit::{Rig, is_root, skip};

/// A file whose ports are emulated NICs on the rig's devices.
fn chain(folder: &tempfile::TempDir, nic: &str, rest: &str) -> PathBuf {
    let path = folder.path().join("chain.yaml");
    let port = |device: &str| format!("\"emulated,{nic},wire=${{{device}}}\"");
    let text = format!(
        "ports:\n  lan: {{ device: {} }}\n  wan: {{ device: {} }}\n{rest}",
        port("LAN"),
        port("WAN")
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn hosts_talk_through_emulated_nics() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = chain(
        &folder,
        "profile=any,queues=2",
        "functions: { seen: { type: count } }\nchains: { through: { from: lan, through: [seen], to: wan } }\n",
    );
    let rig = Rig::start(path.to_str().unwrap());
    rig.on("lan", "ping -c 5 -i 0.1 10.99.0.2");
    let summary = rig.finish();
    println!("{summary}");
}
