//! The rules: which one is the first that a packet meets.
//!
//! ```text
//!   rules      1 2 [3 with a set] 4 5 6 [7 with a set] 8          [..] : matched by its other fields, then by its set
//!   segments   |------ A -------| |-------- B -------| |C|         one classifier each
//! ```
//!
//! A classifier tells the first rule that matches, and no later ones. So the list is cut behind each rule with a set: when
//! its other fields match and its set does not, the next segment is asked. What rules cost does not grow with their number,
//! but by one lookup (30 to 60 clocks) for each rule with a set that a flow's first packet comes past. The one rejected:
//! sets in the classifier, where a million entries take gigabytes, and no set could be replaced alone.

use std::sync::Arc;

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::matching::{HEADER_KEYS, Match};
use nfv_core::chain::report::{Report, nearest, quoted};
use nfv_core::chain::section::Section;
use nfv_core::chain::source::Spanned;
use nfv_core::dispatch::{Classifier, Line, Takes, View, warn_of_shadows};
use nfv_core::nf::{Direction, FlowView, Lookup, Reason, Says, Surroundings};
use nfv_core::packet::{Fragment, Headers, protocol};

use super::Verdict;
use super::log::{self, RuleLog};
use super::sets::{Of, Set, Sets};

/// The keys of a rule.
pub const RULE: Table =
    Table { what: "a firewall rule", groups: &[VERDICT_KEYS, OWN_KEYS, HEADER_KEYS] };

const VERDICT_KEYS: &[Key] = &[
    verdict("allow", "let packets of these protocols pass"),
    verdict("deny", "drop packets of these protocols"),
    verdict("reject", "drop packets of these protocols and tell their senders"),
];

const fn verdict(name: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::OneOrMany(&Shape::Protocol), need: Need::Optional, help }
}

const OWN_KEYS: &[Key] = &[
    set("src-set", "source address, by the names of sets"),
    set("dst-set", "destination address, by the names of sets"),
    set("sport-set", "source port, by the names of sets"),
    set("dport-set", "destination port, by the names of sets"),
    Key {
        name: "in-zone",
        shape: Shape::Text,
        need: Need::Optional,
        help: "the zone whose ports received the packet: one of `zones`, or one that ports name",
    },
    log::KEY,
];

const fn set(name: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::OneOrMany(&Shape::Text), need: Need::Optional, help }
}

/// The rules of a firewall.
#[derive(Debug)]
pub struct Rules {
    /// At least one.
    segments: Box<[Segment]>,
    rules: Box<[Rule]>,
    /// Whether all packets of a flow meet the same rule.
    pub folds: bool,
    /// By rule, where it stands and what it is about; taken by who asks first.
    lines: Vec<Line>,
}

/// Rules that are looked up at once; of them only the last one has sets.
#[derive(Debug)]
struct Segment {
    classifier: Classifier,
    /// By match: a rule of a zone has one for each port.
    rules: Box<[u32]>,
}

/// A rule beside what its classifier knows.
#[derive(Debug)]
pub struct Rule {
    /// What it says.
    pub verdict: Verdict,
    /// Whether and how often it says so.
    pub log: Option<RuleLog>,
    /// All of which must hold.
    conditions: Box<[Condition]>,
}

/// A field is in one of these sets.
#[derive(Debug)]
struct Condition {
    field: Field,
    sets: Box<[Arc<Set>]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Src,
    Dst,
    Sport,
    Dport,
}

/// Sets of ports, by name.
type Zones = Vec<(Spanned<String>, Vec<Spanned<String>>)>;

impl Rules {
    /// Reads the rules of a firewall, each with its name for an operator. `None`: the report says why.
    pub fn read(
        section: &Section<'_>,
        around: Surroundings<'_>,
        sets: &Sets,
        report: &mut Report,
    ) -> Option<(Self, Vec<String>)> {
        let zones: Zones = section.lists("zones");
        check_names(&zones, around, report);
        let (mut rules, mut names) = (Vec::<Rule>::new(), Vec::new());
        let mut lines = Vec::new();
        let mut segments: Vec<(Vec<Match>, Vec<u32>)> = vec![Default::default()];
        for rule in section.sections("rules") {
            let Some(verdict) = verdict_of(&rule, report) else { continue };
            let word = verdict.word();
            let one = Match::with_protocols(&rule, &rule.values(word), report);
            let conditions = conditions(&rule, sets, report);
            let cut = !conditions.is_empty();
            let number = u32::try_from(rules.len()).ok()?;
            let (matches, places) = segments.last_mut()?;
            let own = by_port(one, &rule, (&zones, around), report);
            places.extend(own.iter().map(|_| number));
            matches.extend(own.iter().cloned());
            let takes = if cut { Takes::Some } else { Takes::All };
            let says = u32::from(verdict as u8);
            lines.push(Line { at: rule.span(), matches: own, says, takes });
            if cut {
                segments.push(Default::default());
            }
            names.push(format!("line {}: {word}", rule.span().line));
            rules.push(Rule { verdict, log: RuleLog::read(&rule), conditions });
        }
        if segments.len() > SEGMENTS_MAX {
            let message = format!("more than {} rules with sets", SEGMENTS_MAX - 1);
            report
                .error(section.span_of("rules"), message)
                .hint("each costs a lookup: put several sets into one rule, or into one file");
        }
        if report.has_errors() {
            return None;
        }
        let folds = segments.iter().flat_map(|(matches, _)| matches).all(|m| m.flags.is_none());
        let mut built = Vec::new();
        for (matches, places) in segments {
            match Classifier::build(&matches, around) {
                Ok(classifier) => built.push(Segment { classifier, rules: places.into() }),
                Err(why) => {
                    report.error(section.span(), why.to_string());
                    return None;
                }
            }
        }
        Some((Self { segments: built.into(), rules: rules.into(), folds, lines }, names))
    }

    /// Whether any rule logs.
    pub fn logs(&self) -> bool {
        self.rules.iter().any(|rule| rule.log.is_some())
    }

    /// Warns of rules that no packet meets.
    pub fn warn_of_shadows(&self, around: Surroundings<'_>, report: &mut Report) {
        let mut lines = self.lines.clone();
        for (line, rule) in lines.iter_mut().zip(&self.rules) {
            // One that logs says more than another.
            line.says |= u32::from(rule.log.is_some()) << 8;
        }
        warn_of_shadows(&lines, "rule", around, report);
    }

    /// What can be said of packets before they come: nothing where more than their headers is asked, where a log is written,
    /// or where a sender is answered.
    pub fn decided(&mut self, denied: Reason) -> Vec<(Match, Says)> {
        let lines = std::mem::take(&mut self.lines);
        let mut list = Vec::new();
        for ((line, rule), number) in lines.into_iter().zip(&self.rules).zip(0..) {
            let says = match rule.verdict {
                _ if rule.log.is_some() || !rule.conditions.is_empty() => Says::Ask,
                Verdict::Allow => Says::Pass { rule: Some(number) },
                Verdict::Deny => Says::Drop { why: denied, rule: Some(number) },
                Verdict::Reject => Says::Ask,
            };
            list.extend(line.matches.into_iter().map(|one| (one, says)));
        }
        list
    }

    /// Looks packets up in the first segment, for [`Rules::first`].
    #[inline]
    pub fn look_up(&self, packets: Lookup<'_>, hints: &mut [u32]) {
        if let Some(segment) = self.segments.first() {
            segment.classifier.look_up(packets, View::Oriented, hints);
        }
    }

    /// The first rule that a packet meets. `hint`: what [`Rules::look_up`] found for it.
    #[inline]
    pub fn first(&self, flow: &FlowView<'_>, hint: u32) -> Option<(u32, &Rule)> {
        let mut found = [hint];
        for (i, segment) in self.segments.iter().enumerate() {
            if i > 0 {
                found = [0];
                let headers = std::slice::from_ref(flow.headers);
                let (in_port, direction) = (flow.in_port, flow.direction);
                let packets = Lookup { headers, in_port, direction };
                segment.classifier.look_up(packets, View::Oriented, &mut found);
            }
            let [place] = found;
            let number = place.checked_sub(1).and_then(|at| segment.rules.get(at as usize));
            let rule = number.and_then(|n| Some((*n, self.rules.get(*n as usize)?)));
            if let Some(rule) = rule.filter(|(_, rule)| rule.holds(flow)) {
                return Some(rule);
            }
        }
        None
    }
}

impl Rule {
    #[inline]
    fn holds(&self, flow: &FlowView<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(flow))
    }
}

impl Condition {
    fn holds(&self, flow: &FlowView<'_>) -> bool {
        let h = flow.headers;
        let field = match flow.direction {
            Direction::Forward => self.field,
            Direction::Reverse => self.field.other(),
        };
        self.sets.iter().any(|set| match field {
            Field::Src => set.has_address(h.kind, h.src),
            Field::Dst => set.has_address(h.kind, h.dst),
            Field::Sport => has_ports(h) && set.has_port(h.sport),
            Field::Dport => has_ports(h) && set.has_port(h.dport),
        })
    }
}

impl Field {
    const ALL: [(Self, &str, Of); 4] = [
        (Self::Src, "src-set", Of::Addresses),
        (Self::Dst, "dst-set", Of::Addresses),
        (Self::Sport, "sport-set", Of::Ports),
        (Self::Dport, "dport-set", Of::Ports),
    ];

    /// That of the other end.
    fn other(self) -> Self {
        match self {
            Self::Src => Self::Dst,
            Self::Dst => Self::Src,
            Self::Sport => Self::Dport,
            Self::Dport => Self::Sport,
        }
    }
}

/// Whether what the parse calls ports are some: of ICMP it is an identifier.
pub fn has_ports(h: &Headers) -> bool {
    let protocols =
        [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::DCCP, protocol::UDP_LITE];
    protocols.contains(&h.protocol) && h.fragment != Fragment::Later
}

fn verdict_of(rule: &Section<'_>, report: &mut Report) -> Option<Verdict> {
    let said: Vec<Verdict> = Verdict::ALL.into_iter().filter(|v| rule.has(v.word())).collect();
    match said.as_slice() {
        [verdict] => return Some(*verdict),
        [_, second, ..] => {
            let message = "a rule either allows, denies or rejects";
            report.error(rule.span_of_key(second.word()), message)
        }
        [] => report
            .error(rule.span(), "a rule that neither allows, denies nor rejects")
            .hint("start it with `allow: tcp`, `deny: any` or `reject: tcp`"),
    };
    None
}

fn conditions(rule: &Section<'_>, sets: &Sets, report: &mut Report) -> Box<[Condition]> {
    let named = Field::ALL.into_iter().filter(|(_, key, _)| rule.has(key));
    let condition = |(field, key, of): (Field, &str, Of)| {
        let names = rule.values::<String>(key);
        let sets = names.iter().filter_map(|name| sets.find(name, of, report)).collect();
        Condition { field, sets }
    };
    named.map(condition).collect()
}

/// A zone of the firewall has no name that ports have for theirs.
fn check_names(zones: &Zones, around: Surroundings<'_>, report: &mut Report) {
    for (name, _) in zones.iter().filter(|(name, _)| around.zones.ports(&name.value).is_some()) {
        report
            .error(name.span, format!("{} is the zone of ports already", quoted(&name.value)))
            .hint("`in-zone` knows the zones that ports name: give this one another name");
    }
}

/// A match for each port of the rule's zone, which is one of the firewall's or one that ports name; the match alone, when
/// it has none.
fn by_port(
    one: Match,
    rule: &Section<'_>,
    (zones, around): (&Zones, Surroundings<'_>),
    report: &mut Report,
) -> Vec<Match> {
    let Some(zone) = rule.text("in-zone") else { return vec![one] };
    let span = rule.span_of("in-zone");
    if one.in_port.is_some() {
        report.error(span, "`in-zone` beside `in-port`").hint("keep one of the two");
    }
    let at = |port: &Spanned<String>| Match { in_port: Some(port.clone()), ..one.clone() };
    if let Some(ports) = around.zones.ports(&zone) {
        let named = ports.filter_map(|port| around.ports.get(port.index()));
        return named.map(|name| at(&Spanned::new(name.clone(), span))).collect();
    }
    let Some((_, ports)) = zones.iter().find(|(name, _)| name.value == zone) else {
        let own = zones.iter().map(|(name, _)| name.value.as_str());
        let hint = match nearest(&zone, own.chain(around.zones.names())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name it under `zones`, with its ports, or as the `zone` of ports".to_owned(),
        };
        report.error(span, format!("there is no zone {}", quoted(&zone))).hint(hint);
        return vec![one];
    };
    ports.iter().map(at).collect()
}

/// Segments of a list of rules.
const SEGMENTS_MAX: usize = 65;
