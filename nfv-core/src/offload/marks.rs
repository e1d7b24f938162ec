//! In which form a port's NIC writes the tags of its classes.

use super::rule::{Fate, L4Item, Nic, NicRule, Pattern, PortItem};
use crate::dispatch::{MarkForm, PortClasses};

/// The form: the same whenever it is asked for. `None`: the NIC's marks are too small for any.
pub fn mark_form(nic: &dyn Nic, classes: &PortClasses) -> Option<MarkForm> {
    // Of whom it is not known, the driver has its say about the rules themselves.
    let largest = nic.limits().mark_max;
    largest.map_or(Some(MarkForm::WIDE), |largest| MarkForm::within(largest, classes))
}

/// The largest mark that a driver takes of which nothing else is known: asked while it has no rules, which it may compare
/// these with. `None`: it took none of these.
pub(super) fn largest_mark(nic: &dyn Nic) -> Option<u32> {
    let takes = |mark: &u32| samples(*mark).any(|rule| nic.validate(&rule).is_ok());
    [WIDE, u16::MAX.into(), SHORT, TINY].into_iter().find(takes)
}

/// Rules of which drivers that write marks take one or another.
fn samples(mark: u32) -> impl Iterator<Item = NicRule> {
    let dport = [PortItem::Any, PortItem::Masked { value: 80, mask: u16::MAX }];
    let both = dport.into_iter().flat_map(|dport| [Fate::Rss, Fate::Queue(0)].map(|f| (dport, f)));
    both.map(move |(dport, fate)| {
        let l4 = L4Item::Udp { sport: PortItem::Any, dport };
        let pattern = Pattern { vlan: None, is_ipv6: false, src: None, dst: None, l4 };
        NicRule { pattern, priority: 0, mark: Some(mark), count: false, fate }
    })
}

/// The largest tag but for some that drivers keep for themselves.
const WIDE: u32 = (1 << 24) - 17;
const SHORT: u32 = (1 << 15) - 1;
const TINY: u32 = (1 << 12) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::{Limits, Profile, Refusal, RuleId, Spread};
    use crate::port_index::PortIndex;

    /// A NIC of an unknown driver, whose marks end somewhere.
    #[derive(Debug)]
    struct Unknown(u32);

    impl Nic for Unknown {
        fn driver(&self) -> &str {
            "net_unheard_of"
        }

        fn queues(&self) -> u16 {
            2
        }

        fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
            let is_bare = rule.pattern.looks_at_nothing();
            match rule.mark.filter(|mark| *mark <= self.0 && !is_bare) {
                Some(_) => Ok(()),
                None => Err(Refusal("Invalid argument".to_owned())),
            }
        }

        fn install(&mut self, _: &NicRule) -> Result<RuleId, Refusal> {
            Err(Refusal(String::new()))
        }

        fn remove(&mut self, _: RuleId) -> Result<(), Refusal> {
            Ok(())
        }

        fn flush(&mut self) -> Result<(), Refusal> {
            Ok(())
        }

        fn hits(&self, _: RuleId) -> Option<u64> {
            None
        }

        fn spread(&self) -> Spread {
            Spread { key: None, table: Vec::new() }
        }

        fn set_table(&mut self, _: &[u16]) -> Result<(), Refusal> {
            Ok(())
        }
    }

    #[test]
    fn the_bits_of_a_mark_are_known_by_its_driver_or_found_by_asking_it() {
        let none = PortClasses { port: PortIndex(0), classes: Vec::new() };
        let bits = |nic: &dyn Nic| mark_form(nic, &none).map(MarkForm::bits);
        let asked = |largest| {
            let largest = largest_mark(&Unknown(largest));
            largest.and_then(|max| MarkForm::within(max, &none)).map(MarkForm::bits)
        };
        for (name, expected) in [("mlx5", 24), ("ice", 24), ("cnxk", 15), ("ixgbe", 15)] {
            assert_eq!(bits(&Profile::named(name, 2).unwrap()), Some(expected), "{name}");
        }
        for (largest, expected) in [(u32::MAX, 24), (1 << 20, 16), (65_534, 15), (5000, 12)] {
            assert_eq!(asked(largest), Some(expected), "{largest}");
        }
        assert_eq!(asked(0), None);
        assert_eq!(bits(&Unknown(0)), Some(24), "what it says to rules is said of them");
        let few = Limits { mark_max: Some(100), ..Limits::default() };
        assert_eq!(few.mark_max.and_then(|max| MarkForm::within(max, &none)), None);
    }
}
