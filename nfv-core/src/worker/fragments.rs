//! Fragments where flows are kept: each gets the ports of its datagram's first one, and is a packet of the same flow.

use arrayvec::ArrayVec;

use super::Own;
use crate::burst::Burst;
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Packet};
use crate::flow::fragment::{
    Extent, Family, FragmentKey, Fragments, Later, Limits, Refused, header_minimum, read,
};
use crate::flow::{FlowRef, FlowRefusal, Secret};
use crate::nf::PortIndex;
use crate::packet::{Fragment, Headers, L3};

/// The datagrams of which a worker has seen fragments.
#[derive(Debug)]
pub(super) struct Reassembly {
    table: Fragments<Upper, Waiting>,
    /// Those whose first one has come, to be taken in after it.
    released: Vec<Waiting>,
    dropped: Vec<(Packet, Refused)>,
}

/// A later fragment before its first one, and the port that received it.
type Waiting = (Packet, Headers, PortIndex);

/// What only the first fragment says.
#[derive(Clone, Copy, Debug)]
struct Upper {
    sport: u16,
    dport: u16,
    protocol: u8,
    icmp_type: u8,
    icmp_code: u8,
}

impl Upper {
    fn of(h: &Headers) -> Self {
        let Headers { sport, dport, protocol, icmp_type, icmp_code, .. } = *h;
        Self { sport, dport, protocol, icmp_type, icmp_code }
    }

    fn put(self, h: &mut Headers) {
        (h.sport, h.dport, h.protocol) = (self.sport, self.dport, self.protocol);
        (h.icmp_type, h.icmp_code) = (self.icmp_type, self.icmp_code);
        h.fragment = Fragment::Following;
    }
}

impl Reassembly {
    pub fn new() -> Self {
        let limits = Limits::default();
        Self {
            table: Fragments::new(limits, Secret::random()),
            released: Vec::with_capacity(BURST_MAX * limits.held_of_one),
            dropped: Vec::with_capacity(limits.held_packets),
        }
    }
}

impl Own {
    /// Gives the fragments of a burst the ports of their datagrams; takes out those that wait, or go no further.
    #[cold]
    pub(super) fn follow_fragments(
        &mut self,
        plan: &Plan,
        burst: &mut Burst,
        port: PortIndex,
        now: Time,
    ) {
        let Some(mut own) = self.fragments.take() else { return };
        let all: ArrayVec<(Packet, Headers), BURST_MAX> =
            burst.drain().map(|(packet, headers, _)| (packet, *headers)).collect();
        for (packet, headers) in all {
            let (start, end) = (usize::from(headers.l3), usize::from(headers.l3_end));
            let cut = matches!(headers.fragment, Fragment::First | Fragment::Later);
            match read(packet.data(), start, end).filter(|_| cut) {
                None => burst.push(packet, &headers, FlowRef::NONE),
                Some((id, extent, _)) => {
                    let key = key_of(&headers, id, port);
                    match own.follow((packet, headers, port), &key, extent, now) {
                        Ok(Some((packet, headers, _))) => {
                            burst.push(packet, &headers, FlowRef::NONE);
                        }
                        Ok(None) => {}
                        Err((packet, why)) => own.dropped.push((packet, why)),
                    }
                }
            }
        }
        self.fragments = Some(own);
        self.drop_fragments(plan);
    }

    /// Moves fragments that wait no longer, of one port, into a burst that is empty.
    pub(super) fn take_released(&mut self, burst: &mut Burst) -> Option<PortIndex> {
        let own = self.fragments.as_mut()?;
        let (_, _, port) = own.released.first()?;
        let port = *port;
        let same = own.released.iter().take(BURST_MAX).take_while(|(.., p)| *p == port).count();
        for (packet, headers, _) in own.released.drain(..same) {
            burst.push(packet, &headers, FlowRef::NONE);
        }
        Some(port)
    }

    /// Lets go what waited too long.
    pub(super) fn expire_fragments(&mut self, plan: &Plan, now: Time) {
        let Some(own) = self.fragments.as_mut() else { return };
        let dropped = &mut own.dropped;
        own.table.expire(now.0, &mut |(packet, ..), why| dropped.push((packet, why)));
        self.drop_fragments(plan);
    }

    /// Lets go all that waits, when the run ends.
    pub(super) fn end_fragments(&mut self, plan: &Plan) {
        let Some(own) = self.fragments.as_mut() else { return };
        let dropped = &mut own.dropped;
        own.table.drain(&mut |(packet, ..), why| dropped.push((packet, why)));
        self.drop_fragments(plan);
        Packet::free_all(&mut self.dead);
    }

    fn drop_fragments(&mut self, plan: &Plan) {
        while let Some((packet, why)) = self.fragments.as_mut().and_then(|own| own.dropped.pop()) {
            self.drop(packet, plan.cells.unkept.plus(FlowRefusal::Fragment(why).index()));
        }
    }
}

impl Reassembly {
    /// One fragment: it goes on, with ports; or waits; or goes no further.
    fn follow(
        &mut self,
        (packet, mut headers, port): Waiting,
        key: &FragmentKey,
        extent: Extent,
        now: Time,
    ) -> Result<Option<Waiting>, (Packet, Refused)> {
        let Self { table, released, dropped } = self;
        if headers.fragment == Fragment::First {
            let upper = Upper::of(&headers);
            // Where what was cut begins, which in IPv6 may be more headers.
            let begin = u32::from(headers.l3_end).saturating_sub(extent.length);
            let least = match (header_minimum(headers.protocol), u32::from(headers.l4)) {
                (0, _) => 0,
                // The parse found no header there.
                (_, 0) => u32::MAX,
                (header, l4) => (l4 + header).saturating_sub(begin),
            };
            let out = &mut |(packet, mut headers, port): Waiting, result| match result {
                Ok(upper) => {
                    Upper::put(upper, &mut headers);
                    released.push((packet, headers, port));
                }
                Err(why) => dropped.push((packet, why)),
            };
            return match table.first(key, extent, least, upper, now.0, out) {
                Ok(()) => Ok(Some((packet, headers, port))),
                Err(why) => Err((packet, why)),
            };
        }
        let bytes = packet.len();
        let out = &mut |(packet, ..): Waiting, why| dropped.push((packet, why));
        match table.later(key, extent, (packet, headers, port), bytes, now.0, out) {
            Later::Follows((packet, ..), upper) => {
                upper.put(&mut headers);
                Ok(Some((packet, headers, port)))
            }
            Later::Held => Ok(None),
            Later::Refused((packet, ..), why) => Err((packet, why)),
        }
    }
}

fn key_of(h: &Headers, id: u32, port: PortIndex) -> FragmentKey {
    FragmentKey {
        src: h.src.0,
        dst: h.dst.0,
        id,
        vlan: h.vlan,
        place: port.index() as u16,
        protocol: h.protocol,
        family: if h.kind == L3::Ipv6 { Family::Ipv6 } else { Family::Ipv4 },
    }
}
