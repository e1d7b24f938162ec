//! `firewall`: lets packets pass or refuses them, by the first rule that matches.
//!
//! ```text
//!     in ---->[ firewall ]----> next      kind: flow NF
//!
//! Keys   rules       none     `{allow: PROTOCOLS, ...}`, `{deny: PROTOCOLS, ...}` or `{reject: PROTOCOLS, ...}` with the
//!                             keys of a match
//!        default     deny     `allow` | `deny` | `reject`: what happens to an IP packet that no rule matches
//!        neighbours  allow    `allow` | `deny`: ARP, IPv6 neighbour discovery and other frames that are not IP
//!        stateful    false    `true`: flows are decided by their first packet, and their answers let through
//!        loose       false    `true`: TCP connections that began before are picked up; with `stateful: true`
//!        sets        none     `{NAME: {file: FILE, of: addresses | ports}}`: up to 1,000,000 a set, for `src-set`, `dst-set`,
//!                             `sport-set` and `dport-set` of a rule
//!        zones       none     `{NAME: [PORT, ...]}`: sets of ports of the box, for `in-zone` of a rule, beside the zones
//!                             that ports name (docs/flows.md)
//!        per-source  none     `{connections: N, half-open: N}`: most flows of one source address, and of those the ones that
//!                             are not answered yet; with `stateful: true`
//!        syn-cookies none     N or `{half-open: N, mss: 1460, timestamps: true, sack: true, window-scale: 7}`: while N or
//!                             more connections are half open (4096), SYNs get cookies; with `stateful: true`
//!        log-file    none     the file that rules with `log: true` or `log: {rate: 100}` write to
//! Handles default (rw)        takes effect with the next burst, on open flows too
//!        reload-sets (rw)    entries of each set; a set's name or `all` has its file read again, and all flows decided again
//!        sources (r)         sources that have flows, their flows, those half open; flows without room to be counted
//! Drops  rule_denied          a rule denies it
//!        rule_rejected        a rule rejects it; its sender is told
//!        no_rule              no rule matched, and the default is deny
//!        default_rejected     no rule matched, and the default is reject; its sender is told
//!        not_ip               not IP, and `neighbours: deny`
//!        source_connections   its source has as many flows as it may have
//!        source_half_open     as many flows of its source as may be are not answered yet
//! Counts cookies_sent         SYNs that were answered with a cookie
//!        cookies_opened       connections that a right cookie opened
//!        cookies_unlike       of those, servers that are not as `syn-cookies` says
//! Cost   20 to 60 clocks a packet, nearly the same for 10 and for 10,000 rules (rte_acl, a burst at a time); as much again
//!        for each rule with a set that the packet comes past, and the set's lookup. Of a stateful one, only first packets
//! State  8 B a flow and 16 MiB of counts with `per-source`; 8 B a flow with `syn-cookies`
//! ```
//!
//! Rules are written for the chain's direction: an answer is compared with source and destination exchanged (and an
//! ICMP reply as its request), so `{allow: tcp, dport: 80}` lets the answers of port 80 through as well. It keeps no
//! state: an unasked packet that looks like an answer passes too. A later fragment has no ports, and meets no rule with
//! ports.
//!
//! A set's file has one address, prefix, port or range of ports a line; `#` and `;` begin comments. A rule whose other keys
//! match and whose set does not is passed over, as any that does not match. A file that is wrong when it is read again
//! leaves the set as it was.
//!
//! The log has an object of JSON a line: `time` (UTC), `function`, `rule`, `verdict` (allow, deny, reject, or over_limit),
//! `in_port`, `vlan`, `src`, `dst`, `protocol`, `sport` and `dport` or `icmp_type`, and `shed`: how many of the rule's were
//! not written since its last one. A stateful firewall writes a flow once. Lines are at the end of the file within 100 ms;
//! the packet path waits for no disk.
//!
//! A source is an IPv4 address, or an IPv6 /64. Its flows count until they are forgotten, a TCP connection until it is over:
//! both ends are done with it, or it was reset. Of sources there is room for about a million; flows of more pass without
//! being counted.
//!
//! SYN cookies (docs/flows.md) keep a flood of SYNs from filling the table of flows. While `half-open` or more connections
//! are half open, a SYN that the rules let through is answered in its server's place and nothing is kept of it; who answers
//! with the cookie gets a flow, and the server the SYN. They are off unless the key is there: a client hears that it is
//! connected before the server is asked, so a closed port looks open for a moment, and a dead host for longer. Without
//! `timestamps` only the MSS is promised, which is right for any server, and leaves windows at 64 KiB while the flood lasts.
//! What more is promised must be so of all servers behind the firewall: nftables' `synproxy` has the same options, and the
//! servers' SYN-ACKs show them (`tcpdump 'tcp[13] = 18'`). For a table of `max` flows `half-open` is well below `max`.
//!
//! Who is rejected is told at once instead of waiting: TCP by a reset, as if by its destination; others by an ICMP error
//! "administratively prohibited", from the box's address on the port, or from the destination's where it has none. At most
//! 1,000 answers a second and worker.

mod cookies;
mod log;
mod rules;
mod sets;
mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use nfv_core::chain::key::{Key, Names, Need, Shape};
use nfv_core::chain::matching::{IcmpMatch, Match};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::{IpFamily, Protocol};
use nfv_core::clock::Time;
use nfv_core::nf::{
    Answer, Built, Decides, Decision, FlowNf, FlowStage, FlowView, Forward, Handle, Kind, Lookup,
    Named, Profile, Purpose, Reason, Says, Shard, Surroundings, SynCookies, Tracking,
};
use nfv_core::packet::syn_cookie::CookieKey;
use nfv_core::packet::{L3, protocol};

use self::log::Log;
use self::rules::Rules;
use self::sets::Sets;
use self::sources::{Kept, Limits, Over, Sources};

/// The type of NF `firewall`.
pub const KIND: Kind = Kind {
    name: "firewall",
    profile: Profile {
        reads_payload: false,
        writes: false,
        drops: true,
        creates: false,
        routes: false,
    },
    keys: &[
        Key {
            name: "rules",
            shape: Shape::List(&Shape::Record(&rules::RULE)),
            need: Need::Optional,
            help: "the rules; the first that matches decides",
        },
        Key {
            name: "default",
            shape: Shape::Choice(Verdict::WORDS),
            need: Need::Default("deny"),
            help: "what happens to an IP packet that no rule matches",
        },
        log::FILE_KEY,
        sources::KEY,
        cookies::KEY,
        sets::KEY,
        Key {
            name: "zones",
            shape: Shape::Map {
                of: "zone",
                key: &Shape::Name(Names::New),
                value: &Shape::OneOrMany(&Shape::Name(Names::Port)),
            },
            need: Need::Optional,
            help: "ports that rules mean together, by the name of their zone",
        },
        Key {
            name: "neighbours",
            shape: Shape::Choice(&["allow", "deny"]),
            need: Need::Default("allow"),
            help: "what happens to ARP, IPv6 neighbour discovery and other frames that are not IP",
        },
        Key {
            name: "stateful",
            shape: Shape::Flag,
            need: Need::Default("false"),
            help: "decide flows by their first packet, and let their answers through",
        },
        Key {
            name: "loose",
            shape: Shape::Flag,
            need: Need::Default("false"),
            help: "pick up TCP connections that began before; with `stateful: true`",
        },
    ],
    drops: &[
        Named { name: "rule_denied", help: "a rule denies it" },
        Named { name: "no_rule", help: "no rule matched, and the default is deny" },
        Named { name: "not_ip", help: "not IP, and `neighbours: deny`" },
        Named { name: "rule_rejected", help: "a rule rejects it, and its sender is told" },
        Named {
            name: "default_rejected",
            help: "no rule matched, the default is reject, and its sender is told",
        },
        Named {
            name: "source_connections",
            help: "its source has as many flows as `per-source: connections` allows",
        },
        Named {
            name: "source_half_open",
            help: "its source has as many unanswered flows as `per-source: half-open` allows",
        },
    ],
    answers: &[(RULE_REJECTED, Answer::Reject), (DEFAULT_REJECTED, Answer::Reject)],
    counters: &SynCookies::COUNTERS,
    source: include_str!("mod.rs"),
    build,
};

const RULE_DENIED: Reason = Reason(0);
const NO_RULE: Reason = Reason(1);
const NOT_IP: Reason = Reason(2);
const RULE_REJECTED: Reason = Reason(3);
const DEFAULT_REJECTED: Reason = Reason(4);
const SOURCE_CONNECTIONS: Reason = Reason(5);
const SOURCE_HALF_OPEN: Reason = Reason(6);

fn build(section: &Section<'_>, around: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let sets = Sets::read(section, report);
    let (mut rules, names) = Rules::read(section, around, &sets, report)?;
    if around.purpose == Purpose::Check {
        rules.warn_of_shadows(around, report);
    }
    let generation = Arc::new(AtomicU32::new(0));
    let stateful = section.flag("stateful") == Some(true);
    let loose = section.flag("loose") == Some(true);
    let said = |key| (key, section.has(key));
    for (key, said) in [("loose", loose), said("per-source"), said("syn-cookies")] {
        if said && !stateful {
            report
                .error(section.span_of_key(key), format!("`{key}` without `stateful: true`"))
                .hint("it is about flows, and without state none is kept: say `stateful: true`");
        }
    }
    let log = Log::open(section, around, &names, rules.logs(), report).ok()?;
    let limits = Limits::read(section);
    let before = inherited(around);
    let sources = match before.as_ref().and_then(|b| b.sources.clone()) {
        None if limits.is_some() => Some(Arc::new(Sources::new()?)),
        counted => counted,
    };
    let key = before.and_then(|b| b.key.clone());
    let cookies = cookies::read(section, around, key, report);
    if report.has_errors() {
        return None;
    }
    let default = Verdict::of(section.choice("default")?)?;
    let default = Arc::new(AtomicU8::new(default as u8));
    let neighbours = section.choice("neighbours") == Some("allow");
    let decides = decider(rules.decided(RULE_DENIED), neighbours, default.clone());
    let handles = [
        Some(default_handle(default.clone(), generation.clone())),
        sets.handle(generation.clone()),
        sources.as_ref().map(Sources::handle),
    ];
    // What differs between packets of a flow is to be looked at in each.
    let folds = rules.folds;
    let firewall =
        Firewall { rules, default, neighbours, log: log.clone(), sources: sources.clone(), limits };
    let mut built = Built::flow(firewall)
        .with_rules(names)
        .with_handles(handles.into_iter().flatten().collect())
        .with_generation(generation);
    if let Some(Log(journal)) = log {
        built = built.with_task(journal.task()).with_finish(Box::new(move || journal.finish()));
    }
    let key = cookies.as_ref().map(|c| c.key.clone());
    if let Some(cookies) = cookies {
        built = built.with_syn_cookies(cookies);
    }
    if sources.is_some() || key.is_some() {
        built = built.with_heritage(Arc::new(Inherited { sources, key }));
    }
    Some(match (stateful, loose) {
        (true, true) => built.with_tracking(Tracking::CheckLoosely),
        (true, false) => built.with_tracking(Tracking::Check),
        _ if folds => built.folding().deciding(decides),
        _ => built.deciding(decides),
    })
}

/// What a firewall without state decides by headers alone: by its rules, and by its default as it is when it is asked.
fn decider(
    mut list: Vec<(Match, Says)>,
    neighbours: bool,
    default: Arc<AtomicU8>,
) -> impl Fn() -> Decides {
    if neighbours {
        // Whether they count is in their hop limit.
        let icmp = (133..=137).map(|kind| IcmpMatch { protocol: Protocol::ICMP6, kind }).collect();
        let (family, protocols) = (Some(IpFamily::V6), vec![Protocol::ICMP6]);
        list.push((Match { family, protocols, icmp, ..Match::default() }, Says::Ask));
    }
    move || Decides {
        list: list.clone(),
        otherwise: match Verdict::from(default.load(Ordering::Acquire)) {
            Verdict::Allow => Says::Pass { rule: None },
            Verdict::Deny => Says::Drop { why: NO_RULE, rule: None },
            Verdict::Reject => Says::Ask,
        },
    }
}

/// What a firewall takes over from the one that it replaces.
struct Inherited {
    /// They are kept even without limits: flows are counted in them.
    sources: Option<Arc<Sources>>,
    /// Of cookies that are under way.
    key: Option<CookieKey>,
}

fn inherited(around: Surroundings<'_>) -> Option<Arc<Inherited>> {
    around.heritage?.clone().downcast().ok()
}

fn default_handle(default: Arc<AtomicU8>, generation: Arc<AtomicU32>) -> Handle {
    let read = default.clone();
    Handle {
        named: Named {
            name: "default",
            help: "`allow` | `deny` | `reject`: what happens to an IP packet that no rule matches",
        },
        read: Box::new(move || Verdict::from(read.load(Ordering::Relaxed)).word().to_owned()),
        write: Some(Box::new(move |value| {
            let to = Verdict::of(value).ok_or("it is `allow`, `deny` or `reject`")?;
            default.store(to as u8, Ordering::Release);
            generation.fetch_add(1, Ordering::Release);
            Ok(())
        })),
    }
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Verdict {
    Allow,
    Deny,
    Reject,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Reject];
    const WORDS: &[&str] = &["allow", "deny", "reject"];

    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.word() == word)
    }
}

impl From<u8> for Verdict {
    /// The one of that number; what is none denies.
    fn from(number: u8) -> Self {
        Self::ALL.into_iter().find(|v| *v as u8 == number).unwrap_or(Self::Deny)
    }
}

#[derive(Debug)]
struct Firewall {
    rules: Rules,
    /// A [`Verdict`].
    default: Arc<AtomicU8>,
    neighbours: bool,
    log: Option<Log>,
    sources: Option<Arc<Sources>>,
    limits: Option<Limits>,
}

impl Firewall {
    /// Lets a packet pass, unless it begins one flow too many of its source.
    fn admit(&self, flow: &FlowView<'_>, rule: Option<u32>, kept: &mut Kept) -> Decision {
        if let (FlowStage::First | FlowStage::Probe, Some(sources), Some(limits)) =
            (flow.state, &self.sources, self.limits)
        {
            match sources.begin(flow.headers, limits) {
                Ok(counted) => *kept = counted,
                Err(Over::Connections) => return Decision::Drop { why: SOURCE_CONNECTIONS, rule },
                Err(Over::HalfOpen) => return Decision::Drop { why: SOURCE_HALF_OPEN, rule },
            }
        }
        Decision::Forward(Forward { rule, ..Forward::AS_IT_IS })
    }
}

impl FlowNf for Firewall {
    type Slice = ();
    type Flow = Kept;

    fn keeps(&self) -> usize {
        if self.sources.is_some() { size_of::<Kept>() } else { 0 }
    }

    fn slice(&self, _: Shard) {}

    fn look_up(&self, packets: Lookup<'_>, hints: &mut [u32]) {
        self.rules.look_up(packets, hints);
    }

    fn decide(&self, flow: &FlowView<'_>, hint: u32, kept: &mut Kept, (): &mut ()) -> Decision {
        if let Some((number, rule)) = self.rules.first(flow, hint) {
            let decision = match rule.verdict {
                Verdict::Allow => self.admit(flow, Some(number), kept),
                Verdict::Deny => Decision::Drop { why: RULE_DENIED, rule: Some(number) },
                Verdict::Reject => Decision::Drop { why: RULE_REJECTED, rule: Some(number) },
            };
            if let (Some(log), Some(own)) = (&self.log, &rule.log)
                && is_told(flow.state, decision)
            {
                own.write(log, flow, number, word_of(decision));
            }
            return decision;
        }
        match flow.headers.kind {
            L3::Arp | L3::Other if self.neighbours => Decision::PASS,
            L3::Arp | L3::Other => Decision::Drop { why: NOT_IP, rule: None },
            L3::Ipv6 if self.neighbours && is_discovery(flow) => Decision::PASS,
            _ => match Verdict::from(self.default.load(Ordering::Relaxed)) {
                Verdict::Allow => self.admit(flow, None, kept),
                Verdict::Deny => Decision::Drop { why: NO_RULE, rule: None },
                Verdict::Reject => Decision::Drop { why: DEFAULT_REJECTED, rule: None },
            },
        }
    }

    fn opened(&self, kept: &mut Kept, (): &mut (), _: Time) {
        if let Some(sources) = &self.sources {
            sources.open(kept);
        }
    }

    fn hears_closed(&self) -> bool {
        self.sources.is_some()
    }

    fn closed(&self, kept: &mut Kept, (): &mut (), _: Time) {
        if let Some(sources) = &self.sources {
            sources.close(kept);
        }
    }

    fn release(&self, kept: &Kept, (): &mut (), _: Time) {
        if let Some(sources) = &self.sources {
            sources.end(*kept);
        }
    }
}

/// Whether the log is told of a decision: once a flow, or once a SYN that begins none.
fn is_told(stage: FlowStage, decision: Decision) -> bool {
    match stage {
        FlowStage::Packet | FlowStage::First => true,
        FlowStage::Probe => matches!(decision, Decision::Drop { .. }),
        FlowStage::Again => false,
    }
}

/// What the log calls a decision.
fn word_of(decision: Decision) -> &'static str {
    match decision {
        Decision::Forward(_) => Verdict::Allow.word(),
        Decision::Drop { why: RULE_DENIED, .. } => Verdict::Deny.word(),
        Decision::Drop { why: RULE_REJECTED, .. } => Verdict::Reject.word(),
        Decision::Drop { .. } => "over_limit",
    }
}

/// Router and neighbour discovery and redirects (RFC 4861), which only count with a hop limit of 255.
fn is_discovery(flow: &FlowView<'_>) -> bool {
    let h = flow.headers;
    h.protocol == protocol::ICMP6 && (133..=137).contains(&h.icmp_type) && h.ttl == 255
}
