//! Classes, rungs and chains in words.

use nfv_core::chain::compile::{Plan, Program, Step};
use nfv_core::dispatch::{Class, ClassFate, Region};
use nfv_core::nf::Direction;
use nfv_core::offload::{HashFacts, Rung};

/// A region, in a firewall's words: `tcp from 10.0.0.0/8 to any port 80`.
pub fn region(region: &Region) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(vlan) = region.vlan {
        words.push(format!("vlan {vlan}"));
    }
    let says_family = region.src.is_some() || region.dst.is_some();
    if let Some(family) = region.family.filter(|_| !says_family) {
        words.push(family.to_string());
    }
    if let Some(protocol) = region.protocol {
        words.push(protocol.to_string());
    }
    if let Some(kind) = region.icmp {
        words.push(format!("type {kind}"));
    }
    let ports = |(first, last): (u16, u16)| match (first, last) {
        (0, u16::MAX) => None,
        (first, last) if first == last => Some(format!("port {first}")),
        (first, last) => Some(format!("port {first}-{last}")),
    };
    for (word, prefix, range) in
        [("from", region.src, region.sport), ("to", region.dst, region.dport)]
    {
        let net = prefix.map(|p| p.net());
        let net = net.map(|net| match net.prefix_len() == net.max_prefix_len() {
            true => net.addr().to_string(),
            false => net.to_string(),
        });
        let ports = ports(range);
        if net.is_some() || ports.is_some() {
            words.push(word.to_owned());
            words.push(net.unwrap_or_else(|| "any".to_owned()));
            words.extend(ports);
        }
    }
    if region.flags != (0, 0) {
        let named = |bits: u8, not: &str| -> Vec<String> {
            let of =
                |(at, name): (usize, &&str)| (bits >> at & 1 == 1).then(|| format!("{not}{name}"));
            FLAGS.iter().enumerate().filter_map(of).collect()
        };
        let all = [named(region.flags.0, ""), named(region.flags.1, "!")].concat();
        words.push(format!("flags {}", all.join(",")));
    }
    if words.is_empty() { "all IP".to_owned() } else { words.join(" ") }
}

/// Which chain a class is of, and where it enters, or what refuses it.
pub fn way(plan: &Plan, class: &Class) -> String {
    let (program, step) = match class.fate {
        ClassFate::Enter { program, step } => (program, step),
        ClassFate::Drop { function, why, .. } => {
            let Some(function) = plan.functions.get(function) else { return "refused".to_owned() };
            let why = function.kind.drops.get(usize::from(why.0)).map_or("", |named| named.name);
            return format!("{} drops it: {why}", function.name);
        }
    };
    let Some(program) = plan.programs.get(usize::from(program.0)) else { return String::new() };
    let name = match program.direction {
        Direction::Forward => program.chain.clone(),
        Direction::Reverse => format!("{}, reverse", program.chain),
    };
    format!("{name}: {}", entrance(plan, program, step))
}

/// What a class that enters a program at a step meets first.
fn entrance(plan: &Plan, program: &Program, step: usize) -> String {
    let name = |at: usize| plan.functions.get(at).map(|f| format!("at {}", f.name));
    let first = program.steps.get(step).and_then(|step| match step {
        Step::Function { at, .. } => name(*at),
        Step::Piece(piece) => {
            let functions = &plan.pieces.get(*piece)?.functions;
            let mut places = functions.iter().filter_map(|f| f.at);
            match program.direction {
                Direction::Forward => name(places.next()?),
                Direction::Reverse => name(places.next_back()?),
            }
        }
    });
    first.unwrap_or_else(|| match program.to.and_then(|to| plan.ports.get(to.index())) {
        Some(port) => format!("to {port} at once"),
        None => "to its end at once".to_owned(),
    })
}

/// A rung, by its name.
pub const fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Drop => "drop",
        Rung::MarkQueue => "mark+queue",
        Rung::MarkRss => "mark+rss",
        Rung::Queue => "queue",
        Rung::Rss => "rss",
        Rung::HandOver => "software",
    }
}

/// How a key or a table can be known: `set`, `read`, or `measured`, from packets and the queues that they come to.
pub const fn known_by(can_set: bool, can_read: bool) -> &'static str {
    match (can_set, can_read) {
        (true, _) => "set",
        (false, true) => "read",
        (false, false) => "measured",
    }
}

/// How a NIC's hash stands, in a sentence.
pub fn hash(facts: &HashFacts) -> String {
    let key = match (known_by(facts.key_set, facts.key_read), facts.key) {
        ("set", Some(bytes)) => format!("key of {bytes} bytes, set to a symmetric one"),
        ("read", Some(bytes)) => format!("key of {bytes} bytes, read: it cannot be set"),
        _ => "key unknown: which queue a flow comes to is measured".to_owned(),
    };
    let table = match (known_by(facts.table_set, facts.table_read), facts.table) {
        (_, 0) => "no table that can be set or read".to_owned(),
        ("set", entries) => format!("table of {entries} entries, set"),
        ("read", entries) => format!("table of {entries} entries, read: it cannot be set"),
        (_, entries) => format!("table of {entries} entries, measured"),
    };
    format!("{key}; {table}")
}

/// Whether both directions of a chain's flows fall into one shard, and why.
pub fn directions(plan: &Plan, forward: &Program, answers: bool) -> (bool, String) {
    if !answers {
        return (true, "it has one direction".to_owned());
    }
    let has = |kind: &str| plan.functions_of(forward).any(|f| f.kind.name == kind);
    match (has("lb"), has("nat")) {
        (true, _) => (
            false,
            "a balancer changes the destination and has no port to choose: answers fall into another shard, which keeps \
             a key to the flow's, and are handed over, counted"
                .to_owned(),
        ),
        (_, true) => (true, "the translator chooses ports that keep answers on their shard".to_owned()),
        _ => (true, "ends stay as they are, and the hash is symmetric".to_owned()),
    }
}

const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
