//! Bytes on the wire: the one parse of each packet.
mod parse;

pub use parse::{
    AddressBytes, Fragment, Headers, L3, MALFORMED, Malformed, NO_VLAN, TcpFlags, parse,
    parse_into, protocol,
};
