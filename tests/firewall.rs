//! chains/firewall.yaml between two real hosts: what it allows passes, what it does not allow does not.

mod testkit;

use testkit::{Rig, is_root, must, skip};

#[test]
fn the_web_passes_a_firewall_that_allows_it_and_port_81_does_not() {
    if !is_root() {
        return skip("firewall", "making namespaces needs root");
    }
    let mut rig = Rig::start("chains/firewall.yaml");
    let folder = std::env::temp_dir().join(format!("nfv-web-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.display();
    must(&format!("head -c 100000000 /dev/urandom > {folder}/file"));
    for port in ["80", "81"] {
        let words = ["python3", "-m", "http.server", "--directory", &folder.to_string(), port];
        rig.serve("wan", port.parse().unwrap(), &words);
    }
    rig.serve("wan", 5201, &["iperf3", "-s"]);

    rig.on("lan", "ping -c 5 -i 0.2 10.99.0.2");
    rig.on("lan", "ping -c 5 -i 0.2 fd00:99::2");
    let sent = must(&format!("sha256sum < {folder}/file"));
    let got = rig.on("lan", "curl -sS --max-time 120 http://10.99.0.2/file | sha256sum");
    assert_eq!(got, sent, "the file arrives as it was sent");

    assert!(
        !rig.succeeds("lan", "curl -s --max-time 2 -o /dev/null http://10.99.0.2:81/"),
        "port 81 is closed"
    );
    assert!(
        rig.succeeds("wan", "curl -s --max-time 5 -o /dev/null http://10.99.0.2:81/"),
        "its server answers"
    );

    rig.iperf("lan", "10.99.0.2");

    must(&format!("rm -r {folder}"));
    let summary = rig.finish();
    assert!(summary.contains("edge no_rule"), "port 81 is in the account:\n{summary}");
}

#[test]
fn a_thousand_connections_at_once_pass_the_firewall() {
    if !is_root() {
        return skip("firewall", "making namespaces needs root");
    }
    let mut rig = Rig::start("chains/firewall.yaml");
    rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "10.99.0.2", "80"]);
    let printed = rig.on("lan", "python3 tests/testkit/many.py connect 10.99.0.2 80 1000");
    assert_eq!(printed.trim(), "1000 connections, each echoed its own bytes");
    rig.finish();
}
