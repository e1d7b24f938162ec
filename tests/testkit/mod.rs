//! Real hosts around a running `nfv`: three network namespaces or more, `lan` - `nfv` - `wan`, joined by veth pairs.

#![allow(dead_code, reason = "each test uses its own part of the kit")]

pub mod conversation;
pub mod nginx;
pub mod packets;
pub mod replayed;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub const NFV: &str = env!("CARGO_BIN_EXE_nfv");

/// Says that a test is skipped and why, for the list of skips.
pub fn skip(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
}

/// Whether this process may make namespaces.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.starts_with(b"0\n"))
}

/// Runs a command line to its end, and returns what it printed; a failure ends the test with its output.
pub fn must(line: &str) -> String {
    let output = shell(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed: {text}{errors}");
    text
}

/// Runs a command line to its end.
pub fn shell(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().expect("sh is there")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A host: its name, its addresses, its routers.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// `lan` or `wan`: the port that it is behind, too, whose device the chain file takes from ${LAN} or ${WAN}.
    pub name: &'static str,
    /// With prefix lengths.
    pub addresses: [&'static str; 2],
    /// Its default routers; none when both hosts are on one network.
    pub routers: &'static [&'static str],
}

/// Two hosts on one network, with a bump in the wire between them.
pub const BRIDGED: [Host; 2] = [
    Host { name: "lan", addresses: ["10.99.0.1/24", "fd00:99::1/64"], routers: &[] },
    Host { name: "wan", addresses: ["10.99.0.2/24", "fd00:99::2/64"], routers: &[] },
];

/// Two hosts on networks of their own, with a router between them.
pub const ROUTED: [Host; 2] = [
    Host {
        name: "lan",
        addresses: ["10.1.0.2/24", "fd00:1::2/64"],
        routers: &["10.1.0.1", "fd00:1::1"],
    },
    Host {
        name: "wan",
        addresses: ["10.2.0.2/24", "fd00:2::2/64"],
        routers: &["10.2.0.1", "fd00:2::1"],
    },
];

/// The driver by which nfv reaches the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Packet sockets on the near ends of veth pairs.
    AfPacket,
    /// As those, two a port for two workers: the kernel spreads flows over them by a hash of its own.
    AfPacketOfTwo,
    /// Emulated NICs for two workers in front of packet sockets: they spread flows by tables that can be rewritten.
    EmulatedOfTwo,
    /// As `AfPacket`, for two workers: the chain file has NICs in front of them.
    WireOfTwo,
    /// XDP sockets on them.
    AfXdp,
    /// Taps that nfv makes, and that become the hosts' interfaces.
    Tap,
}

impl Driver {
    /// The device for a host, the first or second one.
    fn device(self, name: &str, at: usize) -> String {
        match self {
            // Room for the time in which a worker that shares its core with a test does not run.
            Self::AfPacket | Self::WireOfTwo => {
                format!("net_af_packet{at},iface={name}-veth,framecnt=8192")
            }
            // Where a queue is full the kernel takes the other one, and packets overtake each other: much room.
            Self::AfPacketOfTwo => {
                format!("net_af_packet{at},iface={name}-veth,qpairs=2,framecnt=8192")
            }
            Self::EmulatedOfTwo => {
                format!("emulated,queues=2,wire=net_af_packet{at},iface={name}-veth,framecnt=8192")
            }
            Self::AfXdp => format!("net_af_xdp{at},iface={name}-veth"),
            Self::Tap => format!("net_tap{at},iface={name}-tap"),
        }
    }

    /// The EAL's arguments for as many workers as there are queues.
    fn lcores(self) -> [&'static str; 2] {
        match self {
            Self::AfPacketOfTwo | Self::EmulatedOfTwo | Self::WireOfTwo => {
                ["--lcores", "0@0,1@0,2@1"]
            }
            Self::AfPacket | Self::AfXdp | Self::Tap => ["-l", "0,1"],
        }
    }
}

/// Two hosts and the namespace between them, with a chain running there.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    hosts: Vec<&'static str>,
    nfv: Option<Child>,
    log: Log,
    servers: Vec<Child>,
    /// Workers never sleep, so rigs on the same cores would slow each other down: one at a time.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no rig's workers run, and keeps others from starting, for a test with workers of its own.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a program writes, read by a thread while it runs, and shown by the test.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn of(from: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let (to, lines) = (log.clone(), BufReader::new(from).lines());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
                *to.0.lock().unwrap() += &(line + "\n");
            }
        });
        log
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Rig {
    /// Makes the namespaces and starts `nfv run` on `chain`, which names its ports' devices by ${LAN} and ${WAN}.
    pub fn start(chain: &str) -> Self {
        let rig = Self::start_with(chain, &BRIDGED);
        rig.wait_until("the chain carries a ping", || {
            rig.succeeds("lan", "ping -c1 -W1 10.99.0.2")
        });
        rig
    }

    /// As [`Rig::start`] with hosts that are wired otherwise; does not wait until anything passes.
    pub fn start_with(chain: &str, hosts: &[Host]) -> Self {
        Self::start_on(chain, hosts, Driver::AfPacket).expect("packet sockets are there")
    }

    /// As [`Rig::start_with`] over another driver. `Err`: nfv ended, with what it said.
    pub fn start_on(chain: &str, hosts: &[Host], driver: Driver) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("nfvt{}-{id}", std::process::id());
        let _alone = alone();
        let names = hosts.iter().map(|host| host.name).collect();
        let (log, servers) = (Log::default(), Vec::new());
        let mut rig = Self { prefix, hosts: names, nfv: None, log, servers, _alone };
        let middle = rig.namespace("nfv");
        must(&format!("ip netns add {middle} && ip -n {middle} link set lo up"));
        for host in hosts {
            let (ns, name) = (rig.namespace(host.name), host.name);
            must(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
            if driver == Driver::Tap {
                continue;
            }
            let veth = format!("{name}-veth");
            must(&format!("ip -n {ns} link add eth0 type veth peer name {veth} netns {middle}"));
            // Without these veth hands over super-packets and partial checksums.
            must(&format!("ip netns exec {ns} ethtool -K eth0 tso off gso off tx off"));
            must(&format!("ip netns exec {middle} sysctl -qw net.ipv6.conf.{veth}.disable_ipv6=1"));
            // The kernel gets what nfv gets: without these it would answer, beside the twin, for the twin's addresses.
            must(&format!("ip netns exec {middle} sysctl -qw net.ipv4.conf.{veth}.rp_filter=1"));
            must(&format!("ip -n {middle} link set {veth} arp off"));
            must(&format!("ip -n {middle} link set {veth} up"));
            rig.address(host);
        }
        let socket = rig.socket();
        let mut nfv = Command::new("ip")
            .args(["netns", "exec", &middle, NFV, "run", "--no-pci"])
            .args(driver.lcores())
            .args(["--", chain, "--control", &socket])
            .envs(hosts.iter().enumerate().map(|(at, host)| {
                let variable = host.name.to_uppercase().replace('-', "_");
                (variable, driver.device(host.name, at))
            }))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nfv starts");
        rig.log = Log::of(nfv.stderr.take().expect("it is piped"));
        rig.nfv = Some(nfv);
        if driver == Driver::Tap {
            for host in hosts {
                let (ns, tap) = (rig.namespace(host.name), format!("{}-tap", host.name));
                rig.wait_until("nfv makes its taps", || {
                    shell(&format!("ip -n {middle} link show {tap}")).status.success()
                });
                must(&format!("ip -n {middle} link set {tap} netns {ns} name eth0"));
                rig.address(host);
            }
        }
        let log = rig.log.clone();
        wait_until("nfv runs", || log.text().contains("link up") || rig.has_ended());
        if rig.has_ended() { Err(rig.log.text()) } else { Ok(rig) }
    }

    /// Brings a host's interface up, with its addresses and routers.
    fn address(&self, host: &Host) {
        let ns = self.namespace(host.name);
        must(&format!("ip -n {ns} link set eth0 up"));
        for address in host.addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            must(&format!("ip -n {ns} addr add {address} dev eth0 {nodad}"));
        }
        for router in host.routers {
            must(&format!("ip -n {ns} route add default via {router}"));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.nfv.as_mut().is_none_or(|nfv| nfv.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// What nfv has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// For how long the worker threads had a CPU, all together, and for how long they had one or waited for one.
    pub fn cpu_of_workers(&self) -> [Duration; 2] {
        let nfv = self.nfv.as_ref().expect("it runs").id();
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let threads = std::fs::read_dir(format!("/proc/{nfv}/task")).expect("it has threads");
        let threads = threads.map(|t| t.expect("a thread").path().display().to_string());
        let workers = threads.filter(|t| read(format!("{t}/comm")).contains("worker"));
        let (mut had, mut wanted) = (Duration::ZERO, Duration::ZERO);
        for worker in workers {
            let times = read(format!("{worker}/schedstat"));
            let mut times = times.split(' ').filter_map(|n| n.parse().ok());
            let mut next = || Duration::from_nanos(times.next().unwrap_or_default());
            let (ran, waited) = (next(), next());
            had += ran;
            wanted += ran + waited;
        }
        [had, wanted]
    }

    /// Where the run listens.
    pub fn socket(&self) -> String {
        format!("{}/{}.sock", std::env::temp_dir().display(), self.prefix)
    }

    /// Runs `nfv ctl` on the run.
    pub fn ctl(&self, words: &[&str]) -> Output {
        let socket = self.socket();
        Command::new(NFV).arg("ctl").args(words).args(["--control", &socket]).output().unwrap()
    }

    /// As [`Rig::ctl`], which must succeed. Returns what it printed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nfv ctl {words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a program on a host, whose output is to be waited for.
    pub fn begin(&self, host: &str, words: &[&str]) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// The namespace of a host; `nfv` is that between them.
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Waits until something holds, 30 s at most.
    pub fn wait_until(&self, what: &str, holds: impl FnMut() -> bool) {
        wait_until(what, holds);
    }

    /// Runs a command line on a host; it must succeed. Returns what it printed.
    pub fn on(&self, host: &str, line: &str) -> String {
        must(&format!("ip netns exec {} {line}", self.namespace(host)))
    }

    /// Runs iperf3 from a host, TCP and then UDP, two seconds each, to a server that listens there.
    pub fn iperf(&self, host: &str, to: &str) {
        for more in ["", "-u -b 20M"] {
            // The server serves one client at a time, and may not be done with the last one.
            let line = format!("iperf3 -c {to} -t 2 {more}");
            let tries = (0..3).any(|_| {
                std::thread::sleep(Duration::from_millis(200));
                self.succeeds(host, &line)
            });
            assert!(tries, "`{line}` on {host}");
        }
    }

    /// Whether a command line succeeds on a host.
    pub fn succeeds(&self, host: &str, line: &str) -> bool {
        shell(&format!("ip netns exec {} {line}", self.namespace(host))).status.success()
    }

    /// What the run has counted so far under a metric, all workers together: by the values of its labels.
    pub fn counted(&self, metric: &str) -> BTreeMap<String, u64> {
        let stats: Value = serde_json::from_str(&self.ask(&["stats", "--json"])).unwrap();
        let counters = stats["counters"].as_array().unwrap().iter();
        let labels = |c: &Value| -> String {
            let all = c["labels"].as_array().unwrap().iter();
            all.filter_map(|l| l[1].as_str()).collect::<Vec<_>>().join(" ")
        };
        let value = |c: &Value| (labels(c), c["value"].as_u64().unwrap());
        counters.filter(|c| c["metric"] == metric).map(value).collect()
    }

    /// Starts a server on a host; it ends with the rig. Waits until it listens on TCP `port`, besides others that do.
    pub fn serve(&mut self, host: &str, port: u16, words: &[&str]) {
        let ns = self.namespace(host);
        let sockets = || {
            let list = shell(&format!("ip netns exec {ns} ss -Hltn sport = :{port}")).stdout;
            list.iter().filter(|byte| **byte == b'\n').count()
        };
        let before = sockets();
        let server = Command::new("ip")
            .args(["netns", "exec", &ns])
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        self.servers.push(server);
        self.wait_until("the server listens", || sockets() > before);
    }

    /// Sends nfv a SIGHUP.
    pub fn hang_up(&self) {
        let nfv = self.nfv.as_ref().expect("it runs");
        must(&format!("kill -HUP {}", nfv.id()));
    }

    /// Stops nfv as a user would, and checks that it ends well with an account that balances. Returns its summary.
    pub fn finish(mut self) -> String {
        let mut nfv = self.nfv.take().expect("it runs");
        must(&format!("kill -INT {}", nfv.id()));
        let status = nfv.wait().expect("it ends");
        let mut summary = String::new();
        if let Some(mut out) = nfv.stdout.take() {
            out.read_to_string(&mut summary).expect("its output is text");
        }
        assert!(status.success(), "nfv ended with {status}:\n{summary}");
        // net_tap says so of a kernel without a scheduler that it needs for rte_flow only.
        let of_tap = |line: &str| line.contains("tap_") || line.contains("multiq");
        let is_error = |line: &&str| line.contains("ERROR") && !of_tap(line);
        let log = self.log.text();
        assert_eq!(log.lines().find(is_error), None, "nothing is logged at error");
        assert!(summary.contains("received "), "there is no account:\n{summary}");
        summary
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain(self.nfv.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for host in self.hosts.iter().copied().chain(["nfv"]) {
            shell(&format!("ip netns del {}", self.namespace(host)));
        }
    }
}
