//! Classes say of a packet what the walk through matches and rules says: for random chain files and packets, the walk as
//! the words of a rule mean it, the regions of the classes, the software twin, and a worker with tags and without.

#[path = "classes/frames.rs"]
mod frames;
#[path = "classes/random.rs"]
mod random;
#[path = "classes/walk.rs"]
mod walk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use frames::Frame;
use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::{Color, Report};
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Time;
use nfv_core::dispatch::{ClassFate, Tag, Twin};
use nfv_core::dpdk::{BURST_MAX, Eal, Mempool, Packets, RingPort, unaccounted_packets};
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::offload::{
    self, Asked, EmulatedNic, Facts, Lie, LiedTo, Met, Nic, Profile, bound_to,
};
use nfv_core::packet::{Headers, parse_into};
use nfv_core::worker::{Io, Seat, Ties, Worker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use walk::Walk;

/// Of so many chain files one is tried on every NIC: their rules take longer to plan than the rest.
const CASES_A_NIC: u64 = 50;

/// One at a time: EAL is the process's.
static TURN: Mutex<()> = Mutex::new(());

fn compiled(text: &str, before: Option<&Plan>) -> (ChainFile, Plan) {
    let source = Arc::new(Source::from_bytes("random.yaml", text.into()).expect("text"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
    let shown = |report: &Report| format!("{}\n{text}", report.render(Color::Never));
    let file = file.unwrap_or_else(|| panic!("{}", shown(&report)));
    let plan = compile(&file, nfs::KINDS, Purpose::Replay, before, &mut report);
    (file, plan.unwrap_or_else(|| panic!("{}", shown(&report))))
}

/// What comes out of each port, in order.
#[derive(Default)]
struct Out(Vec<(PortIndex, Vec<u8>)>);

impl Io for Out {
    fn receive(&mut self, _: PortIndex, _: &mut Packets) {}

    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        for packet in packets.drain(..) {
            self.0.push((port, packet.data().to_vec()));
            packet.free();
        }
    }
}

/// How packets are tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tags {
    None,
    /// As a NIC with all rules would.
    Right,
    /// Of the class behind the right one.
    Wrong,
    /// Of another plan.
    Stale,
    /// Whatever a NIC may write that no rule asked for.
    Random,
}

/// Of a run, all that can be seen outside: frames by port and flow, and counters by name.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    frames: BTreeMap<(u8, Vec<u8>), Vec<Vec<u8>>>,
    counters: BTreeMap<String, u64>,
}

fn headers_of(frame: &[u8]) -> Option<Headers> {
    let mut headers = Headers::default();
    parse_into(frame, frame.len() as u32, &mut headers).ok().map(|()| headers)
}

fn run(plan: &Arc<Plan>, bursts: &[(PortIndex, Vec<Frame>)], tags: Tags, pool: Mempool) -> Seen {
    let cells = plan.ledger.cells();
    let (seat, start) = (Seat { index: 0, of: 1 }, Time(1_000_000_000));
    let ties = Ties::none().expect("there is room");
    let mut worker =
        Worker::new(plan.clone(), cells.clone(), pool, seat, ties, start).expect("there is room");
    let twins: Vec<Twin> =
        plan.classes.ports.iter().map(|p| Twin::build(p).expect("there is memory")).collect();
    let mut out = Out::default();
    for (n, (port, frames)) in bursts.iter().enumerate() {
        let mut packets = Packets::new();
        for frame in frames.iter().take(BURST_MAX) {
            let mut packet = pool.packet_of(&frame.bytes).expect("there is room");
            let tag = headers_of(&frame.bytes).and_then(|headers| {
                let mut tags = [None; BURST_MAX];
                twins[port.index()].tag(&[headers], &mut tags);
                tags[0]
            });
            let (epoch, classes) = (plan.classes.epoch, &plan.classes.ports[port.index()].classes);
            packet.set_mark(match tags {
                Tags::None => None,
                Tags::Right => tag.map(|Tag(mark)| mark),
                Tags::Wrong => tag.map(|tag| {
                    let at = classes.iter().position(|c| c.tag == tag).expect("it is a class");
                    classes[(at + 1) % classes.len()].tag.0
                }),
                Tags::Stale => tag.map(|tag| Tag::new(epoch + 1, tag.class()).0),
                // Of a class that is too high, in some epoch.
                Tags::Random => {
                    let noise = frame.noise | 0x8_0000;
                    Some(Tag::new(epoch, noise).0 & noise)
                }
            });
            packets.push(packet);
        }
        worker.dispatch(*port, &mut packets, &mut out, Time(start.0 + n as u64 * 1000));
    }
    worker.end(&mut out, Time(start.0));
    drop(worker);
    let totals = plan.ledger.totals(&[cells]);
    assert_eq!(totals.balance(&plan.ledger), 0, "each packet is accounted for");
    assert_eq!(pool.in_use(), 0, "all mbufs came back");
    assert_eq!(unaccounted_packets(), 0);
    let mut frames: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (PortIndex(port), bytes) in out.0 {
        let key = headers_of(&bytes).map_or_else(Vec::new, |h| frames::flow(&h));
        frames.entry((port, key)).or_default().push(bytes);
    }
    let clock = |metric: &str| metric.contains("cycles") || metric.contains("nanoseconds");
    let counters = totals
        .iter(&plan.ledger)
        .filter(|(c, n)| *n > 0 && !clock(c.metric))
        .map(|(c, n)| (format!("{} {:?} {:?}", c.metric, c.labels, c.side), n));
    Seen { frames, counters: counters.collect() }
}

/// What the classes say of packets is what the walk says.
fn agree(file: &ChainFile, plan: &Plan, bursts: &[(PortIndex, Vec<Frame>)]) -> u64 {
    let walk = Walk::of(file, plan);
    let mut tagged = 0;
    for (port, frames) in bursts {
        let own = &plan.classes.ports[port.index()];
        let twin = Twin::build(own).expect("there is memory");
        for frame in frames {
            let Some(headers) = headers_of(&frame.bytes) else { continue };
            let by_region =
                own.classes.iter().find(|class| class.regions.iter().any(|r| r.has(&headers)));
            let mut tags = [None; BURST_MAX];
            twin.tag(&[headers], &mut tags);
            let by_twin = tags[0].map(|tag: Tag| {
                own.classes.iter().find(|c| c.tag == tag).expect("a tag is that of a class")
            });
            if nfv_core::dispatch::is_taggable(&headers) {
                assert_eq!(by_twin.map(|c| c.tag), by_region.map(|c| c.tag), "{headers:?}");
            } else {
                assert_eq!(by_twin.map(|c| c.tag), None, "{headers:?}");
            }
            // Also of what no NIC tags, the regions are to be right.
            let Some(class) = by_region else { continue };
            let said = walk.packet(*port, &headers);
            let own = (class.fate, class.decided.clone());
            assert_eq!(said, Some(own), "{port:?} {headers:?} {class:?}");
            tagged += 1;
        }
    }
    tagged
}

/// What NICs of some kinds have done to packets, with the rules that its ladder gives it: `[tagged, dropped, wrong]`.
fn on_nics(
    plan: &Plan,
    bursts: &[(PortIndex, Vec<Frame>)],
    names: impl Iterator<Item = &'static str>,
    lie: Option<(Lie, LiedTo)>,
) -> BTreeMap<&'static str, [u64; 3]> {
    let mut seen = BTreeMap::new();
    for name in names {
        let [tagged, dropped, wrong] = seen.entry(name).or_default();
        for own in &plan.classes.ports {
            let takes = Box::new(Profile::named(name, 2).expect("it is in the table"));
            let no_rings = RingPort { into: Vec::new(), out: Vec::new() };
            let (mut nic, mut side) = EmulatedNic::new(takes, 2, no_rings, lie);
            let bound = bound_to(plan, own, &nic);
            let asked = Asked { bound: &bound, ..Asked::default() };
            let planned = offload::plan(own, &nic, asked);
            let form = planned.form;
            for planned in planned.rules {
                let given = nic.install(&planned.rule);
                assert!(given.is_ok(), "{name}: {given:?} {planned:?}");
            }
            let twin = Twin::build(own).expect("there is memory");
            for frame in bursts.iter().filter(|(port, _)| *port == own.port).flat_map(|(_, f)| f) {
                let Some(headers) = headers_of(&frame.bytes) else { continue };
                let mut tags = [None; BURST_MAX];
                twin.tag(&[headers], &mut tags);
                let class = tags[0].and_then(|tag| own.classes.iter().find(|c| c.tag == tag));
                let decision = side.decide(&frame.bytes, frame.bytes.len() as u32);
                let is_right = match decision.met() {
                    Met::Dropped => {
                        *dropped += 1;
                        class.is_some_and(|c| matches!(c.fate, ClassFate::Drop { .. }))
                    }
                    Met::Passed { mark: None, .. } => true,
                    Met::Passed { mark: Some(mark), .. } => {
                        *tagged += 1;
                        let read = form.and_then(|form| form.class(mark, plan.classes.epoch));
                        class.is_some_and(|c| Some(c.tag.class()) == read)
                    }
                };
                assert!(is_right || lie.is_some(), "{name}: {headers:?} {class:?}");
                *wrong += u64::from(!is_right);
            }
        }
    }
    seen
}

#[test]
fn walk_regions_twin_and_worker_agree_on_every_packet() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("EAL starts");
    let pool = Mempool::create(16_383, 2048, -1).expect("there is memory");
    what_is_known_of_a_few_packets(pool);
    every_nic_that_has_marks_tags();
    the_first_of_too_many_rules_are_decided();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let counts = Mutex::new([0u64; 6]);
    let nics = Mutex::new(BTreeMap::<&str, [u64; 3]>::new());
    let liars = Mutex::new(0);
    let result = runner.run(&(random::chain_file(), random::bursts()), |(text, bursts)| {
        let (file, plan) = compiled(&text, None);
        let tagged = agree(&file, &plan, &bursts);
        let turn = counts.lock().unwrap_or_else(PoisonError::into_inner)[0];
        if turn.is_multiple_of(CASES_A_NIC) {
            let mut nics = nics.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, seen) in on_nics(&plan, &bursts, Facts::names(), None) {
                let all = nics.entry(name).or_default();
                all.iter_mut().zip(seen).for_each(|(sum, n)| *sum += n);
            }
            let liar =
                on_nics(&plan, &bursts, std::iter::once("mlx5"), Some((Lie::Tag, LiedTo::All)));
            *liars.lock().unwrap_or_else(PoisonError::into_inner) +=
                liar.values().map(|[_, _, wrong]| wrong).sum::<u64>();
        }
        let plan = Arc::new(plan);
        let plain = run(&plan, &bursts, Tags::None, pool);
        let with_tags = run(&plan, &bursts, Tags::Right, pool);
        prop_assert_eq!(&plain, &with_tags, "{}", text);
        prop_assert_eq!(&plain, &run(&plan, &bursts, Tags::Stale, pool), "stale tags: {}", text);
        prop_assert_eq!(&plain, &run(&plan, &bursts, Tags::Random, pool), "no tags: {}", text);
        let wrong = run(&plan, &bursts, Tags::Wrong, pool) != plain;
        let classes = plan.classes.ports.iter().flat_map(|p| &p.classes);
        let dropped = classes.clone().filter(|c| matches!(c.fate, ClassFate::Drop { .. })).count();
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let packets: usize = bursts.iter().map(|(_, b)| b.len()).sum();
        let enters = classes.clone().count() as u64;
        for (count, n) in counts.iter_mut().zip([
            1,
            packets as u64,
            tagged,
            enters,
            dropped as u64,
            u64::from(wrong),
        ]) {
            *count += n;
        }
        Ok(())
    });
    if let Err(why) = result {
        panic!("{why}");
    }
    let [files, packets, tagged, classes, dropped, wrong] =
        counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{files} chain files, {packets} packets, {tagged} of them in one of {classes} classes ({dropped} dropped); \
         wrong tags were seen in {wrong} files"
    );
    for (name, [tagged, dropped, wrong]) in
        nics.into_inner().unwrap_or_else(PoisonError::into_inner)
    {
        println!("{name}: {tagged} tagged, {dropped} dropped, {wrong} wrong");
    }
    let liars = liars.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(liars > 0, "a NIC that writes other tags is seen");
    assert!(tagged * 6 > packets, "classes are met");
    assert!(dropped > files, "and some of them are dropped");
    // The control: the same check sees tags of other classes.
    assert!(wrong * 4 > files, "wrong tags are seen");
}

/// However few bits its marks have, and though some tag only what they send to one queue.
fn every_nic_that_has_marks_tags() {
    let rule =
        |port: u16| format!("{{ allow: tcp, src: 10.0.0.1, dst: 198.51.100.1, dport: {port} }}");
    let ports = [22, 80, 443, 8080];
    let text = format!(
        "ports: {{ lan: net_null0, wan: net_null1 }}\n\
         functions: {{ edge: {{ type: firewall, rules: [ {} ] }} }}\n\
         chains: {{ out: {{ from: lan, through: [edge], to: wan, oneway: true }} }}\n",
        ports.map(rule).join(", ")
    );
    let (_, first) = compiled(&text, None);
    // Another epoch, of which a narrow mark has fewer bits.
    let (_, plan) = compiled(&text.replace("22", "23"), Some(&first));
    let ports = [23, 80, 443, 8080];
    let frames = ports.map(|p| frames::tcp([10, 0, 0, 1], [198, 51, 100, 1], 4000, p, 2, 0));
    let seen = on_nics(&plan, &[(PortIndex(0), frames.into())], Facts::names(), None);
    for (name, [tagged, _, wrong]) in seen {
        let marks = Facts::named(name).is_some_and(|facts| facts.mark_max > 0);
        assert_eq!((tagged, wrong), (if marks { 4 } else { 0 }, 0), "{name}");
    }
}

/// What meets none of those that are decided is asked about, as ever.
fn the_first_of_too_many_rules_are_decided() {
    const RULES: u32 = 70_000;
    let host = |at: u32| [10, (at >> 16) as u8, (at >> 8) as u8, at as u8];
    let rule = |at: u32| {
        let [a, b, c, d] = host(at);
        format!("      - {{ deny: tcp, src: {a}.{b}.{c}.{d}, dport: 80 }}\n")
    };
    let rules: String = (0..RULES).map(rule).collect();
    let text = format!(
        "ports: {{ lan: net_null0, wan: net_null1 }}\nfunctions:\n  edge:\n    type: firewall\n    \
         default: allow\n    rules:\n{rules}chains: {{ out: {{ from: lan, through: [edge], to: wan, oneway: true }} }}\n"
    );
    let (_, plan) = compiled(&text, None);
    let lan = &plan.classes.ports[0];
    assert!(lan.classes.len() > 60_000, "{}", lan.classes.len());
    assert!(lan.classes.iter().all(|c| matches!(c.fate, ClassFate::Drop { .. })));
    let twin = Twin::build(lan).expect("there is memory");
    let tag = |at: u32| {
        let frame = frames::tcp(host(at), [198, 51, 100, 1], 4000, 80, 2, 0);
        let mut tags = [None; BURST_MAX];
        twin.tag(&[headers_of(&frame.bytes).expect("a frame")], &mut tags);
        tags[0]
    };
    assert!(tag(0).is_some() && tag(60_000).is_some() && tag(RULES - 1).is_none());
}

/// What a reader of a chain file expects, in numbers.
fn what_is_known_of_a_few_packets(pool: Mempool) {
    let text = "
ports: { lan: net_null0, wan: net_null1 }
functions:
  edge:
    type: firewall
    rules: [ { deny: tcp, dport: 23 }, { allow: tcp, dport: [80, 443] }, { reject: udp }, { allow: icmp } ]
chains:
  out: { from: lan, through: [edge], to: wan }
";
    let (_, plan) = compiled(text, None);
    let plan = Arc::new(plan);
    let [lan, wan] = plan.classes.ports.as_slice() else { panic!("two ports") };
    assert_eq!(lan.classes.len(), 6, "a class a rule, one of neighbour discovery, and the rest");
    assert_eq!(wan.classes.len(), 6);
    let fates: Vec<ClassFate> = lan.classes.iter().map(|c| c.fate).collect();
    assert!(matches!(fates[0], ClassFate::Drop { function: 0, .. }), "{fates:?}");
    assert!(matches!(fates[1], ClassFate::Enter { step: 1, .. }), "{fates:?}");
    assert!(matches!(fates[2], ClassFate::Enter { step: 0, .. }), "who rejects is asked");
    assert_eq!(lan.classes[1].regions.len(), 2);
    let web = frames::tcp([10, 0, 0, 1], [198, 51, 100, 1], 4000, 80, 2, 0);
    let telnet = frames::tcp([10, 0, 0, 2], [198, 51, 100, 1], 4001, 23, 2, 1);
    let burst = vec![(PortIndex(0), vec![web, telnet])];
    let right = run(&plan, &burst, Tags::Right, pool);
    let counter = |seen: &Seen, words: [&str; 2]| {
        let has = |name: &&String| words.iter().all(|w| name.contains(w));
        seen.counters.keys().find(has).and_then(|name| seen.counters.get(name)).copied()
    };
    for words in [["chain_packets", "forward"], ["nf_packets", "edge"]] {
        assert_eq!(counter(&right, words), Some(2), "{words:?} {right:#?}");
    }
    for words in [["dropped_packets", "rule_denied"], ["nf_rule_packets", "allow"]] {
        assert_eq!(counter(&right, words), Some(1), "{words:?} {right:#?}");
    }
    assert_eq!(run(&plan, &burst, Tags::None, pool), right);
    let wrong = run(&plan, &burst, Tags::Wrong, pool);
    assert_ne!(wrong, right, "a wrong tag is believed: it is the NIC's word");
    // A reload that changes nothing keeps what the NIC's rules write; one that does, makes them old.
    let (_, same) = compiled(text, Some(&plan));
    assert_eq!(same.classes, plan.classes);
    let (_, other) = compiled(&text.replace("23", "24"), Some(&plan));
    assert_eq!(other.classes.epoch, 1);
    a_default_that_changes_is_seen_at_once(pool);
    too_many_combinations_leave_the_last_function_to_be_asked();
}

fn a_default_that_changes_is_seen_at_once(pool: Mempool) {
    let text = "
ports: { lan: net_null0, wan: net_null1 }
functions: { edge: { type: firewall, rules: [ { allow: tcp, dport: 80 } ] } }
chains: { out: { from: lan, through: [edge], to: wan } }
";
    let (_, plan) = compiled(text, None);
    let plan = Arc::new(plan);
    let fate = |plan: &Plan| plan.classes.ports[0].classes.last().map(|class| class.fate);
    assert!(matches!(fate(&plan), Some(ClassFate::Drop { .. })), "{:?}", fate(&plan));
    let telnet = frames::tcp([10, 0, 0, 2], [198, 51, 100, 1], 4001, 23, 2, 1);
    let burst = vec![(PortIndex(0), vec![telnet])];
    let sent = |seen: &Seen| seen.frames.values().map(Vec::len).sum::<usize>();
    assert_eq!(sent(&run(&plan, &burst, Tags::Right, pool)), 0);
    let handle = plan.functions[0].built.handles.iter().find(|h| h.named.name == "default");
    let write = handle.and_then(|h| h.write.as_ref()).expect("it can be written");
    assert!(plan.are_classes_true());
    write("allow").expect("it is a word of it");
    assert!(!plan.are_classes_true());
    assert_eq!(sent(&run(&plan, &burst, Tags::Right, pool)), 1, "old tags are not believed");
    let (_, again) = compiled(text, Some(&plan));
    assert!(again.are_classes_true());
    assert_eq!(again.classes.epoch, 1);
    assert!(!matches!(fate(&again), Some(ClassFate::Drop { .. })), "{:?}", fate(&again));
    assert_eq!(sent(&run(&Arc::new(again), &burst, Tags::Right, pool)), 1);
}

fn too_many_combinations_leave_the_last_function_to_be_asked() {
    let rules = |key: &str, n: usize| -> String {
        let rule = |i: usize| format!("{{ allow: tcp, {key}: 10.1.{}.{} }}, ", i >> 8, i & 255);
        (0..n).map(rule).collect()
    };
    let text = |n: usize| {
        format!(
            "
ports: {{ lan: net_null0, wan: net_null1 }}
functions:
  one: {{ type: firewall, rules: [ {} ] }}
  two: {{ type: firewall, rules: [ {} ] }}
chains: {{ out: {{ from: lan, oneway: true, through: [one, two], to: wan }} }}
",
            rules("src", n),
            rules("dst", n),
        )
    };
    let steps = |plan: &Plan| {
        let classes = &plan.classes.ports[0].classes;
        let step = |fate: &ClassFate| match fate {
            ClassFate::Enter { step, .. } => Some(*step),
            ClassFate::Drop { .. } => None,
        };
        (classes.len(), classes.iter().filter_map(|c| step(&c.fate)).max())
    };
    let (few, most) = steps(&compiled(&text(20), None).1);
    assert!(few > 400 && most == Some(2), "{few} {most:?}");
    let (many, most) = steps(&compiled(&text(260), None).1);
    assert!(many < 300 && most == Some(1), "{many} {most:?}");
}
