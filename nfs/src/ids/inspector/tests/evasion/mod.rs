//! Evasion: what fires on a stream fires again when the same stream is cut, reordered, lied over and fragmented; and it does
//! not where the mechanism is off that sees through it.

mod cases;
mod controls;
mod conversations;
mod fragments;
mod lies;
mod wire;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::conversations::{Conversation, NEVER};
use self::fragments::{Fragments, Shape};
use self::lies::{Lay, Lies, Thrown};
use self::wire::{Version, Wire};
use super::*;
use crate::ids::stream::{HostPolicies, Mode, OverlapPolicy};

/// In which way a conversation is sent.
#[derive(Clone, Copy, Debug)]
struct How {
    version: Version,
    mode: Mode,
    /// Bytes of a segment.
    size: usize,
    order: Order,
    lies: Lies,
    fragments: Fragments,
    /// How both hosts treat overlaps.
    policy: OverlapPolicy,
}

/// In which order segments of a turn are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Forwards,
    Backwards,
    Shuffled(u32),
}

/// As hosts do that hide nothing.
const PLAIN: How = How {
    version: Version::V4,
    mode: Mode::Passive,
    size: 1400,
    order: Order::Forwards,
    lies: Lies::None,
    fragments: Fragments::Whole,
    policy: OverlapPolicy::Bsd,
};

const MODES: [Mode; 2] = [Mode::Passive, Mode::Inline];
const VERSIONS: [Version; 2] = [Version::V4, Version::V6];

/// The numbers of the rules that fire.
fn fired(
    conversation: &Conversation,
    how: &How,
    change: impl FnOnce(&mut Settings),
) -> BTreeSet<u32> {
    let mut site = Site::under(conversation.rules, |settings| {
        settings.streams.mode = how.mode;
        settings.streams.hosts = HostPolicies::new(Vec::new(), how.policy);
        settings.datagrams.hosts = HostPolicies::new(Vec::new(), how.policy);
        change(settings);
    });
    let mut sender =
        Sender { wire: Wire::open(&mut site, how.version, conversation.port), how, id: 1 };
    for (who, bytes) in &conversation.turns {
        sender.turn(&mut site, *who, bytes);
    }
    let of = |record: &Record| match &record.body {
        Body::Alert(alert) => Some(alert.rule.sid),
        _ => None,
    };
    site.ends().0.iter().filter_map(of).collect()
}

/// The numbers of the rules that are to fire.
fn wanted(conversation: &Conversation) -> BTreeSet<u32> {
    let numbers = conversation.rules.split("sid:").skip(1);
    let numbers = numbers.filter_map(|rest| rest.split(';').next()?.parse().ok());
    numbers.filter(|sid| *sid < NEVER).collect()
}

/// Sends what hosts say, in some way.
struct Sender<'h> {
    wire: Wire,
    how: &'h How,
    /// Number of the next datagram.
    id: u32,
}

impl Sender<'_> {
    /// All that a host says until the other one answers, and that it was heard.
    fn turn(&mut self, site: &mut Site, who: Who, bytes: &[u8]) {
        let Self { wire, how, .. } = self;
        for said in lies::segments(wire, who, bytes, how) {
            self.send(site, &said);
        }
        self.wire.sent(who, bytes.len());
        let other = if who == Client { Server } else { Client };
        self.wire.clock += 1;
        let heard =
            self.wire.frame(other, &wire::Said { flags: "a", ..self.wire.says(other, 0, b"") });
        self.send(site, &heard);
        for lie in lies::behind(&self.wire, who, bytes, self.how) {
            self.send(site, &lie);
        }
    }

    fn send(&mut self, site: &mut Site, frame: &[u8]) {
        self.id += 1;
        for mut part in fragments::cut(frame, self.how.fragments, self.id) {
            let verdict = site.sees(&part);
            if let Some(rewrite) = verdict.rewrite {
                site.inspector.rewrite(&rewrite, &mut part);
            }
        }
    }
}

/// Has all conversations be sent in these ways, and all alerts fire.
fn all_fire(ways: &[How]) {
    let mut missing = Vec::new();
    let conversations = conversations::all();
    for conversation in &conversations {
        for how in ways {
            let found = fired(conversation, how, |_| ());
            let wanted = wanted(conversation);
            if found != wanted {
                missing.push(format!(
                    "{}: {how:?}: {found:?} instead of {wanted:?}",
                    conversation.name
                ));
            }
        }
    }
    let of = conversations.len() * ways.len();
    assert!(
        missing.is_empty(),
        "{} of {of}:\n{}",
        missing.len(),
        missing[..missing.len().min(20)].join("\n")
    );
    println!("{of} conversations, all alerts");
}

#[test]
fn all_rules_fire_on_conversations_that_hide_nothing() {
    let both = MODES.map(|mode| VERSIONS.map(|version| How { mode, version, ..PLAIN }));
    all_fire(both.as_flattened());
}

#[test]
fn every_alert_fires_again_however_streams_are_cut_and_in_whatever_order() {
    let mut ways = Vec::new();
    for mode in MODES {
        for (version, size) in [
            (Version::V4, 1),
            (Version::V4, 2),
            (Version::V6, 1),
            (Version::V6, 7),
            (Version::V4, 61),
        ] {
            for order in [Order::Forwards, Order::Backwards, Order::Shuffled(1), Order::Shuffled(2)]
            {
                ways.push(How { mode, version, size, order, ..PLAIN });
            }
        }
    }
    all_fire(&ways);
}

#[test]
fn every_alert_fires_again_under_lies_that_the_receiver_loses() {
    let mut ways = Vec::new();
    for policy in OverlapPolicy::ALL {
        for lay in Lay::ALL {
            ways.push(How { policy, lies: Lies::Over(lay), size: 6, ..PLAIN });
        }
    }
    for lay in Lay::ALL {
        ways.push(How { mode: Mode::Inline, lies: Lies::Over(lay), size: 6, ..PLAIN });
    }
    all_fire(&ways);
}

#[test]
fn every_alert_fires_again_beside_what_no_receiver_takes() {
    let mut ways = Vec::new();
    for thrown in Thrown::ALL {
        for mode in MODES {
            for version in VERSIONS {
                for (size, order) in
                    [(1, Order::Forwards), (9, Order::Shuffled(3)), (1400, Order::Forwards)]
                {
                    ways.push(How {
                        mode,
                        version,
                        size,
                        order,
                        lies: Lies::Thrown(thrown),
                        ..PLAIN
                    });
                }
            }
        }
    }
    all_fire(&ways);
}

#[test]
fn every_alert_fires_again_when_packets_are_fragmented() {
    let mut kinds = vec![
        Fragments::Cut(8),
        Fragments::Cut(24),
        Fragments::Backwards(8),
        Fragments::Twice(8),
        Fragments::Twice(16),
    ];
    for policy in OverlapPolicy::ALL {
        kinds.extend(Shape::ALL.map(|shape| Fragments::Lies(policy, shape)));
    }
    let mut ways = Vec::new();
    for fragments in kinds {
        let policy = match fragments {
            Fragments::Lies(policy, _) => policy,
            _ => OverlapPolicy::Bsd,
        };
        for mode in MODES {
            for version in VERSIONS {
                for (size, order) in [(1400, Order::Forwards), (40, Order::Backwards)] {
                    ways.push(How { version, mode, size, order, fragments, policy, ..PLAIN });
                }
            }
        }
    }
    ways.extend(VERSIONS.map(|version| How {
        version,
        size: 1,
        fragments: Fragments::Backwards(8),
        ..PLAIN
    }));
    all_fire(&ways);
}

fn ways() -> impl Strategy<Value = How> {
    let order = prop_oneof![
        Just(Order::Forwards),
        Just(Order::Backwards),
        any::<u32>().prop_map(Order::Shuffled)
    ];
    let pick = |n: usize| 0..n;
    (pick(2), pick(2), 1usize..40, order, pick(13), pick(13), pick(Thrown::ALL.len()), pick(7))
        .prop_map(|(mode, version, size, order, policy, lay, thrown, fragments)| {
            let policy = OverlapPolicy::ALL[policy];
            let (mode, version) = (MODES[mode], VERSIONS[version]);
            let lies = match lay {
                at @ 0..9 => Lies::Over(Lay::ALL[at]),
                // A fragment's header has a sum of its own.
                9..12 if fragments < 5 && Thrown::ALL[thrown] == Thrown::HeaderChecksum => {
                    Lies::Thrown(Thrown::Checksum)
                }
                9..12 => Lies::Thrown(Thrown::ALL[thrown]),
                _ => Lies::None,
            };
            // Where it lies over others, a segment has room for that.
            let size = if matches!(lies, Lies::Over(_)) { size.max(6) } else { size };
            // That is one who takes a reset anywhere ahead.
            let is_taken = lies == Lies::Thrown(Thrown::ResetAhead);
            let policy = match policy {
                OverlapPolicy::Hpux11 if is_taken => OverlapPolicy::Bsd,
                policy => policy,
            };
            let fragments = match fragments {
                0 => Fragments::Cut(8),
                1 => Fragments::Backwards(16),
                2 => Fragments::Twice(8),
                3 => Fragments::Lies(policy, Shape::Same),
                4 => Fragments::Lies(policy, Shape::Inside),
                _ => Fragments::Whole,
            };
            How { version, mode, size, order, lies, fragments, policy }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_alert_fires_again_whatever_is_done_together(how in ways(), which in 0usize..8) {
        let all = conversations::all();
        let conversation = &all[which];
        let found = fired(conversation, &how, |_| ());
        prop_assert_eq!(found, wanted(conversation), "{}", conversation.name);
    }
}
