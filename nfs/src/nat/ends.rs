//! Ends of flows, and the number by which a flow keeps a mapping.

use std::net::Ipv4Addr;

use nfv_core::nf::Endpoint;
use nfv_core::packet::AddressBytes;

use super::classes::wide;

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port, or ICMP identifier.
    pub port: u16,
}

impl End {
    /// As packets have it.
    pub fn of(address: AddressBytes, port: u16) -> Self {
        Self { address: Ipv4Addr::from(address.v4()), port }
    }

    /// As the engine writes it into packets.
    pub fn endpoint(self) -> Endpoint {
        Endpoint { address: wide(self.address), port: self.port }
    }
}

/// A mapping, held by a flow: 0 is none. `[place of the address: 14][class and place: 16][protocol: 2]`; it means the same
/// after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingId(u32);

impl MappingId {
    /// As a flow keeps it.
    pub fn number(self) -> u32 {
        self.0
    }

    /// As it was kept; `None` for 0.
    pub fn of(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// Of a protocol, by the place of its address, and class and place in one.
    pub fn new(space: usize, outside: u16, at: u16) -> Self {
        Self(u32::from(outside) << 18 | u32::from(at) << 2 | (space as u32 + 1))
    }

    /// Its protocol.
    pub fn space(self) -> Option<usize> {
        (self.0 as usize & 3).checked_sub(1)
    }

    /// The place of its address.
    pub fn outside(self) -> usize {
        (self.0 >> 18) as usize
    }

    /// Class and place.
    pub fn at(self) -> u16 {
        (self.0 >> 2) as u16
    }
}
