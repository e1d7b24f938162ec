//! Connections that begin with SYN cookies, between real hosts: in a flood or without one, they are as any other.

mod testkit;

use std::io::Write;
use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempDir};
use testkit::{BRIDGED, Driver, ROUTED, Rig, is_root, must, skip};

/// A firewall of these keys between lan and wan, and perhaps another function behind it.
fn bridge(keys: &str, flows: &str, behind: Option<&str>) -> NamedTempFile {
    let more = behind.map(|f| format!("  behind: {{ {f} }}\n")).unwrap_or_default();
    let through = if behind.is_some() { ", behind" } else { "" };
    let rules = "[ { deny: tcp, dport: 81 }, { allow: any } ]";
    written(&format!(
        "ports: {{ lan: '${{LAN}}', wan: '${{WAN}}' }}\n\
         flows: {{ {flows} }}\n\
         functions:\n  \
           edge: {{ type: firewall, stateful: true, rules: {rules}, {keys} }}\n\
         {more}\
         chains:\n  \
           outbound: {{ from: lan, through: [ edge{through} ], to: wan }}\n"
    ))
}

fn written(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn name(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// A server of files on a host, with one of some megabytes, and that file's sum.
fn web(rig: &mut Rig, host: &str) -> (TempDir, String) {
    let web = tempfile::tempdir().unwrap();
    let folder = web.path().display().to_string();
    must(&format!("head -c 8000000 /dev/urandom > {folder}/file"));
    let server = ["python3", "-m", "http.server", "--bind", "::", "--directory", &folder, "80"];
    rig.serve(host, 80, &server);
    (web, must(&format!("sha256sum < {folder}/file")))
}

fn download(rig: &Rig, host: &str, address: &str) -> String {
    rig.on(host, &format!("curl -gsS --max-time 10 http://{address}/file | sha256sum"))
}

/// Waits for a download that writes what it gets; the error says what it wrote instead.
fn got(child: Child, sum: &str) -> Result<(), String> {
    let output = child.wait_with_output().unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&output.stdout).unwrap();
    let right = must(&format!("sha256sum < {}", name(&file))) == sum;
    if right { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// How many packets the summary of a run counts under a name, `edge no_rule`.
fn count(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find(|line| line.contains(name));
    let last = line.and_then(|line| line.split_whitespace().last());
    last.and_then(|n| n.replace(',', "").parse().ok()).unwrap_or(0)
}

#[test]
fn connections_that_begin_with_a_cookie_are_as_any_other() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let file = bridge("syn-cookies: 0", "max: 10000", None);
    let mut rig = Rig::start(name(&file));
    let (_web, sum) = web(&mut rig, "wan");
    for address in ["10.99.0.2", "[fd00:99::2]"] {
        assert_eq!(download(&rig, "lan", address), sum, "{address}");
    }
    let greets = "import socket\ns = socket.create_server((\"10.99.0.2\", 25))\n\
                  while True:\n c, _ = s.accept()\n c.sendall(b\"220 hello\")\n c.close()";
    rig.serve("wan", 25, &["python3", "-c", greets]);
    let listens = "import socket\ns = socket.create_connection((\"10.99.0.2\", 25), 3)\n\
                   print(s.recv(100))";
    let started = Instant::now();
    assert!(rig.on("lan", &format!("python3 -c '{listens}'")).contains("220 hello"));
    assert!(started.elapsed() < Duration::from_secs(1), "nobody waits for anything");
    let flows = rig.ask(&["flows", "tcp", "10.99.0.2:25"]);
    assert!(!flows.contains("syn_"), "its handshake is over: {flows}");

    let started = Instant::now();
    let closed = rig.succeeds("lan", "curl -s --max-time 5 http://10.99.0.2:4444/");
    assert!(
        !closed && started.elapsed() < Duration::from_secs(2),
        "the server's reset comes through"
    );
    assert!(!rig.succeeds("lan", "curl -s --max-time 1 http://10.99.0.2:81/"), "it is denied");

    let summary = rig.finish();
    // Two files, a greeting, a closed port; and no cookie for what the rules deny.
    assert_eq!(count(&summary, "edge cookies_sent"), 4, "{summary}");
    assert_eq!(count(&summary, "edge cookies_opened"), 4, "{summary}");
    assert!(count(&summary, "edge rule_denied") >= 1, "{summary}");
}

#[test]
fn what_the_servers_are_said_to_support_is_agreed_on_and_losses_are_mended() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let keys = "syn-cookies: { half-open: 0, timestamps: true, sack: true, window-scale: 7 }";
    // What is over the rate is dropped, so that there is something to acknowledge selectively.
    let file = bridge(keys, "max: 10000", Some("type: ratelimit, rate: 300Mbps, burst: 30KiB"));
    let mut rig = Rig::start(name(&file));
    let wan = rig.namespace("wan");
    must(&format!("ip netns exec {wan} sysctl -qw net.ipv4.tcp_rmem='4096 131072 6291456'"));
    let (_web, sum) = web(&mut rig, "wan");
    for address in ["10.99.0.2", "[fd00:99::2]"] {
        assert_eq!(download(&rig, "lan", address), sum, "{address}");
    }
    // Of struct tcp_info: what is agreed on (timestamps 1, SACK 2, window scale 4), and the server's scale.
    let asks = "import socket\ns = socket.create_connection((\"10.99.0.2\", 80), 3)\n\
                i = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)\n\
                print(i[5] & 7, i[6] & 15)";
    assert_eq!(rig.on("lan", &format!("python3 -c '{asks}'")).trim(), "7 7");
    let summary = rig.finish();
    assert!(count(&summary, "behind over_rate") > 0, "there were losses:\n{summary}");
    assert_eq!(count(&summary, "edge cookies_opened"), 3, "{summary}");
    assert_eq!(count(&summary, "edge cookies_unlike"), 0, "{summary}");
}

#[test]
fn a_cookie_of_one_worker_is_a_cookie_of_all() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let file = bridge("syn-cookies: 0", "max: 10000", None);
    let mut rig = Rig::start_on(name(&file), &BRIDGED, Driver::AfPacketOfTwo).unwrap();
    rig.wait_until("lan reaches wan", || rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    let (_web, _) = web(&mut rig, "wan");
    let gets = "for i in $(seq 20); do curl -sf --max-time 3 -o /dev/null http://10.99.0.2/ || exit 1; done";
    rig.on("lan", &format!("sh -c '{gets}'"));
    let stats: serde_json::Value = serde_json::from_str(&rig.ask(&["stats", "--json"])).unwrap();
    let mut counters = stats["counters"].as_array().unwrap().iter();
    let handed = counters.find(|c| c["metric"] == "handed_over_packets").unwrap();
    assert!(handed["value"].as_u64() > Some(0), "both workers are needed: {handed}");
    let summary = rig.finish();
    assert_eq!(count(&summary, "edge cookies_opened"), 20, "{summary}");
}

/// Downloads in a flood, with room for 2,000 flows: how many succeed, how many connections are half open then, and the
/// run's summary.
fn in_a_flood(keys: &str) -> (usize, usize, String) {
    let file = bridge(keys, "max: 2000, full: refuse", None);
    let mut rig = Rig::start(name(&file));
    let (_web, sum) = web(&mut rig, "wan");
    let flood = ["python3", "tests/testkit/flood.py", "eth0", "10.99.0.2", "9", "3"];
    let flood = rig.begin("lan", &flood);
    std::thread::sleep(Duration::from_millis(700));
    // Two at once, so that both begin in the flood.
    let url = "http://10.99.0.2/file";
    let get =
        || rig.begin("lan", &["curl", "-s", "--connect-timeout", "2", "--max-time", "8", url]);
    let gets = [get(), get()];
    let got = gets.into_iter().filter_map(|get| got(get, &sum).ok()).count();
    let half_open = rig.ask(&["flows", "syn_sent"]).lines().count();
    let flood = flood.wait_with_output().unwrap();
    let sent = String::from_utf8_lossy(&flood.stdout).into_owned();
    println!("{} SYNs, {half_open} half open, {got} downloads", sent.trim());
    (got, half_open, rig.finish())
}

#[test]
fn in_a_flood_connections_open_with_cookies_and_the_half_open_ones_stay_few() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let (got, half_open, summary) = in_a_flood("syn-cookies: 500");
    assert_eq!(got, 2, "{summary}");
    assert!((400..=500).contains(&half_open), "{half_open}\n{summary}");
    assert!(count(&summary, "edge cookies_sent") > 10_000, "{summary}");
    assert_eq!(count(&summary, "edge cookies_opened"), 2, "{summary}");
}

/// The control: the same flood, the same table.
#[test]
fn without_cookies_the_same_flood_fills_the_table() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let (got, half_open, summary) = in_a_flood("default: deny");
    // No more are listed at once.
    assert!(got == 0 && half_open >= 1000, "{half_open}\n{summary}");
    assert!(count(&summary, "flow table_full") > 10_000, "{summary}");
}

/// Address translation on the way out, a balancer on the way in; `seen` cuts them where it stands.
fn edge(outbound: &str, inbound: &str) -> String {
    let seen = if outbound.contains("seen") { "  seen: { type: count }\n" } else { "" };
    format!(
        "ports:\n  \
           lan: {{ device: '${{LAN}}', mode: routed, addresses: [ 10.1.0.1/24, 'fd00:1::1/64' ] }}\n  \
           wan: {{ device: '${{WAN}}', mode: routed, addresses: [ 10.2.0.1/24, 'fd00:2::1/64' ] }}\n\
         functions:\n  \
           outward: {{ type: firewall, stateful: true, rules: [ {{ allow: any }} ], syn-cookies: 0 }}\n  \
           nat: {{ type: nat, external: 198.51.100.10, internal: 10.1.0.0/24 }}\n  \
           web: {{ type: lb, virtual: 198.51.100.80, port: 80, backends: [ {{ address: 10.1.0.2 }} ] }}\n  \
           inward:\n    \
             type: firewall\n    \
             stateful: true\n    \
             rules: [ {{ allow: tcp, dst: 10.1.0.2, dport: 80 }} ]\n    \
             per-source: {{ connections: 100 }}\n    \
             syn-cookies: {{ half-open: 0, timestamps: true }}\n  \
           router: {{ type: route, routes: [ {{ to: 0.0.0.0/0, via: 10.2.0.2 }} ] }}\n{seen}\
         chains:\n  \
           outbound: {{ from: lan, through: [ {outbound}, router ], to: wan }}\n  \
           inbound: {{ from: wan, match: {{ dst: 198.51.100.80 }}, through: [ {inbound}, router ], to: lan }}\n"
    )
}

#[test]
fn addresses_are_translated_and_backends_chosen_as_for_any_connection_and_reloads_break_none() {
    if !is_root() {
        return skip("syn_cookies", "making namespaces needs root");
    }
    let variants = [
        edge("outward, nat", "web, inward"),
        edge("outward, seen, nat", "seen, web, inward"),
        edge("outward, nat, seen", "web, seen, inward"),
    ];
    let file = written(&variants[0]);
    let mut rig = Rig::start_with(name(&file), &ROUTED);
    let (_a, of_lan) = web(&mut rig, "lan");
    let (_b, of_wan) = web(&mut rig, "wan");
    rig.wait_until("lan reaches wan", || rig.succeeds("lan", "ping -c1 -W1 10.2.0.2"));
    let slowly = |host: &str, address: &str| {
        let url = format!("http://{address}/file");
        rig.begin(host, &["curl", "-sS", "--limit-rate", "3M", "--max-time", "10", &url])
    };
    let under_way = [slowly("lan", "10.2.0.2"), slowly("wan", "198.51.100.80")];
    for variant in [1, 2, 0, 1] {
        assert_eq!(download(&rig, "lan", "10.2.0.2"), of_wan);
        assert_eq!(download(&rig, "wan", "198.51.100.80"), of_lan);
        std::fs::write(file.path(), &variants[variant]).unwrap();
        assert!(rig.ask(&["reload"]).starts_with("reloaded "));
    }
    for (child, sum) in under_way.into_iter().zip([&of_wan, &of_lan]) {
        got(child, sum).unwrap();
    }
    let summary = rig.finish();
    assert_eq!(count(&summary, "outward cookies_opened"), 5, "{summary}");
    assert_eq!(count(&summary, "inward cookies_opened"), 5, "{summary}");
}
