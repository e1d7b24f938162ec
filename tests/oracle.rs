//! What clients see through firewall and NAT is what they see through Linux: the same command lines once through nfv
//! (tests/data/oracle.yaml), once through nftables and conntrack, between the same two hosts.

mod testkit;

use std::process::{Child, Command, Stdio};

use testkit::nginx::Nginx;
use testkit::{Driver, ROUTED, Rig, is_root, must, shell, skip};

/// A command line on a host, and what it prints.
struct Scenario {
    what: &'static str,
    host: &'static str,
    line: &'static str,
    /// Through nfv.
    prints: &'static str,
    /// Through Linux, where we differ on purpose, and why.
    differs: Option<(&'static str, &'static str)>,
}

const fn same(
    what: &'static str,
    host: &'static str,
    line: &'static str,
    prints: &'static str,
) -> Scenario {
    Scenario { what, host, line, prints, differs: None }
}

/// curl says with its exit code what became of a connection: 7 is refused or unreachable, 28 is silence.
const SCENARIOS: &[Scenario] = &[
    same("an open port", "lan", "curl -s -m 3 http://10.2.0.2/hello", "from wan"),
    same(
        "a large file arrives as it was sent",
        "lan",
        "curl -s -m 20 http://10.2.0.2/large | cmp - large && echo same",
        "same",
    ),
    same("whom the server sees", "lan", "curl -s -m 3 http://10.2.0.2/who", "198.51.100.10"),
    same(
        "a large file goes up",
        "lan",
        "curl -s -m 20 -T large http://10.2.0.2/length",
        "10000000",
    ),
    same(
        "three requests in one connection",
        "lan",
        "curl -s -m 9 -w ' %{num_connects}\\n' 'http://10.2.0.2/hello?[1-3]' | xargs",
        "from wan 1 from wan 0 from wan 0",
    ),
    same(
        "a hundred requests, fifty at a time",
        "lan",
        "curl -s -m 20 -Z --parallel-immediate --parallel-max 50 -w '%{http_code}\\n' \
         -o /dev/null 'http://10.2.0.2/hello?[1-100]' | grep -c 200",
        "100",
    ),
    same(
        "a large file by HTTP/2",
        "lan",
        "curl -s -m 20 --http2-prior-knowledge http://10.2.0.2:83/large | cmp - large && echo same",
        "same",
    ),
    same(
        "a download that its client takes slowly, and breaks off",
        "lan",
        "curl -s -m 2 --limit-rate 100k -o /dev/null http://10.2.0.2/large; echo $?",
        "28",
    ),
    same(
        "a closed port: the refusal passes",
        "lan",
        "curl -s -m 3 http://10.2.0.2:81/; echo $?",
        "7",
    ),
    same("a port that is filtered", "lan", "curl -s -m 2 http://10.2.0.2:82/; echo $?", "28"),
    same("a host that is not there", "lan", "ping -c 1 -W 2 10.2.0.99 >/dev/null; echo $?", "1"),
    same("a ping", "lan", "ping -c 3 -i 0.2 -W 2 10.2.0.2 >/dev/null; echo $?", "0"),
    same("a ping of the box", "lan", "ping -c 3 -i 0.2 -W 2 10.1.0.1 >/dev/null; echo $?", "0"),
    same(
        "a ping in fragments",
        "lan",
        "ping -c 2 -i 0.2 -W 2 -s 4000 10.2.0.2 >/dev/null; echo $?",
        "0",
    ),
    same(
        "a ping that ends at the box",
        "lan",
        "ping -c 1 -W 2 -t 1 10.2.0.2 | grep -o 'From.*exceeded'",
        "From 10.1.0.1 icmp_seq=1 Time to live exceeded",
    ),
    same(
        "hops by ICMP",
        "lan",
        "traceroute -n -q 1 -w 2 -I 10.2.0.2 | awk 'NR > 1 {print $2}' | xargs",
        "10.1.0.1 10.2.0.2",
    ),
    same(
        "hops by UDP, the last one a port unreachable",
        "lan",
        "traceroute -n -q 1 -w 2 -U -p 33434 10.2.0.2 | awk 'NR > 1 {print $2}' | xargs",
        "10.1.0.1 10.2.0.2",
    ),
    same(
        "UDP: who the server sees",
        "lan",
        "python3 tests/nat_peer.py ask udp 10.1.0.2 5000 10.2.0.2 7 | cut -d' ' -f1",
        "198.51.100.10",
    ),
    same(
        "UDP to a closed port: the refusal passes",
        "lan",
        "python3 tests/nat_peer.py ask udp 10.1.0.2 5001 10.2.0.2 9",
        "refused",
    ),
    same("a name", "lan", "dig +short +tries=1 +time=2 @10.2.0.2 www.example.org A", "192.0.2.53"),
    same("a forwarded port", "wan", "curl -s -m 3 http://198.51.100.10/hello", "from lan"),
    same(
        "a forward to a closed port: the refusal passes",
        "wan",
        "curl -s -m 3 http://198.51.100.10:81/; echo $?",
        "7",
    ),
    same(
        "a port that is not forwarded",
        "wan",
        "curl -s -m 2 http://198.51.100.10:82/; echo $?",
        "28",
    ),
    same("inside is closed", "wan", "curl -s -m 2 http://10.1.0.2:8080/; echo $?", "28"),
    same(
        "inside does not answer a ping",
        "wan",
        "ping -c 1 -W 2 10.1.0.2 >/dev/null; echo $?",
        "1",
    ),
    same(
        "a hairpin",
        "lan",
        "curl -s -m 3 --interface 10.1.0.3 http://198.51.100.10/hello",
        "from lan",
    ),
    same(
        "a hairpin to a closed port",
        "lan",
        "curl -s -m 3 --interface 10.1.0.3 http://198.51.100.10:81/; echo $?",
        "7",
    ),
];

/// Servers on both hosts; they end with it.
struct Servers {
    children: Vec<Child>,
    _nginx: [Nginx; 2],
}

impl Servers {
    fn start(lan: &str, wan: &str, folder: &str) -> Self {
        let server = |listen: &str, root: &str| {
            let more = "location = /who { return 200 $remote_addr; } \
                location = /length { client_max_body_size 0; return 200 $content_length; }";
            format!("server {{ listen {listen}; root {folder}/{root}; {more} }}")
        };
        let both = [server("80", "wan"), server("83 http2", "wan")].concat();
        let nginx = [Nginx::start(wan, 80, &both), Nginx::start(lan, 8080, &server("8080", "lan"))];
        let mut this = Self { children: Vec::new(), _nginx: nginx };
        this.run(wan, &["python3", "tests/nat_peer.py", "serve", "10.2.0.2", "7"]);
        this.run(wan, &["python3", "tests/oracle_dns.py", "10.2.0.2", "53"]);
        for (ns, kind, port) in [(wan, "t", 7), (wan, "u", 53)] {
            let listens = format!("ip netns exec {ns} ss -Hl{kind}n sport = :{port}");
            let there = || !shell(&listens).stdout.is_empty();
            assert!(within_10s(there), "port {port} is served");
        }
        this
    }

    fn run(&mut self, ns: &str, words: &[&str]) {
        let server = Command::new("ip")
            .args(["netns", "exec", ns])
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.children.push(server.expect("the server starts"));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The same two hosts with a Linux router between them: namespaces that end with it.
struct Linux {
    prefix: String,
}

impl Linux {
    fn start() -> Self {
        let this = Self { prefix: format!("nfvo{}", std::process::id()) };
        let middle = this.namespace("linux");
        must(&format!("ip netns add {middle}"));
        for host in &ROUTED {
            let (ns, name) = (this.namespace(host.name), host.name);
            must(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
            must(&format!("ip -n {ns} link add eth0 type veth peer name {name} netns {middle}"));
            must(&format!("ip -n {ns} link set eth0 up && ip -n {middle} link set {name} up"));
            let ([address, _], [router, ..]) = (host.addresses, host.routers) else { continue };
            must(&format!("ip -n {ns} addr add {address} dev eth0"));
            must(&format!("ip -n {middle} addr add {router}/24 dev {name}"));
            must(&format!("ip -n {ns} route add default via {router}"));
        }
        must(&format!("ip -n {middle} route add blackhole 198.51.100.0/24"));
        must(&format!("ip netns exec {middle} sysctl -qw net.ipv4.ip_forward=1"));
        let rules = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(rules.path(), RULES).unwrap();
        must(&format!("ip netns exec {middle} nft -f {}", rules.path().display()));
        this
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        for host in ["lan", "wan", "linux"] {
            shell(&format!("ip netns del {}", self.namespace(host)));
        }
    }
}

/// What tests/data/oracle.yaml says, in nftables' words.
const RULES: &str = "
table ip oracle {
  chain pre {
    type nat hook prerouting priority dstnat;
    ip daddr 198.51.100.10 tcp dport 80 dnat to 10.1.0.2:8080
    ip daddr 198.51.100.10 tcp dport 81 dnat to 10.1.0.2:8081
  }
  chain post {
    type nat hook postrouting priority srcnat;
    iifname lan oifname wan snat to 198.51.100.10
    iifname lan oifname lan ct status dnat snat to 198.51.100.10
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    ct status dnat accept
    iifname lan tcp dport { 80, 81, 83 } accept
    iifname lan udp dport { 7, 9, 53, 33434-33534 } accept
    iifname lan meta l4proto icmp accept
  }
}
";

fn within_10s(mut holds: impl FnMut() -> bool) -> bool {
    (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        holds()
    })
}

/// What each scenario prints, between these namespaces.
fn played(namespace: impl Fn(&str) -> String, folder: &str) -> Vec<String> {
    let [lan, wan] = ["lan", "wan"].map(&namespace);
    must(&format!("ip -n {lan} addr add 10.1.0.3/24 dev eth0"));
    // Refusals are compared, not how many of them a kernel sends a second.
    must(&format!("ip netns exec {wan} sysctl -qw net.ipv4.icmp_ratelimit=0"));
    let _servers = Servers::start(&lan, &wan, folder);
    let pings = |from: &str| {
        let line = format!("ip netns exec {lan} ping -c 1 -W 1 -I {from} 10.2.0.2");
        within_10s(|| shell(&line).status.success())
    };
    assert!(pings("10.1.0.2") && pings("10.1.0.3"), "the way is there");
    let print = |s: &Scenario| {
        let line = s.line.replace(" large ", &format!(" {folder}/wan/large "));
        let words = ["netns", "exec", &namespace(s.host), "sh", "-c", &line];
        let output = Command::new("ip").args(words).output().expect("ip is there");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    SCENARIOS.iter().map(print).collect()
}

#[test]
fn clients_see_through_nfv_what_they_see_through_linux() {
    if !is_root() {
        return skip("oracle", "making namespaces needs root");
    }
    for tool in ["nft", "dig", "traceroute", "nginx"] {
        if !shell(&format!("command -v {tool}")).status.success() {
            return skip("oracle", &format!("there is no {tool}"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for host in ["lan", "wan"] {
        std::fs::create_dir(folder.path().join(host)).unwrap();
        std::fs::write(folder.path().join(host).join("hello"), format!("from {host}")).unwrap();
    }
    let folder_name = folder.path().to_str().unwrap();
    must(&format!("head -c 10000000 /dev/urandom > {folder_name}/wan/large"));

    // Not packet sockets: DPDK has the kernel put fragments together there, into frames that it then cuts.
    let rig = Rig::start_on("tests/data/oracle.yaml", &ROUTED, Driver::AfXdp)
        .expect("XDP sockets are there");
    let ours = played(|host| rig.namespace(host), folder_name);
    println!("{}", rig.finish());
    let linux = Linux::start();
    let theirs = played(|host| linux.namespace(host), folder_name);

    let mut wrong = Vec::new();
    for ((s, ours), theirs) in SCENARIOS.iter().zip(&ours).zip(&theirs) {
        let (expected, why) = s.differs.unwrap_or((s.prints, "as it should be"));
        println!("{}: nfv `{ours}`, Linux `{theirs}`: {why}", s.what);
        if ours != s.prints || theirs != expected {
            wrong.push(format!(
                "{}: nfv `{ours}`, Linux `{theirs}`, expected `{}`",
                s.what, s.prints
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
