//! chains/lb.yaml and its other modes on the network: backends are hosts of their own, with real servers.

mod testkit;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::nginx::Nginx;
use testkit::replayed::Replayed;
use testkit::{ROUTED, Rig, is_root, must, shell, skip};

/// A host beside `wan` on its link, with nginx that has its name, and a server that says it on and on.
struct Backend {
    namespace: String,
    servers: Vec<Child>,
    _nginx: Nginx,
    _folder: tempfile::TempDir,
}

impl Backend {
    /// `name`: of one digit at its end. `addresses`: with prefix lengths, then its routers.
    fn start(rig: &Rig, name: &str, addresses: &[&str], routers: &[&str]) -> Self {
        let (namespace, wan) = (rig.namespace(name), rig.namespace("wan"));
        must(&format!("ip netns add {namespace} && ip -n {namespace} link set lo up"));
        let kind = "type macvlan mode bridge";
        must(&format!("ip -n {wan} link add link eth0 name {name} netns {namespace} {kind}"));
        let digit = name.chars().last().unwrap();
        must(&format!("ip -n {namespace} link set {name} address 02:00:00:00:0b:0{digit}"));
        must(&format!(
            "ip -n {namespace} link set {name} name eth0 && ip -n {namespace} link set eth0 up"
        ));
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            must(&format!("ip -n {namespace} addr add {address} dev eth0 {nodad}"));
        }
        for router in routers {
            must(&format!("ip -n {namespace} route add default via {router}"));
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("name"), format!("{name}\n")).unwrap();
        must(&format!("head -c 3000000 /dev/urandom > {}/large", folder.path().display()));
        let nginx = Nginx::of_files(&namespace, 80, folder.path());
        let mut backend = Self { namespace, servers: Vec::new(), _nginx: nginx, _folder: folder };
        backend.run(&["python3", "tests/testkit/named.py", "serve", name, "81"]);
        let line = format!("ip netns exec {} ss -Hltn sport = :81", backend.namespace);
        rig.wait_until("the backend listens", || !shell(&line).stdout.is_empty());
        backend
    }

    fn run(&mut self, words: &[&str]) {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        self.servers.push(child);
    }

    /// The checksum of its large file.
    fn sha256(&self) -> String {
        let text = must(&format!("sha256sum {}/large", self._folder.path().display()));
        text.split_whitespace().next().unwrap().to_owned()
    }

    /// Cuts it off, so that nobody is told that it is gone.
    fn cut_off(&self) {
        must(&format!("ip -n {} link set eth0 down", self.namespace));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        shell(&format!("ip netns del {}", self.namespace));
    }
}

/// Three backends on the wan side of a routed rig, with both families.
fn three(rig: &Rig) -> Vec<Backend> {
    let start = |i: u8| {
        let (v4, v6) = (format!("10.2.0.1{i}/24"), format!("fd00:2::1{i}/64"));
        Backend::start(rig, &format!("web-{i}"), &[&v4, &v6], &["10.2.0.1", "fd00:2::1"])
    };
    (1..=3).map(start).collect()
}

/// Who answers a number of requests, and how often.
fn answers(rig: &Rig, url: &str, count: u32) -> HashMap<String, u32> {
    let one = format!("curl -gs --max-time 5 {url} || echo nobody");
    let line = format!("sh -c 'for i in $(seq {count}); do {one}; done'");
    let mut counts = HashMap::new();
    for name in rig.on("lan", &line).lines() {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

fn of(counts: &HashMap<String, u32>, name: &str) -> u32 {
    counts.get(name).copied().unwrap_or(0)
}

const NAME: &str = "http://192.0.2.80/name";

/// Waits until the virtual address answers.
fn wait_for(rig: &Rig, url: &str) {
    let line = format!("curl -gsf --max-time 1 -o /dev/null {url}");
    rig.wait_until("the service answers", || rig.succeeds("lan", &line));
}

/// Waits until the service answers by all of its backends.
fn wait_for_all(rig: &Rig) {
    wait_for(rig, NAME);
    rig.wait_until("all are up", || !rig.ask(&["get", "web.backends"]).contains("down"));
}

#[test]
fn requests_spread_by_weight_and_connections_stay_when_a_backend_dies() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let rig = Rig::start_with("chains/lb.yaml", &ROUTED);
    let backends = three(&rig);
    wait_for_all(&rig);
    let counts = answers(&rig, NAME, 200);
    println!("200 requests: {counts:?}");
    assert_eq!(of(&counts, "nobody"), 0);
    for (name, expected) in [("web-1", 50), ("web-2", 100), ("web-3", 50)] {
        // Four standard deviations.
        assert!(of(&counts, name).abs_diff(expected) < 28, "{counts:?}");
    }
    let line = "sh -c 'curl -s --max-time 20 http://192.0.2.80/large | sha256sum'";
    for _ in 0..5 {
        let sum = rig.on("lan", line);
        assert!(backends.iter().any(|b| sum.starts_with(&b.sha256())), "a large file: {sum}");
    }
    let counts = answers(&rig, "http://[2001:db8::80]/name", 20);
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [20], "affinity: source: {counts:?}");
    assert_eq!(of(&counts, "nobody"), 0);

    let ns = rig.namespace("lan");
    let held = Command::new("ip")
        .args(["netns", "exec", &ns, "python3", "tests/testkit/named.py"])
        .args(["hold", "192.0.2.80", "81", "120", "12"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    backends[1].cut_off();
    rig.wait_until("the check finds it", || {
        rig.ask(&["get", "web.backends"]).contains("web-2 down")
    });
    let counts = answers(&rig, NAME, 60);
    println!("without web-2: {counts:?}");
    assert_eq!((of(&counts, "web-2"), of(&counts, "nobody")), (0, 0), "new flows go elsewhere");
    let output = held.wait_with_output().unwrap();
    let ends = String::from_utf8(output.stdout).unwrap();
    println!("held connections:\n{ends}");
    assert!(output.status.success());
    let kinds: Vec<&str> =
        ends.lines().filter_map(|l| l.rsplit_once(' ').map(|(k, _)| k)).collect();
    assert_eq!(kinds, ["web-1 kept", "web-2 broke", "web-3 kept"], "{ends}");

    must(&format!("ip -n {} link set eth0 up", backends[1].namespace));
    must(&format!("ip -n {} route add default via 10.2.0.1", backends[1].namespace));
    rig.wait_until("it is back", || rig.ask(&["get", "web.backends"]).contains("web-2 up"));
    rig.wait_until("it is used", || of(&answers(&rig, NAME, 10), "web-2") > 0);
    drop(backends);
    rig.wait_until("all are down", || {
        rig.ask(&["get", "web.backends"]).matches("down").count() == 3
    });
    assert_eq!(of(&answers(&rig, NAME, 3), "nobody"), 3);
    let summary = rig.finish();
    assert!(summary.contains("web no_backend"), "{summary}");
}

#[test]
fn a_drained_backend_keeps_its_connections_and_gets_no_new_ones() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let (_folder, file) = chain(&patient());
    let rig = Rig::start_with(&file, &ROUTED);
    let _backends = three(&rig);
    wait_for_all(&rig);
    let ns = rig.namespace("lan");
    let held = Command::new("ip")
        .args(["netns", "exec", &ns, "python3", "tests/testkit/named.py"])
        .args(["hold", "192.0.2.80", "81", "60", "6"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    rig.ask(&["set", "web.drain", "web-2"]);
    let list = rig.ask(&["get", "web.backends"]);
    assert!(list.contains("web-2 draining"), "{list}");
    let counts = answers(&rig, NAME, 60);
    assert_eq!((of(&counts, "web-2"), of(&counts, "nobody")), (0, 0), "{counts:?}");
    let ends = String::from_utf8(held.wait_with_output().unwrap().stdout).unwrap();
    assert!(ends.contains("web-2 kept"), "{ends}");
    assert!(!ends.contains("broke") && !ends.contains("other"), "{ends}");
    rig.ask(&["set", "web.enable", "web-2"]);
    let counts = answers(&rig, NAME, 40);
    assert!(of(&counts, "web-2") > 5, "{counts:?}");
    rig.finish();
}

#[test]
fn without_a_balancer_nobody_answers_at_the_virtual_address() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let rig = Rig::start_with("chains/router.yaml", &ROUTED);
    let _backends = three(&rig);
    wait_for(&rig, "http://10.2.0.11/name");
    assert_eq!(of(&answers(&rig, NAME, 2), "nobody"), 2);
    rig.finish();
}

/// A chain file in a folder of its own.
fn chain(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.yaml");
    std::fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    (folder, name)
}

/// chains/lb.yaml, for tests in which no backend dies: on a machine that is busy an answer may take long.
fn patient() -> String {
    let text = std::fs::read_to_string("chains/lb.yaml").unwrap();
    let (fast, slow) = ("interval: 1s, timeout: 500ms", "interval: 2s, timeout: 1900ms");
    assert!(text.contains(fast));
    text.replace(fast, slow)
}

/// The service of chains/lb.yaml in another mode.
fn in_mode(mode: &str, backends: &str) -> (tempfile::TempDir, String) {
    let text = patient();
    let (head, rest) = text.split_once("    backends:").unwrap();
    let (_, tail) = rest.split_once("    health:").unwrap();
    let (health, tail) = tail.split_once("  web6:").unwrap();
    let (_, tail) = tail.split_once("  router:").unwrap();
    let tail = tail.replace("web, web6, router", "web, router");
    // What backends send under the virtual address may pass by the box as well as anywhere.
    let own = "  own: { from: wan, match: { src: 192.0.2.80 }, through: [ router ], to: lan }";
    chain(&format!(
        "{head}    {mode}\n    backends: [ {backends} ]\n    health:{health}  router:{tail}{own}\n"
    ))
}

/// A server on `lan` that says who asks.
fn mirror(rig: &Rig) -> Nginx {
    let says =
        "server { listen 8080; location / { return 200 \"$remote_addr $remote_port\\n\"; } }";
    Nginx::start(&rig.namespace("lan"), 8080, says)
}

const MIRROR: &str = "http://10.1.0.2:8080/";

/// As whom the server on `lan` sees requests of a host: address and ports.
fn seen_as(rig: &Rig, host: &str, curl: &str) -> (String, Vec<u16>) {
    let text = rig.on(host, &format!("curl -gs --max-time 5 {curl}"));
    let parse = |line: &str| -> Option<(String, u16)> {
        let (address, port) = line.split_once(' ')?;
        Some((address.to_owned(), port.parse().ok()?))
    };
    let all: Option<Vec<(String, u16)>> = text.lines().map(parse).collect();
    let all = all.unwrap_or_else(|| panic!("{host} gets: {text}"));
    let (addresses, ports): (Vec<String>, Vec<u16>) = all.into_iter().unzip();
    assert!(addresses.windows(2).all(|two| two[0] == two[1]), "{addresses:?}");
    (addresses[0].clone(), ports)
}

/// The same after a change.
fn changed(from: &str, to: &str) -> (tempfile::TempDir, String) {
    let text = patient();
    assert!(text.contains(from), "{from}");
    chain(&text.replace(from, to))
}

#[test]
fn what_backends_open_leaves_by_the_virtual_address_with_ports_of_their_own_ranges() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let (_folder, file) = chain(&patient());
    let rig = Rig::start_with(&file, &ROUTED);
    let _backends = three(&rig);
    let _mirror = mirror(&rig);
    wait_for_all(&rig);
    let many = format!("--parallel --parallel-immediate --parallel-max 30 \"{MIRROR}[1-60]\"");
    for (host, ports) in [("web-1", 40_000..=40_511), ("web-2", 40_512..=41_023)] {
        for curl in [MIRROR, many.as_str()] {
            let (address, seen) = seen_as(&rig, host, curl);
            assert_eq!(address, "192.0.2.80", "{host}");
            assert!(seen.iter().all(|port| ports.contains(port)), "{host}: {seen:?}");
        }
        rig.on(host, "ping -c 2 -i 0.2 -W 2 10.1.0.2");
    }
    let (address, _) = seen_as(&rig, "web-3", MIRROR);
    assert_eq!(address, "10.2.0.13", "control: one without a range is seen as itself");
    let counts = rig.ask(&["get", "web.snat"]);
    let used: Vec<u32> =
        counts.lines().filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
    assert!(used.len() == 2 && used.iter().all(|n| *n >= 2), "{counts}");
    let flows = rig.ask(&["flows", "outbound tcp"]);
    assert!(flows.contains(" as 192.0.2.80:40"), "{flows}");
    // A backend reaches its own service by the box, both ways.
    let line = "sh -c 'for i in $(seq 20); do curl -s --max-time 5 http://192.0.2.80/name; done'";
    let names = rig.on("web-1", line);
    for name in ["web-1", "web-2", "web-3"] {
        assert!(names.contains(name), "{names}");
    }
    assert_eq!(names.lines().count(), 20, "{names}");
    assert_eq!(of(&answers(&rig, NAME, 10), "nobody"), 0, "the service is as it was");
    // A reload that takes a range away from one and moves another's: flows keep their ports.
    let held = rig.begin("web-1", &["bash", "-c", HELD]);
    rig.wait_until("it is open", || {
        rig.ask(&["flows", "outbound tcp established"]).contains("10.2.0.11")
    });
    let (_folder, file) = changed("snat-ports: 40000-40511", "snat-ports: 50000-50007");
    assert!(rig.ask(&["reload", &file]).starts_with("reloaded "));
    let (address, seen) = seen_as(&rig, "web-1", MIRROR);
    assert_eq!(address, "192.0.2.80");
    assert!((50_000..=50_007).contains(&seen[0]), "{seen:?}");
    let output = held.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("192.0.2.80 40"), "the connection that was open goes on: {text}");
    rig.finish();
}

/// Opens a connection, and asks by it only four seconds later.
const HELD: &str = "exec 3<>/dev/tcp/10.1.0.2/8080; sleep 4; \
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; timeout 5 cat <&3";

#[test]
fn without_ranges_backends_are_seen_as_themselves() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let (_folder, file) = changed(", snat-ports", " } #");
    let rig = Rig::start_with(&file, &ROUTED);
    let _backends = three(&rig);
    let _mirror = mirror(&rig);
    wait_for(&rig, "http://10.2.0.11/name");
    assert_eq!(seen_as(&rig, "web-1", MIRROR).0, "10.2.0.11");
    rig.finish();
}

#[test]
fn a_range_that_is_used_up_refuses_what_is_more_and_says_so() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let (_folder, file) = changed("snat-ports: 40512-41023", "snat-ports: 40512-40519");
    let rig = Rig::start_with(&file, &ROUTED);
    let _backends = three(&rig);
    let _mirror = mirror(&rig);
    wait_for_all(&rig);
    let ports: Vec<u16> = (0..8).flat_map(|_| seen_as(&rig, "web-2", MIRROR).1).collect();
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (40_512..=40_519).collect::<Vec<u16>>(), "one each: {ports:?}");
    // Connections that were closed have theirs for two minutes.
    let line = format!("sh -c 'curl -s --max-time 5 {MIRROR}; echo $?'");
    assert_eq!(rig.on("web-2", &line).trim(), "7", "it is told, and need not wait");
    assert_eq!(seen_as(&rig, "web-1", MIRROR).0, "192.0.2.80", "others have ports still");
    let summary = rig.finish();
    assert!(summary.contains("web snat_exhausted"), "{summary}");
}

#[test]
fn direct_server_return_reaches_backends_that_have_the_virtual_address() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let (_folder, file) = chain(
        "ports: { lan: '${LAN:-net_null0}', wan: '${WAN:-net_null1}' }\n\
         functions:\n  web:\n    type: lb\n    virtual: 10.99.0.100\n    port: 80-81\n    mode: dsr\n    backends:\n\
         \x20     - { name: web-1, address: 10.99.0.11, mac: 02:00:00:00:0b:01 }\n\
         \x20     - { name: web-2, address: 10.99.0.12, mac: 02:00:00:00:0b:02 }\n\
         chains: { inbound: { from: lan, through: [ web ], to: wan } }\n",
    );
    let rig = Rig::start(&file);
    // Frames to the virtual address are addressed to wan, which has not got it.
    rig.on("lan", "ip route add 10.99.0.100 via 10.99.0.2");
    let url = "http://10.99.0.100/name";
    let mut backends = Vec::new();
    for i in 1..=2 {
        let name = format!("web-{i}");
        let backend = Backend::start(&rig, &name, &[&format!("10.99.0.1{i}/24")], &[]);
        assert_eq!(of(&answers(&rig, url, 1), &name), 0, "control: it has not got the address");
        rig.on(&name, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        rig.on(&name, "ip addr add 10.99.0.100/32 dev lo");
        backends.push(backend);
    }
    let counts = answers(&rig, url, 40);
    println!("{counts:?}");
    assert_eq!(of(&counts, "nobody"), 0);
    assert!(of(&counts, "web-1") > 5 && of(&counts, "web-2") > 5, "{counts:?}");
    let ends = rig.on("lan", "python3 tests/testkit/named.py hold 10.99.0.100 81 40 2");
    assert!(ends.contains("web-1 kept") && ends.contains("web-2 kept"), "{ends}");
    assert!(!ends.contains("broke") && !ends.contains("other"), "{ends}");
    rig.finish();
}

/// Requests through tunnels to two backends that have the virtual address behind their ends, by the kernel's own devices
/// where it has them.
fn through_tunnels(mode: &str, backends: &str, end: &[&str], kernel: &str) {
    let (_folder, file) = in_mode(mode, backends);
    let rig = Rig::start_with(&file, &ROUTED);
    let mut hosts = three(&rig);
    hosts.truncate(2);
    for (host, name) in hosts.iter_mut().zip(["web-1", "web-2"]) {
        rig.on(name, "ip addr add 192.0.2.80/32 dev lo");
        // It asks for its router under its own address, so that nobody learns where the virtual one is.
        rig.on(name, "sysctl -qw net.ipv4.conf.all.arp_announce=2");
        if rig.succeeds(name, &format!("sh -c '{kernel}'")) {
            rig.on(name, "sysctl -qw net.ipv4.conf.all.rp_filter=0");
        } else {
            println!("the kernel has no `{kernel}`: a program is the far end");
            let words = [&["python3", "tests/testkit/decapsulate.py"], end].concat();
            host.run(&words);
            rig.wait_until("it has its device", || rig.succeeds(name, "ip link show up t0"));
        }
    }
    wait_for_all(&rig);
    let counts = answers(&rig, NAME, 40);
    println!("{counts:?}");
    assert_eq!(of(&counts, "nobody"), 0);
    assert!(of(&counts, "web-1") > 5 && of(&counts, "web-2") > 5, "{counts:?}");
    // Under the virtual address they open connections themselves, with ports of their ranges.
    let _mirror = mirror(&rig);
    for (name, ports) in [("web-1", "40000-40007"), ("web-2", "40008-40015")] {
        let curl = format!("--interface 192.0.2.80 --local-port {ports} {MIRROR}");
        let (address, seen) = seen_as(&rig, name, &curl);
        assert_eq!(address, "192.0.2.80");
        println!("{name} asks from port {seen:?}");
        let other = format!("--interface 192.0.2.80 --local-port 40016-40023 {MIRROR}");
        let line = format!("curl -gs --max-time 2 {other}");
        assert!(!rig.succeeds(name, &line), "control: a port that is nobody's");
    }
    // What a client sends is as long as its link takes, until it is told what the tunnel takes.
    let ask = "yes $(printf %08000d 0) | head -n 40";
    let line = format!(
        "bash -c 'exec 3<>/dev/tcp/192.0.2.80/81; ({ask}) >&3 & timeout 10 head -n 40 <&3 | wc -c'"
    );
    // Each line comes back behind `web-1 `.
    assert_eq!(rig.on("lan", &line).trim(), (40 * (6 + 8001)).to_string());
    let ends = rig.on("lan", "python3 tests/testkit/named.py hold 192.0.2.80 81 40 2");
    assert!(ends.contains("web-1 kept") && ends.contains("web-2 kept"), "{ends}");
    assert!(!ends.contains("broke") && !ends.contains("other"), "{ends}");
    let summary = rig.finish();
    assert!(summary.contains("forward too_big"), "{summary}");
}

#[test]
fn ip_in_ip_reaches_backends_that_answer_directly() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let backends = "{ name: web-1, address: 10.2.0.11, snat-ports: 40000-40007 }, \
                    { name: web-2, address: 10.2.0.12, snat-ports: 40008-40015 }";
    let kernel = "ip link add t0 type ipip external && ip link set t0 up";
    through_tunnels("mode: ipip\n    from: 10.2.0.1", backends, &["ipip"], kernel);
}

#[test]
fn gue_over_ipv6_reaches_backends_that_answer_directly() {
    if !is_root() {
        return skip("lb", "making namespaces needs root");
    }
    let backends = "{ name: web-1, address: \"fd00:2::11\", snat-ports: 40000-40007 }, \
                    { name: web-2, address: \"fd00:2::12\", snat-ports: 40008-40015 }";
    let kernel =
        "ip fou add port 6080 gue -6 && ip link add t0 type ip6tnl external && ip link set t0 up";
    through_tunnels("mode: gue\n    from: \"fd00:2::1\"", backends, &["gue", "6080"], kernel);
}

/// A TCP segment of 10.1.0.2 to a virtual address, without payload.
fn segment(flags: u8, sport: u16, seq: u32) -> Vec<u8> {
    use nfv_core::packet::checksum::Sum;
    let mut frame = testkit::packets::port_mac(0).to_vec();
    frame.extend([2, 9, 9, 9, 9, 9, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 2, 192, 0, 2, 80];
    let sum = Sum::of(&ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(sport.to_be_bytes());
    frame.extend([0, 80]);
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 9, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

const ONE_WAY: &str = "ports: { lan: '${LAN:-net_null0}', wan: '${WAN:-net_null1}' }\n\
    flows: { max: 1, full: refuse }\n\
    functions: { web: { type: lb, virtual: 192.0.2.80, mode: dsr, backends: [ { address: 10.9.0.1, mac: 02:00:00:00:00:07 } ] } }\n\
    chains: { inbound: { from: lan, through: [ web ], to: wan } }\n";

#[test]
fn a_connection_of_which_one_side_is_seen_lives_as_long_as_one_that_is_open() {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 17;
    let (_folder, file) = chain(ONE_WAY);
    // There is room for one flow, so another one is refused as long as the first one lives.
    let refused = |list: &[(u64, u8, u16)]| {
        let frames = list.iter().map(|(at, flags, sport)| {
            (at * 1_000_000_000, segment(*flags, *sport, if *flags == SYN { 7 } else { 8 }))
        });
        let run = Replayed::of(&file, frames).succeeded();
        assert!(run.sent("wan").iter().all(|f| f[..6] == [2, 0, 0, 0, 0, 7]), "to its station");
        run.dropped("flow/table_full")
    };
    assert_eq!(refused(&[(0, SYN, 1000), (1, ACK, 1000), (3000, SYN, 1001)]), 1);
    assert_eq!(refused(&[(0, SYN, 1000), (3000, SYN, 1001)]), 0, "control: half open");
    let closed = [(0, SYN, 1000), (1, ACK, 1000), (2, FIN, 1000), (3000, SYN, 1001)];
    assert_eq!(refused(&closed), 0, "what its opener closes is over");
}

#[test]
fn a_service_that_cannot_be_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.yaml");
    let told = |section: &str| -> String {
        let text = format!(
            "ports: {{ lan: net_null0, wan: net_null1 }}\nfunctions:\n{section}\nchains: {{ c: {{ from: lan, through: [ a ], to: wan }} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        check(&file)
    };
    let one = "{ address: 10.2.0.1 }";
    let lb = |rest: &str| format!("  a: {{ type: lb, virtual: 192.0.2.1, port: 80, {rest} }}");
    assert_eq!(told(&lb(&format!("backends: [ {one} ]"))), "", "control: it is right");
    let with_ports =
        |ports: &str| format!("backends: [ {{ address: 10.2.0.1, snat-ports: {ports} }} ]");
    assert_eq!(told(&lb(&with_ports("40000-40007"))), "", "control: a range");
    let all = lb(&with_ports("40000-40007")).replace("port: 80,", "affinity: none,");
    let text = told(&all);
    assert!(text.contains("`snat-ports` of a service that has all ports"), "{text}");
    for (what, place, message) in [
        ("backends: []".to_owned(), "3:58", "a virtual address without backends"),
        (format!("backends: [ {one}, {one} ]"), "3:83", "there is a backend `10.2.0.1` already"),
        (
            "backends: [ { address: 10.2.0.1, name: x }, { address: 'fd00::1', name: x } ]"
                .to_owned(),
            "3:92",
            "backend `x` has addresses of two families",
        ),
        (
            "backends: [ { address: 'fd00::1' } ]".to_owned(),
            "3:71",
            "fd00::1 is IPv6, and 192.0.2.1 is IPv4",
        ),
        (
            "backends: [ { address: 10.2.0.1, weight: 0 } ]".to_owned(),
            "3:58",
            "no backend has any weight",
        ),
        (format!("mode: dsr, backends: [ {one} ]"), "3:71", "backend `10.2.0.1` has no `mac`"),
        (
            format!("mode: ipip, backends: [ {one} ]"),
            "3:83",
            "there is no tunnel from IPv4 to 10.2.0.1",
        ),
        (
            format!("table-size: 65536, backends: [ {one} ]"),
            "3:60",
            "65536 is not a size of a table",
        ),
        (
            format!("quic: {{ server-id-length: 1 }}, backends: [ {one} ]"),
            "3:48",
            "`quic` without `protocol: quic`",
        ),
        (
            format!("from: 10.2.0.9, backends: [ {one} ]"),
            "3:48",
            "`from` is of no use in mode `dnat`",
        ),
        (
            format!("backends: [ {one} ], health: {{ interval: 1s, timeout: 2s }}"),
            "3:118",
            "the timeout is 2s, which is not below the interval of 1s",
        ),
        (with_ports("40001-40010"), "3:93", "40001-40010 is no range that a backend can have"),
        (with_ports("40000-40006"), "3:93", "40000-40006 is no range that a backend can have"),
        (with_ports("0-7"), "3:93", "port 0 is none's"),
        (with_ports("72-87"), "3:93", "192.0.2.1 port 80 is the virtual address of a lb already"),
        (
            with_ports("40000-40007 }, { address: 10.2.0.2, snat-ports: 40000-40015"),
            "3:141",
            "192.0.2.1 port 40000 is of a backend's `snat-ports` already",
        ),
        (
            with_ports("40000-40007 }, { address: 10.2.0.1, port: 81, snat-ports: 40008-40015"),
            "3:151",
            "10.2.0.1 has `snat-ports` already",
        ),
    ] {
        let text = told(&lb(&what));
        assert!(text.contains(&format!(":{place}: {message}")), "{what}: {text}");
        assert!(text.contains('^'), "{text}");
    }
    let two = |second: &str| {
        format!(
            "{}\n  b: {{ type: lb, virtual: 192.0.2.1, {second}, backends: [ {one} ] }}",
            lb(&format!("backends: [ {one} ]"))
        )
    };
    let text = told(&two("port: 79-81"));
    let message = ":4:27: 192.0.2.1 port 80 is the virtual address of a lb already";
    assert!(text.contains(message), "{text}");
    assert!(text.contains("line 3"), "{text}");
    assert_eq!(told(&two("port: 81")), "", "control: another port");
    assert_eq!(told(&two("port: 81-65535")), "", "control: all ports but that");
    assert_eq!(told(&two("port: 80, protocol: udp")), "", "control: another protocol");
}

/// What `nfv check` says is wrong.
fn check(file: &Path) -> String {
    let output = Command::new(testkit::NFV).arg("check").arg(file).output().unwrap();
    if output.status.success() {
        return String::new();
    }
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}
