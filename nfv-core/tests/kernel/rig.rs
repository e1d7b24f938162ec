//! A twin in a network namespace of its own, with a dataplane's end that a test holds.
//!
//! The body of a test runs in a second process of the same test binary, started by `ip netns exec`, so that no test
//! needs to change the namespace of a thread. Without root the test says that it was skipped, and why.
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, process};

use nfv_core::control::netlink::{KernelEvent, KernelSink, Neighbours, Watch};
use nfv_core::control::twin::{Twin, TwinConfig, TwinError, TwinLink};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How late the dataplane may know of a change in the kernel.
pub const PROMISE: Duration = Duration::from_millis(100);
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const INSIDE: &str = "NFV_TEST_INSIDE_NAMESPACE";

/// Runs `body` in a network namespace of its own; `test` is the name of the calling test.
pub fn in_namespace(test: &str, body: impl AsyncFnOnce()) {
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().build().expect("a runtime");
        return runtime.block_on(body());
    }
    let Some(namespace) = Namespace::add() else {
        println!("skipped: {test}: `ip netns add` is refused; run it as root");
        return;
    };
    let this = env::current_exe().expect("the test binary has a path");
    let mut child = Command::new("ip");
    child.args(["netns", "exec", &namespace.0]).arg(this).args(["--exact", test, "--nocapture"]);
    let status = child.env(INSIDE, "1").status().expect("`ip netns exec` starts");
    assert!(status.success(), "{test} failed in its namespace; its words are above");
}

struct Namespace(String);

impl Namespace {
    fn add() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nfvk-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let added = Command::new("ip").args(["netns", "add", &name]).output().ok()?;
        added.status.success().then(|| Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Runs `ip` with `arguments`, which must succeed.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` starts");
    assert!(status.success(), "ip {arguments}");
}

/// Reads a setting of /proc/sys/net.
pub fn setting(path: &str) -> String {
    let path = format!("/proc/sys/net/{path}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

/// The configuration of twin `lan` with `addresses`.
pub fn lan(addresses: &[&str]) -> TwinConfig {
    let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
    TwinConfig { name: "lan".to_owned(), mac: MAC, mtu: 1500, addresses }
}

/// A dataplane's end of a twin: queues that the test fills and empties.
#[derive(Debug, Default)]
pub struct Ends {
    to_kernel: Mutex<VecDeque<Vec<u8>>>,
    from_kernel: Mutex<VecDeque<Vec<u8>>>,
}

impl TwinLink for Ends {
    fn next_to_kernel(&self, f: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.to_kernel.lock().expect("no test panics with it").pop_front();
        frame.inspect(|frame| f(frame)).is_some()
    }

    fn from_kernel(&self, frame: &[u8]) -> bool {
        self.from_kernel.lock().expect("no test panics with it").push_back(frame.to_vec());
        true
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Event(KernelEvent),
    Resync,
}

struct Teller(mpsc::UnboundedSender<Heard>);

impl KernelSink for Teller {
    fn event(&mut self, event: KernelEvent) {
        let _ = self.0.send(Heard::Event(event));
    }

    fn resync_done(&mut self) {
        let _ = self.0.send(Heard::Resync);
    }
}

/// A twin whose frames are pumped and whose kernel tables are watched.
pub struct Rig {
    pub twin: Arc<Twin>,
    pub neighbours: Neighbours,
    pub pump: tokio::task::JoinHandle<TwinError>,
    ends: Arc<Ends>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Rig {
    /// Makes the twin and waits until the tables were read for the first time.
    pub async fn start(config: TwinConfig) -> Self {
        let twin = Arc::new(Twin::create(&config).await.expect("a twin"));
        let (watch, neighbours) = Watch::open(BTreeSet::from([twin.interface()])).expect("a watch");
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move { watch.run(&mut Teller(sender)).await });
        let ends = Arc::new(Ends::default());
        let pump = tokio::spawn({
            let (twin, ends) = (Arc::clone(&twin), Arc::clone(&ends));
            async move { twin.pump(&*ends).await }
        });
        Self { twin, neighbours, pump, ends, heard }
    }

    /// Waits for the first full reading of the tables; gives what was told until then.
    pub async fn resync(&mut self) -> Vec<KernelEvent> {
        let mut events = Vec::new();
        loop {
            match self.next(Duration::from_secs(10)).await {
                Some(Heard::Event(event)) => events.push(event),
                Some(Heard::Resync) => return events,
                None => panic!("no resync; so far {events:?}"),
            }
        }
    }

    /// Waits until `wanted` is told, which must be within the promised time; others before it are passed over.
    pub async fn expect(&mut self, wanted: KernelEvent) {
        self.expect_within(PROMISE, wanted).await;
    }

    /// As [`expect`](Self::expect), where the kernel itself takes longer.
    pub async fn expect_within(&mut self, time: Duration, wanted: KernelEvent) {
        let wanted = Heard::Event(wanted);
        let late = Instant::now() + time;
        let mut others = Vec::new();
        while let Some(heard) = self.next(late.saturating_duration_since(Instant::now())).await {
            if heard == wanted {
                return;
            }
            others.push(heard);
        }
        panic!("not told within {time:?}: {wanted:?}\ntold instead: {others:?}");
    }

    async fn next(&mut self, within: Duration) -> Option<Heard> {
        timeout(within, self.heard.recv()).await.ok().flatten()
    }

    /// What was told and not yet taken.
    pub fn told(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// Hands a frame to the kernel, as a worker does.
    pub fn send(&self, frame: Vec<u8>) {
        self.ends.to_kernel.lock().expect("no test panics with it").push_back(frame);
    }

    /// Waits for a frame from the kernel that `wanted` accepts; others before it are dropped.
    pub async fn frame(&self, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let late = Instant::now() + within;
        while Instant::now() < late {
            let frame = self.ends.from_kernel.lock().expect("no test panics with it").pop_front();
            match frame {
                Some(frame) if wanted(&frame) => return frame,
                Some(_) => {}
                None => sleep(Duration::from_millis(1)).await,
            }
        }
        panic!("the kernel sent no such frame within {within:?}");
    }
}

/// A result that must be an error; its words and those of its causes.
pub fn words<T: Debug>(result: Result<T, TwinError>) -> String {
    use std::error::Error;
    let error = result.expect_err("an error");
    let cause = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}
