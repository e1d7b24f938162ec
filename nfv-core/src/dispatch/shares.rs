//! What part of a port's packets each class is likely to be: a guess while nothing has come, and what was counted after.
//!
//! A NIC that holds fewer rules than there are classes is given those of the largest shares, so that a wrong guess costs
//! cycles, and a right one saves them. Classes are known by their packets and not by their numbers, which another chain
//! file changes: what was counted of one is not lost by a reload.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::class::{Class, PortClasses};
use super::region::Region;
use crate::chain::value::Protocol;

/// Packets that were counted of classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted(HashMap<ClassKey, f64>);

/// What a class is known by, whatever its number: its regions. The same in all processes of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassKey(pub u64);

impl ClassKey {
    /// That of a class.
    pub fn of(class: &Class) -> Self {
        let mut hasher = DefaultHasher::new();
        class.regions.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Counted {
    /// Adds packets of a class.
    pub fn add(&mut self, class: ClassKey, packets: f64) {
        *self.0.entry(class).or_default() += packets;
    }

    /// How many there were of a class; `None`: it was not there to be counted.
    pub fn packets(&self, class: ClassKey) -> Option<f64> {
        self.0.get(&class).copied()
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|packets| *packets == 0.0)
    }

    /// Has what was counted so far weigh half: what comes from now on is nearer to what will come.
    pub fn fade(&mut self) {
        self.0.values_mut().for_each(|packets| *packets /= 2.0);
        // What nobody had is known as well by the guess, and files may change for ever.
        self.0.retain(|_, packets| *packets >= 1.0);
    }
}

impl PortClasses {
    /// The same, with shares by what was counted. Classes that were not there to be counted keep what is guessed of them.
    #[must_use]
    pub fn with_shares(&self, counted: &Counted) -> Self {
        let mut all = self.clone();
        if counted.is_empty() {
            return all;
        }
        let known = |class: &Class| counted.packets(ClassKey::of(class));
        // A few packets by the guess: one that had none so far is not said to have none ever.
        let weight = |class: &Class| known(class).map(|packets| packets + GUESSED * class.share);
        let guessed: f64 = all.classes.iter().filter(|c| known(c).is_none()).map(|c| c.share).sum();
        let sum: f64 = all.classes.iter().filter_map(weight).sum();
        for class in &mut all.classes {
            if let Some(weight) = weight(class) {
                class.share = (1.0 - guessed) * weight / sum.max(f64::MIN_POSITIVE);
            }
        }
        all
    }

    /// Shares by guess: the less a class asks of its packets, the more it has.
    pub(super) fn guess_shares(&mut self) {
        let widths: Vec<f64> =
            self.classes.iter().map(|class| class.regions.iter().map(width).sum()).collect();
        let sum = widths.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        for (class, width) in self.classes.iter_mut().zip(widths) {
            class.share = width / sum;
        }
    }
}

/// How much may meet a region: each thing that it asks for halves it, an address once for each quarter of its bits, and a
/// protocol that is neither TCP nor UDP three times, as there is little of them.
fn width(region: &Region) -> f64 {
    let address = |prefix: Option<crate::chain::value::Prefix>| {
        prefix.map_or(0, |p| {
            let net = p.net();
            u32::from(net.prefix_len()).div_ceil(u32::from(net.max_prefix_len()) / 4)
        })
    };
    let family = region.family.is_some() && region.src.is_none() && region.dst.is_none();
    let protocol = match region.protocol {
        None => 0,
        Some(Protocol::TCP | Protocol::UDP) => 1,
        Some(_) => 3,
    };
    let ports = [region.sport, region.dport].iter().filter(|range| **range != ANY).count() as u32;
    let others = [family, region.icmp.is_some(), region.flags != (0, 0), region.vlan.is_some()];
    let others = others.iter().filter(|asks| **asks).count() as u32;
    let halvings = address(region.src) + address(region.dst) + protocol + ports + others;
    0.5f64.powi(halvings as i32)
}

const ANY: (u16, u16) = (0, u16::MAX);
/// Packets that a guess counts for.
const GUESSED: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::compile::ProgramId;
    use crate::chain::value::{Prefix, Scalar};
    use crate::dispatch::{ClassFate, Tag};
    use crate::nf::PortIndex;

    fn of(regions: &[Region]) -> PortClasses {
        let fate = ClassFate::Enter { program: ProgramId(0), step: 0 };
        let class = |(number, region): (u32, &Region)| Class {
            tag: Tag::new(0, number),
            regions: vec![region.clone()],
            fate,
            decided: Vec::new(),
            share: 0.0,
        };
        let classes = (1..).zip(regions).map(class).collect();
        let mut all = PortClasses { port: PortIndex(0), classes };
        all.guess_shares();
        all
    }

    fn shares(all: &PortClasses) -> Vec<f64> {
        let rounded = |class: &Class| (class.share * 1000.0).round() / 1000.0;
        all.classes.iter().map(rounded).collect()
    }

    fn to(port: u16) -> Region {
        Region { protocol: Some(Protocol::TCP), dport: (port, port), ..Region::ALL }
    }

    #[test]
    fn what_asks_for_less_is_guessed_to_have_more() {
        let host = Region { src: Prefix::parse("10.0.0.1").ok(), ..to(80) };
        let net = Region { src: Prefix::parse("10.0.0.0/8").ok(), ..Region::ALL };
        let all = of(&[host, to(80), net, Region::ALL]);
        assert_eq!(shares(&all), [0.009, 0.142, 0.283, 0.566]);
    }

    #[test]
    fn what_was_counted_replaces_the_guess_and_outlives_the_numbers() {
        let all = of(&[to(80), to(443), to(22)]);
        assert_eq!(shares(&all.with_shares(&Counted::default())), shares(&all));
        let mut counted = Counted::default();
        for (class, packets) in all.classes.iter().zip([0.0, 99_900.0, 0.0]) {
            counted.add(ClassKey::of(class), packets);
        }
        assert_eq!(shares(&all.with_shares(&counted)), [0.0, 0.999, 0.0]);
        assert!(all.with_shares(&counted).classes.iter().all(|class| class.share > 0.0));
        // Another file has another class before it, which nobody has counted.
        let other = of(&[to(53), to(443), to(80)]);
        let shares = shares(&other.with_shares(&counted));
        assert_eq!(shares[0], 0.333, "its guess stays");
        assert!(shares[1] > 0.66 && shares[2] < 0.001, "{shares:?}");
        counted.fade();
        assert_eq!(counted.packets(ClassKey::of(&all.classes[1])), Some(49_950.0));
    }
}
