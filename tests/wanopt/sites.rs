//! Two sites in namespaces: hosts on a bridge, a box beside it, and a cable between the boxes.

#![allow(dead_code, reason = "each of the tests that share this uses its own part")]

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::testkit::{NFV, alone, must, shell};

/// Hosts by site, with their addresses.
const SITES: [(&str, [(&str, &str); 2]); 2] = [
    ("a", [("a1", "10.99.0.1"), ("a2", "10.99.0.2")]),
    ("b", [("b1", "10.99.0.129"), ("b2", "10.99.0.130")]),
];

/// Both sites, with a box running at each.
pub struct Sites {
    prefix: String,
    environment: Vec<(String, String)>,
    /// By site: lines for the box besides those of its chain file.
    lines: [String; 2],
    /// By site: what its peer's record has besides.
    stores: [String; 2],
    files: TempDir,
    boxes: Vec<(&'static str, Child)>,
    servers: Vec<Child>,
    sums: Vec<(String, String)>,
    _alone: MutexGuard<'static, ()>,
}

/// A file that was fetched over the link.
#[derive(Debug)]
pub struct Fetched {
    /// How long it took.
    pub took: Duration,
    /// Bytes that came over the link towards who fetched it, with all headers.
    pub bytes_on_link: u64,
}

impl Sites {
    /// Makes the sites, and starts both boxes; `environment` is for their chain files.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(environment, Default::default())
    }

    /// As [`Sites::start`], with these lines for each box besides those of its chain file.
    pub fn start_with(environment: &[(&str, &str)], lines: [String; 2]) -> Self {
        Self::start_all(environment, lines, Default::default())
    }

    /// As [`Sites::start`], with logs in files of these folders.
    pub fn start_stored(folders: [&Path; 2]) -> Self {
        let store = |f: &Path| format!(", store: {{ folder: {}, size: 256MiB }}", f.display());
        Self::start_all(&[], Default::default(), folders.map(store))
    }

    fn start_all(environment: &[(&str, &str)], lines: [String; 2], stores: [String; 2]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("wan{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (boxes, servers, sums, _alone) = (Vec::new(), Vec::new(), Vec::new(), alone());
        let files = tempfile::tempdir().expect("a folder");
        let mut sites =
            Self { prefix, environment, lines, stores, files, boxes, servers, sums, _alone };
        for (site, hosts) in SITES {
            let ns = sites.namespace(site);
            must(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
            must(&format!("ip -n {ns} link add br0 type bridge && ip -n {ns} link set br0 up"));
            must(&format!("ip -n {ns} link add lan type veth peer name lan-br"));
            for (name, address) in hosts {
                let host = sites.namespace(name);
                must(&format!("ip netns add {host} && ip -n {host} link set lo up"));
                // That of RFC 5681, which all Linux has; BBR sees little of loss.
                let control = "sysctl -qw net.ipv4.tcp_congestion_control=reno";
                must(&format!("ip netns exec {host} {control}"));
                must(&format!("ip -n {host} link add eth0 type veth peer name {name} netns {ns}"));
                // Without these veth hands over super-packets and partial checksums.
                must(&format!("ip netns exec {host} ethtool -K eth0 tso off gso off tx off"));
                must(&format!("ip -n {ns} link set {name} master br0 up"));
                must(&format!("ip -n {host} link set eth0 up"));
                must(&format!("ip -n {host} addr add {address}/24 dev eth0"));
            }
            must(&format!("ip -n {ns} link set lan-br master br0 up"));
        }
        let (a, b) = (sites.namespace("a"), sites.namespace("b"));
        must(&format!("ip -n {a} link add wan type veth peer name wan netns {b}"));
        for (ns, port) in [(&a, "lan"), (&a, "wan"), (&b, "lan"), (&b, "wan")] {
            must(&format!("ip netns exec {ns} sysctl -qw net.ipv6.conf.{port}.disable_ipv6=1"));
            must(&format!("ip -n {ns} link set {port} arp off up"));
        }
        for (site, _) in SITES {
            sites.run(site);
        }
        sites.wait_until("the boxes carry a ping", |sites| {
            let ns = sites.namespace("a1");
            shell(&format!("ip netns exec {ns} ping -c1 -W1 10.99.0.129")).status.success()
        });
        sites
    }

    fn run(&mut self, site: &'static str) {
        let socket = self.socket(site);
        let text = std::fs::read_to_string(format!("chains/wanopt-{site}.yaml")).expect("text");
        let [a, b] = &self.lines;
        let lines = if site == "a" { a } else { b };
        let text = text.replace("type: wanopt\n", &format!("type: wanopt\n{lines}"));
        let [a, b] = &self.stores;
        let text = text.replace("/25 } ]", &format!("/25{} }} ]", if site == "a" { a } else { b }));
        let chain = self.files.path().join(format!("{site}.yaml"));
        std::fs::write(&chain, text).expect("it is written");
        // The control side of both on one core, and each worker on its own.
        let worker = if site == "a" { "0@0,1@0" } else { "0@1,1@1" };
        let nfv = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace(site),
                NFV,
                "run",
                "--no-pci",
                "--lcores",
                worker,
            ])
            .args(["--file-prefix", &format!("{}{site}", self.prefix)])
            .args(["--", &chain.display().to_string(), "--control", &socket])
            .env("LAN", "net_af_packet0,iface=lan,framecnt=4096")
            .env("WAN", "net_af_packet1,iface=wan,framecnt=4096")
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nfv starts");
        self.boxes.push((site, nfv));
        self.wait_until("the box runs", |sites| {
            sites.ctl(site, &["get", "opt.encoding"]).status.success()
        });
    }

    /// Ends a box, whose account must balance, and starts it again.
    pub fn restart(&mut self, site: &'static str) {
        self.end(site);
        self.run(site);
    }

    /// Ends both boxes.
    pub fn stop(&mut self) {
        self.end("a");
        self.end("b");
    }

    /// Starts both boxes again.
    pub fn go_on(&mut self) {
        self.run("a");
        self.run("b");
    }

    /// Has the boxes hear of each other: hellos are sent while there is traffic.
    pub fn greet(&self) {
        let ns = self.namespace("a1");
        let ping = format!("ip netns exec {ns} ping -c 8 -i 0.3 -W 1 10.99.0.129");
        assert!(shell(&ping).status.success(), "the boxes carry a ping");
    }

    fn end(&mut self, site: &str) {
        let at = self.boxes.iter().position(|(name, _)| *name == site).expect("it runs");
        let (_, mut nfv) = self.boxes.remove(at);
        must(&format!("kill -INT {}", nfv.id()));
        let status = nfv.wait().expect("it ends");
        let mut summary = String::new();
        nfv.stdout.take().expect("it is piped").read_to_string(&mut summary).expect("it is text");
        println!("box {site}:\n{summary}");
        assert!(status.success(), "box {site} ended with {status}");
    }

    /// Ends both boxes, whose accounts must balance.
    pub fn finish(mut self) {
        self.end("a");
        self.end("b");
    }

    /// Serves the files of a folder from a host.
    pub fn serve(&mut self, host: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            self.sums.push((name, must(&format!("sha256sum < {}", path.display()))));
        }
        let ns = self.namespace(host);
        let folder = folder.display().to_string();
        let server = Command::new("ip")
            .args([
                "netns",
                "exec",
                &ns,
                "python3",
                "-m",
                "http.server",
                "80",
                "--directory",
                &folder,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        self.servers.push(server);
        self.wait_until("the server listens", |_| {
            let text = shell(&format!("ip netns exec {ns} ss -Hltn sport = :80"));
            !text.stdout.is_empty()
        });
    }

    /// Fetches a file from one host to another; it must come as it is.
    pub fn fetch(&self, host: &str, from: &str, file: &str) -> Fetched {
        let (before, start) = (self.on_link(), Instant::now());
        let fetching = self.begin_fetch(host, from, file);
        self.end_fetch(fetching, file);
        Fetched { took: start.elapsed(), bytes_on_link: self.on_link() - before }
    }

    /// Begins to fetch a file.
    pub fn begin_fetch(&self, host: &str, from: &str, file: &str) -> Child {
        let hosts = SITES.iter().flat_map(|(_, hosts)| hosts);
        let (_, address) = hosts.clone().find(|(name, _)| *name == from).expect("it is a host");
        let line = format!("curl -sS --max-time 300 http://{address}/{file} | sha256sum");
        Command::new("ip")
            .args(["netns", "exec", &self.namespace(host), "sh", "-c", &line])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl starts")
    }

    /// Waits for a file, which must be as it was sent.
    pub fn end_fetch(&self, fetching: Child, file: &str) {
        let output = fetching.wait_with_output().expect("it ends");
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, sum) = self.sums.iter().find(|(name, _)| name == file).expect("it is served");
        assert_eq!(&got, sum, "{file} arrives as it was sent");
    }

    /// Bytes that came over the link to site A so far.
    fn on_link(&self) -> u64 {
        let ns = self.namespace("a");
        let text = must(&format!("ip netns exec {ns} cat /sys/class/net/wan/statistics/rx_bytes"));
        text.trim().parse().expect("a number")
    }

    /// Runs `nfv ctl` on a box, which must succeed.
    pub fn ask(&self, site: &str, words: &[&str]) -> String {
        let output = self.ctl(site, words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nfv ctl {words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Sites::ask`], on both boxes.
    pub fn ask_both(&self, words: &[&str]) {
        SITES.iter().for_each(|(site, _)| drop(self.ask(site, words)));
    }

    fn ctl(&self, site: &str, words: &[&str]) -> Output {
        let socket = self.socket(site);
        Command::new(NFV).arg("ctl").args(words).args(["--control", &socket]).output().unwrap()
    }

    fn socket(&self, site: &str) -> String {
        format!("{}/{}-{site}.sock", std::env::temp_dir().display(), self.prefix)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        let boxes = self.boxes.iter_mut().map(|(_, child)| child);
        for child in self.servers.iter_mut().chain(boxes) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (site, hosts) in SITES {
            for name in hosts.iter().map(|(name, _)| *name).chain([site]) {
                shell(&format!("ip netns del {}", self.namespace(name)));
            }
        }
    }
}
