//! The control socket, handles and metrics of a run: asked as an operator asks.

mod testkit;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::NFV;
use testkit::packets::{Udp, write_capture};

/// A run of chains/firewall.yaml that receives UDP to port 9, which no rule lets through, for ever.
struct Run {
    folder: TempDir,
    child: Child,
}

impl Run {
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("in.pcap");
        write_capture(&capture, (0..64).map(|i| (i, Udp::to([10, 2, 0, 2], 9).frame())));
        let socket = folder.path().join("nfv.sock");
        let child = Command::new(NFV)
            .args(["run", "--no-pci", "--no-huge", "-m", "256", "-l", "0,1", "--"])
            .args(["chains/firewall.yaml", "--control", socket.to_str().unwrap()])
            .args(more)
            .env("LAN", format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()))
            .env("WAN", "net_null1,no-rx=1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nfv starts");
        let mut run = Self { folder, child };
        let start = Instant::now();
        while UnixStream::connect(run.socket()).is_err() {
            if let Ok(Some(status)) = run.child.try_wait() {
                let mut why = String::new();
                run.child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("nfv ended with {status}: {why}");
            }
            assert!(start.elapsed() < Duration::from_secs(30), "nfv listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        run
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("nfv.sock")
    }

    fn ctl(&self, words: &[&str]) -> Output {
        let socket = self.socket();
        Command::new(NFV).arg("ctl").args(words).arg("--control").arg(socket).output().unwrap()
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn number(&self, handle: &str) -> u64 {
        self.ask(&["get", handle]).trim().parse().unwrap()
    }

    fn raw(&self, bytes: &[u8]) -> Value {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // Who is refused may be answered before having asked.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Ends it by `quit`; returns what it printed.
    fn quit(mut self) -> String {
        self.ask(&["quit"]);
        let status = self.child.wait().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(status.success(), "{status}: {err}");
        out
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_handle_that_is_set_changes_what_becomes_of_packets() {
    let run = Run::start(&[]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run.ask(&["get", "edge.default"]).trim(), "deny");
    assert!(run.number("edge.no_rule") > 0, "control: they are refused");
    assert_eq!(run.number("seen.packets"), 0);
    assert_eq!(run.ask(&["set", "edge.default", "allow"]).trim(), "allow");
    std::thread::sleep(Duration::from_millis(300));
    assert!(run.number("seen.packets") > 0, "they pass");
    let summary = run.quit();
    assert!(summary.contains("received "), "{summary}");
    assert!(summary.contains("edge no_rule"), "{summary}");
}

#[test]
fn mistakes_are_told_with_the_nearest_name_and_exit_2() {
    let run = Run::start(&[]);
    assert!(run.refused(&["get", "edge.defualt"]).contains("did you mean `edge.default`?"));
    assert!(run.refused(&["set", "edge.default", "perhaps"]).contains("`allow`, `deny`"));
    assert!(run.refused(&["set", "edge.packets", "0"]).contains("read only"));
    assert!(run.ask(&["get"]).lines().any(|l| l.starts_with("edge.default") && l.contains("rw")));
    run.quit();
}

#[test]
fn a_socket_is_its_owners_alone_and_takes_no_more_than_it_should() {
    let run = Run::start(&[]);
    let mode = std::fs::metadata(run.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(run.folder.path()).unwrap().count(),
        2,
        "nothing is left beside it"
    );
    assert!(run.raw(b"nonsense\n")["error"].is_string());
    assert!(run.raw(&[b'x'; 70_000])["error"].as_str().unwrap().contains("65536 bytes"));
    // Clients that hang up in the middle, and more of them than there is room for.
    let mut held: Vec<_> = (0..100).map(|_| UnixStream::connect(run.socket()).unwrap()).collect();
    held.iter_mut().for_each(|s| s.write_all(b"{\"do\":").unwrap_or_default());
    std::thread::sleep(Duration::from_millis(100));
    assert!(run.raw(b"{\"do\":\"get\"}\n")["error"].as_str().unwrap().contains("16 connections"));
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert!(run.raw(b"{\"do\":\"get\"}\n")["ok"].is_array(), "there is room again");
    let socket = run.socket();
    let folder = run.folder.path().to_owned();
    run.quit();
    assert!(!socket.exists() || !folder.exists(), "the socket is gone with the run");
}

#[test]
fn the_socket_of_a_dead_run_is_replaced_and_that_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nfv.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let start = |socket: &Path| {
        Command::new(NFV)
            .args(["run", "--no-pci", "--no-huge", "-m", "256", "-l", "0,1", "--"])
            .args(["chains/forward.yaml", "--duration", "1", "--control"])
            .arg(socket)
            .output()
            .unwrap()
    };
    let output = start(&socket);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let _listener = UnixListener::bind(&socket).unwrap();
    let output = start(&socket);
    assert_eq!(output.status.code(), Some(2));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("another run listens there"), "{why}");
}

#[test]
fn metrics_are_open_metrics_and_say_what_ctl_says() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = Run::start(&["--metrics", &port.to_string()]);
    std::thread::sleep(Duration::from_millis(200));
    let url = format!("http://127.0.0.1:{port}/metrics");
    let output = Command::new("curl").args(["-sS", "-i", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"));
    let mut names = std::collections::HashSet::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(names.insert(rest.to_owned()), "{rest} is told twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("nfv_"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let page = std::fs::read_to_string("docs/metrics.md").unwrap();
    for name in names.iter().filter_map(|n| n.split(' ').next()) {
        assert!(
            page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}_total`")),
            "{name} is not in docs/metrics.md"
        );
    }
    let stats: Value = serde_json::from_str(&run.ask(&["stats", "--json"])).unwrap();
    let value = |metric: &str| {
        let counters = stats["counters"].as_array().unwrap();
        let of = |c: &&Value| c["metric"] == metric;
        counters.iter().filter(of).map(|c| c["value"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(value("received_packets") > 0);
    assert_eq!(stats["ports"]["lan"]["driver"], "net_pcap");
    // Asked later, so it is at least what the metrics said.
    let told: u64 = body
        .lines()
        .filter(|l| l.starts_with("nfv_received_packets_total{"))
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert!(told > 0 && told <= value("received_packets"));
    run.quit();
}

#[test]
fn the_control_thread_is_on_no_workers_cpu() {
    let run = Run::start(&[]);
    let tasks = format!("/proc/{}/task", run.child.id());
    let mut cpus = std::collections::HashMap::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        cpus.insert(field("Name:"), field("Cpus_allowed_list:"));
    }
    assert_eq!(cpus["rte-worker-1"], "1");
    assert_eq!(cpus["control"], "0", "{cpus:?}");
    run.quit();
}

/// The balancer asks workers ten times a second, and does not wait for those that have ended.
#[test]
fn a_run_of_two_workers_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nfv.sock");
    for _ in 0..3 {
        let start = Instant::now();
        let ended = Command::new(NFV)
            .args(["run", "--no-pci", "--no-huge", "-m", "256", "--lcores", "0@0,1@0,2@0", "--"])
            .args(["tests/data/stateful.yaml", "--duration", "1", "--control"])
            .arg(&socket)
            .env("LAN", "net_null0,no-rx=1")
            .env("WAN", "net_null1,no-rx=1")
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    }
}
