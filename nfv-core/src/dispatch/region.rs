//! A region: packets by one range or value of each field. Classes, the rules of NICs, and what shadows what are told in it.

use ipnet::IpNet;

use crate::chain::value::{IpFamily, Prefix, Protocol};

/// The packets that meet all of these conditions; `None` and full ranges set none.
///
/// The fields are those of a packet as it came in: no view from the chain's initiator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// IPv4 or IPv6. With any condition on IP and `None`, both.
    pub family: Option<IpFamily>,
    /// Where the source is.
    pub src: Option<Prefix>,
    /// Where the destination is.
    pub dst: Option<Prefix>,
    /// The protocol over IP.
    pub protocol: Option<Protocol>,
    /// Source ports, both ends included; only of a protocol that has some.
    pub sport: (u16, u16),
    /// Destination ports.
    pub dport: (u16, u16),
    /// The type of ICMP message; `protocol` says of which ICMP.
    pub icmp: Option<u8>,
    /// TCP flags that are set, and those that are clear; no bit is in both.
    pub flags: (u8, u8),
    /// The outermost VLAN id.
    pub vlan: Option<u16>,
}

impl Region {
    /// All packets.
    pub const ALL: Self = Self {
        family: None,
        src: None,
        dst: None,
        protocol: None,
        sport: ANY,
        dport: ANY,
        icmp: None,
        flags: (0, 0),
        vlan: None,
    };

    /// The packets that are in both; `None` when there are none.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let (set, clear) = (self.flags.0 | other.flags.0, self.flags.1 | other.flags.1);
        if set & clear != 0 {
            return None;
        }
        Some(Self {
            family: same(self.family, other.family)?,
            src: narrower(self.src, other.src)?,
            dst: narrower(self.dst, other.dst)?,
            protocol: same(self.protocol, other.protocol)?,
            sport: overlap(self.sport, other.sport)?,
            dport: overlap(self.dport, other.dport)?,
            icmp: same(self.icmp, other.icmp)?,
            flags: (set, clear),
            vlan: same(self.vlan, other.vlan)?,
        })
    }

    /// Whether every packet of `other` is in this.
    pub fn covers(&self, other: &Self) -> bool {
        self.meet(other).as_ref() == Some(other)
    }
}

/// The value that both allow, if there is one: `None` within allows all.
fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => Some(a.or(b)),
    }
}

fn narrower(a: Option<Prefix>, b: Option<Prefix>) -> Option<Option<Prefix>> {
    let (Some(one), Some(other)) = (a, b) else { return Some(a.or(b)) };
    let inside = |net: IpNet, of: IpNet| of.contains(&net);
    match (one.net(), other.net()) {
        (x, y) if inside(x, y) => Some(a),
        (x, y) if inside(y, x) => Some(b),
        _ => None,
    }
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

const ANY: (u16, u16) = (0, u16::MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::value::Scalar;

    fn to(first: u16, last: u16) -> Region {
        Region { protocol: Some(Protocol::TCP), dport: (first, last), ..Region::ALL }
    }

    #[test]
    fn what_is_in_both_is_their_meeting_and_a_part_is_covered() {
        assert_eq!(to(1, 10).meet(&to(5, 20)), Some(to(5, 10)));
        assert_eq!(to(1, 4).meet(&to(5, 20)), None);
        assert!(to(1, 10).covers(&to(5, 6)) && !to(5, 6).covers(&to(1, 10)));
        assert!(Region::ALL.covers(&to(1, 1)));
        let net = |text: &str| Region { src: Some(Prefix::parse(text).unwrap()), ..Region::ALL };
        assert!(net("10.0.0.0/8").covers(&net("10.1.0.0/16")));
        assert_eq!(net("10.0.0.0/8").meet(&net("11.0.0.0/8")), None);
        let flags = |set, clear| Region { flags: (set, clear), ..Region::ALL };
        assert_eq!(flags(2, 0).meet(&flags(0, 16)), Some(flags(2, 16)));
        assert_eq!(flags(2, 0).meet(&flags(0, 2)), None);
    }
}
