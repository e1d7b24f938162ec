//! What the chain file says of single ends: forwarded ports, and addresses that stand for one another.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use nfv_core::packet::protocol;

use super::ends::End;

/// Forwarded ports.
#[derive(Debug, Default)]
pub struct Forwards {
    /// By protocol and outside end; with the unspecified address, of all addresses of the pool.
    to: HashMap<(u8, End), End>,
    /// Outside addresses that are not the pool's.
    addresses: Vec<Ipv4Addr>,
}

/// Where a forward listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// On all addresses of the pool.
    Pool,
    /// On one of them.
    PoolAddress(Ipv4Addr),
    /// On an address of its own.
    Own(Ipv4Addr),
}

impl Forwards {
    /// Adds one. False: there is one for this outside end already.
    pub fn add(&mut self, proto: u8, listens: Listens, port: u16, to: End) -> bool {
        let address = match listens {
            Listens::Pool => Ipv4Addr::UNSPECIFIED,
            Listens::PoolAddress(address) => address,
            Listens::Own(address) => {
                if !self.addresses.contains(&address) {
                    self.addresses.push(address);
                }
                address
            }
        };
        let port_of = |address| (proto, End { address, port });
        let others = |(p, end): &(u8, End)| *p == proto && end.port == port;
        let taken = match listens {
            Listens::Pool => {
                self.to.keys().any(|k| others(k) && !self.addresses.contains(&k.1.address))
            }
            Listens::PoolAddress(_) => self.to.contains_key(&port_of(Ipv4Addr::UNSPECIFIED)),
            Listens::Own(_) => false,
        };
        !taken && self.to.insert(port_of(address), to).is_none()
    }

    /// The inside end that an outside end is forwarded to. `pooled`: whether its address is the pool's.
    #[inline]
    pub fn inside(&self, proto: u8, outside: End, pooled: Pooled) -> Option<End> {
        if self.to.is_empty() {
            return None;
        }
        let any = End { address: Ipv4Addr::UNSPECIFIED, ..outside };
        let by = |end: End| self.to.get(&(proto, end)).copied();
        by(outside).or_else(|| if pooled == Pooled::Yes { by(any) } else { None })
    }

    /// Whether it is an outside address that is not the pool's.
    #[inline]
    pub fn is_own_address(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }

    /// Protocols and outside ends; with the unspecified address, of all addresses of the pool.
    pub fn ends(&self) -> impl Iterator<Item = (u8, End)> {
        self.to.keys().copied()
    }
}

/// Whether an address is the pool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Addresses that stand for one another, one to one, all ports of them.
#[derive(Debug, Default)]
pub struct OneToOne {
    /// The first outside address, the first inside address, and how many there are.
    pairs: Vec<(u32, u32, u32)>,
}

impl OneToOne {
    /// Adds as many addresses from a first outside and a first inside one on.
    pub fn add(&mut self, outside: Ipv4Addr, inside: Ipv4Addr, count: u32) {
        self.pairs.push((outside.to_bits(), inside.to_bits(), count));
    }

    /// The inside address of an outside one.
    #[inline]
    pub fn inside(&self, outside: Ipv4Addr) -> Option<Ipv4Addr> {
        let bits = outside.to_bits();
        self.pairs.iter().find_map(|(out, inside, n)| {
            let at = bits.checked_sub(*out).filter(|at| at < n)?;
            Some(Ipv4Addr::from_bits(inside + at))
        })
    }

    /// The outside address of an inside one.
    #[inline]
    pub fn outside(&self, inside: Ipv4Addr) -> Option<Ipv4Addr> {
        let bits = inside.to_bits();
        self.pairs.iter().find_map(|(out, inside, n)| {
            let at = bits.checked_sub(*inside).filter(|at| at < n)?;
            Some(Ipv4Addr::from_bits(out + at))
        })
    }
}

/// Whether a packet of a protocol is right after its addresses were changed, as the engine changes them: what sums up
/// addresses and is not brought up to date would arrive broken, and AH forbids the change.
#[inline]
pub fn survives_new_addresses(proto: u8) -> bool {
    !matches!(proto, protocol::DCCP | protocol::UDP_LITE | protocol::AH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        let (address, port) = text.split_once(':').unwrap();
        End { address: address.parse().unwrap(), port: port.parse().unwrap() }
    }

    #[test]
    fn a_forward_of_all_addresses_collides_with_one_of_an_address_of_the_pool() {
        let pooled = Listens::PoolAddress(end("192.0.2.1:0").address);
        let own = Listens::Own(end("203.0.113.1:0").address);
        let to = end("10.0.0.1:80");
        for (first, second, collide) in [
            (Listens::Pool, Listens::Pool, true),
            (Listens::Pool, pooled, true),
            (pooled, Listens::Pool, true),
            (pooled, pooled, true),
            (own, Listens::Pool, false),
            (Listens::Pool, own, false),
            (own, own, true),
        ] {
            let mut f = Forwards::default();
            assert!(f.add(protocol::TCP, first, 80, to));
            assert_eq!(f.add(protocol::TCP, second, 80, to), !collide, "{first:?} {second:?}");
            assert!(f.add(protocol::UDP, second, 80, to), "of another protocol");
            assert!(f.add(protocol::TCP, second, 81, to), "of another port");
        }
    }

    #[test]
    fn a_forward_is_found_by_protocol_address_and_port() {
        let mut f = Forwards::default();
        f.add(protocol::TCP, Listens::Pool, 80, end("10.0.0.1:8080"));
        f.add(protocol::UDP, Listens::Own(end("203.0.113.1:0").address), 53, end("10.0.0.2:53"));
        let tcp = |e: &str, pooled| f.inside(protocol::TCP, end(e), pooled);
        assert_eq!(tcp("192.0.2.1:80", Pooled::Yes), Some(end("10.0.0.1:8080")));
        assert_eq!(tcp("203.0.113.1:80", Pooled::No), None, "not of the pool");
        assert_eq!(tcp("192.0.2.1:81", Pooled::Yes), None);
        let udp = f.inside(protocol::UDP, end("203.0.113.1:53"), Pooled::No);
        assert_eq!(udp, Some(end("10.0.0.2:53")));
        assert!(f.is_own_address(end("203.0.113.1:0").address));
    }

    #[test]
    fn one_to_one_is_a_bijection_of_its_addresses() {
        let mut all = OneToOne::default();
        let a = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        all.add(a("192.0.2.10"), a("10.0.0.20"), 3);
        for (outside, inside) in [("192.0.2.10", "10.0.0.20"), ("192.0.2.12", "10.0.0.22")] {
            assert_eq!(all.inside(a(outside)), Some(a(inside)));
            assert_eq!(all.outside(a(inside)), Some(a(outside)));
        }
        assert_eq!(all.inside(a("192.0.2.13")), None);
        assert_eq!(all.outside(a("10.0.0.19")), None);
    }
}
