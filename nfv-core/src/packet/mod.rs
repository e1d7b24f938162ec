//! Bytes on the wire: the one parse of each packet, checksums, and the errors that senders are told.
pub mod checksum;
mod flow_hash;
mod icmp_error;
mod parse;
pub mod syn_cookie;
pub mod tcp_build;
mod tcp_reset;
pub mod tunnel;

pub use flow_hash::{end_word, flow_hash, is_symmetric_key, packet_hash, word_hash};
pub use icmp_error::{ICMP_ERROR_MAX, IcmpError, icmp_error};
pub use parse::{
    AddressBytes, Fragment, Headers, L3, MALFORMED, Malformed, NO_VLAN, TcpFlags, is_icmp_error,
    is_icmp_query, parse, parse_into, protocol,
};
pub use tcp_reset::{TCP_RESET_MAX, tcp_reset, tcp_reset_onward};
