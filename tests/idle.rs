//! Workers without work: with `poll` they take a CPU each, with `pause` and `interrupt` they give it away, and a frame that
//! comes then is through nearly as soon. All modes are had in one run, by reloads, by turns.

mod testkit;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use rustix::time::{ClockId, clock_gettime};
use testkit::{BRIDGED, Driver, Rig, is_root, skip};

const BRIDGE: &str = "ports: { lan: \"${LAN}\", wan: \"${WAN}\" }\n\
    functions: { seen: { type: count } }\n\
    chains: { out: { from: lan, through: [ seen ], to: wan } }\n";

/// Flows that end by their time.
const STATEFUL: &str = "ports:\n  \
      lan: { device: \"${LAN}\", link-timeout: 0s }\n  \
      wan: { device: \"${WAN}\", link-timeout: 0s }\n\
    functions:\n  \
      edge: { type: firewall, stateful: true, rules: [ { allow: [ tcp, udp, icmp ] } ] }\n\
    flows: { icmp: 1s }\n\
    chains: { out: { from: lan, through: [ edge ], to: wan } }\n";

/// How long pings and their answers took, in microseconds.
fn round_trips(rig: &Rig, to: &str) -> Vec<f64> {
    let said = rig.on("lan", &format!("ping -c {PINGS} -i 0.02 -W 2 {to}"));
    let times = said.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next());
    let mut times: Vec<f64> = times.map(|ms| 1000.0 * ms.parse::<f64>().unwrap()).collect();
    assert_eq!(times.len(), PINGS, "each is answered:\n{said}");
    times.sort_by(f64::total_cmp);
    times
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn least(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::INFINITY, f64::min)
}

/// What a mode does, over all turns.
#[derive(Debug, Default)]
struct Seen {
    /// Of the round trips of each turn, the middle one and the 99th of a hundred.
    middle: Vec<f64>,
    late: Vec<f64>,
    /// Of each turn, what part of the time the worker had a CPU while nothing came, and had or wanted one.
    cpu: Vec<f64>,
    wanted: Vec<f64>,
}

/// A chain file whose mode of idle workers changes.
struct Chain {
    path: PathBuf,
    text: &'static str,
    _folder: tempfile::TempDir,
}

impl Chain {
    fn new(text: &'static str, idle: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain = Self { path: folder.path().join("chain.yaml"), text, _folder: folder };
        chain.write(idle);
        chain
    }

    fn write(&self, idle: &str) {
        let text = format!("workers: {{ idle: {idle} }}\n{}", self.text);
        std::fs::write(&self.path, text).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has the modes by turns.
fn by_turns<const N: usize>(rig: &Rig, chain: &Chain, modes: [&str; N], to: &str) -> [Seen; N] {
    let mut seen = [(); N].map(|()| Seen::default());
    for _ in 0..TURNS {
        for (mode, seen) in modes.iter().zip(&mut seen) {
            chain.write(mode);
            rig.ask(&["reload"]);
            // What the reload and the last pings left to be done.
            std::thread::sleep(Duration::from_millis(50));
            let (before, start) = (rig.cpu_of_workers(), Instant::now());
            std::thread::sleep(Duration::from_millis(1000));
            let [had, wanted] = parts(rig, before, start);
            seen.cpu.push(had);
            seen.wanted.push(wanted);
            let times = round_trips(rig, to);
            seen.middle.push(times[PINGS / 2]);
            seen.late.push(times[PINGS - 1 - PINGS / 100]);
        }
    }
    for (mode, seen) in modes.iter().zip(&seen) {
        let Seen { middle, late, cpu, wanted } = seen;
        println!(
            "{mode:>9}: {:.1} % of a CPU while idle ({:.1} % wanted); in the best turn a round trip takes {:.0} us, 99 of 100 at most {:.0} us",
            100.0 * median(cpu),
            100.0 * median(wanted),
            least(middle),
            least(late)
        );
    }
    seen
}

/// What part of the time workers had a CPU since a look, and had or wanted one.
fn parts(rig: &Rig, before: [Duration; 2], since: Instant) -> [f64; 2] {
    let (now, passed) = (rig.cpu_of_workers(), since.elapsed().as_secs_f64());
    [0, 1].map(|i| (now[i] - before[i]).as_secs_f64() / passed)
}

/// What part of a CPU a thread takes on this machine that pauses as a worker does, and does nothing else.
fn own_pauses() -> f64 {
    let pauses = std::thread::spawn(|| {
        let mut only = CpuSet::new();
        only.set(0);
        sched_setaffinity(None, &only).unwrap();
        set_current_timer_slack(NonZeroU64::new(1)).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(PAUSE);
        }
        let had = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        had.as_secs_f64() / start.elapsed().as_secs_f64()
    });
    pauses.join().unwrap()
}

/// How long this machine takes to wake a thread on a CPU that is halted, in microseconds: of a hundred times, the middle
/// one and the 99th. In a virtual machine it is the host that wakes the CPU.
fn own_wakes() -> [f64; 2] {
    let on = |cpu: usize| {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).unwrap();
    };
    let (send, received) = std::sync::mpsc::channel::<Instant>();
    let sleeper = std::thread::spawn(move || -> Vec<f64> {
        on(WORKERS_CPU);
        received.iter().map(|sent| 1e6 * sent.elapsed().as_secs_f64()).collect()
    });
    let waker = std::thread::spawn(move || {
        on(0);
        for _ in 0..PINGS {
            std::thread::sleep(Duration::from_millis(20));
            send.send(Instant::now()).unwrap();
        }
    });
    waker.join().unwrap();
    let mut times = sleeper.join().unwrap();
    times.sort_by(f64::total_cmp);
    [times[PINGS / 2], times[PINGS - 1 - PINGS / 100]]
}

/// The bounds of a mode in which a worker does not poll, beside polling in the same run: so much of a CPU, and 100 us
/// besides what the machine itself takes to wake anybody.
fn gives_the_cpu_away_and_wakes_at_once(poll: &Seen, other: &Seen, most: f64, own: [f64; 2]) {
    let [own_middle, own_late] = own;
    assert!(median(&poll.wanted) > 0.9, "the control: it wants all that there is: {poll:?}");
    assert!(median(&other.cpu) < most, "{other:?}");
    // What else the machine does makes some turns worse, and none better: the best one of each counts.
    let longer = least(&other.middle) - least(&poll.middle);
    assert!(longer < 100.0 + own_middle, "{longer:.0} us longer: {poll:?} {other:?}");
    // A worker that does not even get the CPU when it polls says nothing of one packet in a hundred.
    if median(&poll.cpu) < 0.9 {
        return println!("the machine is too busy to tell one packet in a hundred");
    }
    let longer = least(&other.late) - least(&poll.late);
    assert!(longer < 100.0 + own_late, "{longer:.0} us longer, of 99 in 100: {poll:?} {other:?}");
}

#[test]
fn an_idle_worker_pauses_and_wakes_within_100_microseconds() {
    if !is_root() {
        return skip("idle", "making namespaces needs root");
    }
    let chain = Chain::new(BRIDGE, "pause");
    let rig = Rig::start(text(&chain.path));
    let [poll, pause] = by_turns(&rig, &chain, ["poll", "pause"], "10.99.0.2");
    // In a virtual machine a pause takes 17 us of CPU time, and a third of that elsewhere; where its host is busy, 40 us.
    let own = own_pauses();
    println!("a thread that does nothing but pause takes {:.1} % of a CPU here", 100.0 * own);
    gives_the_cpu_away_and_wakes_at_once(&poll, &pause, f64::max(0.4, own + 0.15), [0.0; 2]);
    rig.finish();
}

#[test]
fn an_idle_worker_sleeps_until_a_device_or_an_order_wakes_it() {
    if !is_root() {
        return skip("idle", "making namespaces needs root");
    }
    let chain = Chain::new(STATEFUL, "interrupt");
    let rig = match Rig::start_on(text(&chain.path), &BRIDGED, Driver::Tap) {
        Ok(rig) => rig,
        Err(why) => return skip("idle", &format!("no taps here: {why}")),
    };
    rig.wait_until("a ping passes", || rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    let [poll, interrupt] = by_turns(&rig, &chain, ["poll", "interrupt"], "10.99.0.2");
    // It sleeps now, as it did in the last turn: its CPU is halted.
    let own = own_wakes();
    println!(
        "the machine wakes a thread within {:.0} us, 99 of 100 within {:.0} us",
        own[0], own[1]
    );
    gives_the_cpu_away_and_wakes_at_once(&poll, &interrupt, 0.05, own);
    // Flows end by their time while the worker sleeps, and orders wake it.
    rig.wait_until("the pings' flows end", || rig.ask(&["flows"]).is_empty());
    rig.finish();
}

#[test]
fn where_a_driver_has_no_interrupts_workers_pause_and_the_log_names_the_port() {
    if !is_root() {
        return skip("idle", "making namespaces needs root");
    }
    let chain = Chain::new(BRIDGE, "interrupt");
    let rig = Rig::start(text(&chain.path));
    let log = rig.log();
    let told = |port: &str| {
        let line = format!("port {port}: the driver has no receive interrupts");
        log.lines().filter(|l| l.contains(&line)).count()
    };
    assert_eq!([told("lan"), told("wan")], [1, 1], "{log}");
    let (before, start) = (rig.cpu_of_workers(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let [cpu, _] = parts(&rig, before, start);
    let own = own_pauses();
    println!("{:.1} % of a CPU, where to pause takes {:.1} %", 100.0 * cpu, 100.0 * own);
    assert!(cpu < f64::max(0.4, own + 0.15), "it pauses: {cpu}");
    rig.finish();
}

/// In one turn of a mode.
const PINGS: usize = 100;
/// A worker's.
const PAUSE: Duration = Duration::from_micros(60);
const TURNS: usize = 7;
/// The rig's `-l 0,1` has its worker there.
const WORKERS_CPU: usize = 1;
