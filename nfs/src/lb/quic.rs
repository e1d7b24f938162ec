//! QUIC's connection IDs, as far as a load balancer reads them: so that a client keeps its server when its address changes.
//!
//! ```text
//! long header   1xxxxxxx  version (4)  length (1)  destination connection ID (0 to 20)  ...   RFC 8999, section 5.1
//! short header  0xxxxxxx  destination connection ID, as long as the server chose it     ...   RFC 8999, section 5.2
//!
//! routable ID   rrrxxxxx  server ID (1 to 15)  nonce (4 or more)      QUIC-LB, sections 3 and 5.2; r: config rotation
//! ```
//!
//! Only what is the same in all versions (RFC 8999) is read, and nothing is judged that only a server can: QUIC's fixed bit
//! may be 0 (RFC 9287), and types differ between versions. Rejected: to decide by the packet's type whether an ID is the
//! client's choice. An ID is routable by its rotation bits and by a server that has the ID it names (draft, section 4.1); the
//! caller looks that up, and takes the flow's hash for all others.
//!
//! Google's QUIC up to Q046, which came before RFC 8999, has other headers; what is read of it is right in length only.
//!
//! Sources: RFC 8999; RFC 9000, section 17; draft-ietf-quic-load-balancers-21, without a key ("plaintext").

/// The first QUIC packet of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quic<'p> {
    /// With a long header: it says how long its ID is.
    Long {
        /// Of QUIC; 0 in version negotiation, which only servers send.
        version: u32,
        /// Destination connection ID, at most [`CID_MAX`] bytes; the client's choice in a connection's first packets.
        dcid: &'p [u8],
    },
    /// With a short header: only who chose the ID knows how long it is.
    Short {
        /// All behind the first byte; it starts with the destination connection ID.
        rest: &'p [u8],
    },
}

impl<'p> Quic<'p> {
    /// Reads a UDP datagram's payload. `None`: too short for what it says, or an ID longer than [`CID_MAX`].
    ///
    /// That it is QUIC, the port says: most payloads can be read as a short header. A longer ID, which RFC 8999 leaves to
    /// versions to come, is not read either, so that its packets go by their flow's hash.
    ///
    /// # Cost
    ///
    /// The payload's first cache line, a few compares; O(1).
    #[inline]
    pub fn read(payload: &'p [u8]) -> Option<Self> {
        let (first, rest) = payload.split_first()?;
        if first & LONG == 0 {
            return Some(Self::Short { rest });
        }
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first()?;
        let dcid = rest.get(..usize::from(*length)).filter(|dcid| dcid.len() <= CID_MAX)?;
        Some(Self::Long { version: u32::from_be_bytes(*version), dcid })
    }

    /// The destination connection ID; `short_length`: of IDs in short headers, as servers choose them. `None`: a
    /// short header's packet ends before.
    #[inline]
    pub fn dcid(&self, short_length: u8) -> Option<&'p [u8]> {
        match *self {
            Self::Long { dcid, .. } => Some(dcid),
            Self::Short { rest } => rest.get(..usize::from(short_length)),
        }
    }
}

/// How servers of one configuration write their IDs without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaintextConfig {
    /// The upper three bits of the first byte, 0 to 6; with 7 servers mark IDs that name nobody.
    pub rotation: u8,
    /// Of the server ID in bytes, 1 to 8. (The draft allows 15; nobody has more than 2^64 servers.)
    pub length: u8,
}

/// The server ID in a connection ID, its bytes read as a big-endian number; `None`: it is of another configuration, names
/// nobody, or is too short. `None` for all when the configuration itself is out of range.
///
/// The nonce behind it is not asked for: the draft wants four bytes of servers, but without a key they say nothing to us.
///
/// # Cost
///
/// At most eight bytes of the ID; O(1).
///
/// # Source
///
/// draft-ietf-quic-load-balancers-21, sections 3.1 and 5.4.
#[inline]
pub fn server_id(cid: &[u8], config: &PlaintextConfig) -> Option<u64> {
    let (first, rest) = cid.split_first()?;
    let rotation = first >> ROTATION_SHIFT;
    if rotation != config.rotation || rotation == UNROUTABLE || cid.len() > CID_MAX {
        return None;
    }
    if !(1..=SERVER_ID_MAX).contains(&config.length) {
        return None;
    }
    let id = rest.get(..usize::from(config.length))?;
    Some(id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))
}

/// The longest connection ID of QUIC versions 1 and 2 (RFC 9000, section 17.2).
pub const CID_MAX: usize = 20;

/// The header form, in the first byte.
const LONG: u8 = 0x80;

/// What is below the rotation bits: the ID's length, or random.
const ROTATION_SHIFT: u32 = 5;

/// The rotation of IDs that servers without a configuration give.
const UNROUTABLE: u8 = 7;

/// Bytes of a server ID that a `u64` holds.
const SERVER_ID_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9001, appendix A.2: a client's Initial packet, protected; its first 24 bytes.
    const CLIENT_INITIAL: [u8; 24] = [
        0xc0, 0x00, 0x00, 0x00, 0x01, 0x08, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0x00,
        0x00, 0x44, 0x9e, 0x7b, 0x9a, 0xec, 0x34, 0xd1, 0xb1,
    ];

    /// RFC 9001, appendix A.3: the server's answer; its first 20 bytes.
    const SERVER_INITIAL: [u8; 20] = [
        0xcf, 0x00, 0x00, 0x00, 0x01, 0x00, 0x08, 0xf0, 0x67, 0xa5, 0x50, 0x2a, 0x42, 0x62, 0xb5,
        0x00, 0x40, 0x75, 0xc0, 0xd9,
    ];

    /// RFC 9001, appendix A.4: a Retry packet, whole.
    const RETRY: [u8; 36] = [
        0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x08, 0xf0, 0x67, 0xa5, 0x50, 0x2a, 0x42, 0x62, 0xb5,
        0x74, 0x6f, 0x6b, 0x65, 0x6e, 0x04, 0xa2, 0x65, 0xba, 0x2e, 0xff, 0x4d, 0x82, 0x90, 0x58,
        0xfb, 0x3f, 0x0f, 0x24, 0x96, 0xba,
    ];

    /// RFC 9001, appendix A.5: a short header without connection ID, whole.
    const SHORT: [u8; 21] = [
        0x4c, 0xfe, 0x41, 0x89, 0x65, 0x5e, 0x5c, 0xd5, 0x5c, 0x41, 0xf6, 0x90, 0x80, 0x57, 0x5d,
        0x79, 0x99, 0xc2, 0x5a, 0x5b, 0xfb,
    ];

    /// The client's choice in RFC 9001's appendix.
    const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// The draft's appendix on test vectors, unencrypted: rotation 0, server ID c4605e, nonce 4504cc4f.
    const ROUTABLE: [u8; 8] = [0x07, 0xc4, 0x60, 0x5e, 0x45, 0x04, 0xcc, 0x4f];

    fn long(version: u32, dcid: &[u8]) -> Vec<u8> {
        let length = u8::try_from(dcid.len()).unwrap();
        [&[0xc0][..], &version.to_be_bytes(), &[length], dcid].concat()
    }

    #[test]
    fn a_clients_first_packet_says_its_connection_id() {
        let read = Quic::read(&CLIENT_INITIAL).unwrap();
        assert_eq!(read, Quic::Long { version: 1, dcid: &DCID });
        assert_eq!(read.dcid(3), Some(&DCID[..]), "a long header's own length counts");
    }

    #[test]
    fn a_connection_id_may_be_empty() {
        for packet in [&SERVER_INITIAL[..], &RETRY] {
            assert_eq!(Quic::read(packet), Some(Quic::Long { version: 1, dcid: &[] }));
        }
    }

    #[test]
    fn a_short_headers_id_is_as_long_as_configured() {
        let read = Quic::read(&SHORT).unwrap();
        assert_eq!(read, Quic::Short { rest: &SHORT[1..] });
        assert_eq!(read.dcid(0), Some(&[][..]));
        assert_eq!(read.dcid(8), Some(&SHORT[1..9]));
        assert_eq!(read.dcid(20), Some(&SHORT[1..21]));
        assert_eq!(read.dcid(21), None);
    }

    #[test]
    fn a_long_header_cut_within_its_id_is_not_read() {
        for end in 0..14 {
            assert_eq!(Quic::read(&CLIENT_INITIAL[..end]), None, "{end} bytes");
        }
        assert!(Quic::read(&CLIENT_INITIAL[..14]).is_some());
    }

    #[test]
    fn an_id_of_twenty_bytes_is_read_and_a_longer_one_is_not() {
        assert!(Quic::read(&long(1, &[7; 20])).is_some());
        assert_eq!(Quic::read(&long(1, &[7; 21])), None);
        assert_eq!(Quic::read(&long(0xabcd_ef01, &[7; 255])), None);
    }

    #[test]
    fn the_fixed_bit_and_the_version_do_not_matter() {
        let mut packet = long(0x6b33_43cf, &DCID);
        packet[0] = 0x80;
        assert_eq!(Quic::read(&packet), Some(Quic::Long { version: 0x6b33_43cf, dcid: &DCID }));
        assert_eq!(Quic::read(&[0x00]), Some(Quic::Short { rest: &[] }));
    }

    #[test]
    fn the_drafts_example_names_its_server() {
        let config = PlaintextConfig { rotation: 0, length: 3 };
        assert_eq!(server_id(&ROUTABLE, &config), Some(0xc4_605e));
        assert_eq!(server_id(&ROUTABLE, &PlaintextConfig { length: 1, ..config }), Some(0xc4));
    }

    #[test]
    fn an_id_of_another_configuration_names_nobody() {
        let config = PlaintextConfig { rotation: 1, length: 3 };
        assert_eq!(server_id(&ROUTABLE, &config), None);
        assert_eq!(server_id(&DCID, &PlaintextConfig { rotation: 4, ..config }), Some(0x94_c8f0));
    }

    #[test]
    fn rotation_seven_names_nobody_even_when_configured() {
        assert_eq!(server_id(&[0xff; 20], &PlaintextConfig { rotation: 7, length: 3 }), None);
    }

    #[test]
    fn an_id_too_short_for_its_server_names_nobody() {
        let config = PlaintextConfig { rotation: 0, length: 8 };
        assert_eq!(server_id(&ROUTABLE, &config), None);
        assert_eq!(server_id(&[0, 0, 0, 0, 0, 0, 0, 1, 2], &config), Some(0x102));
        assert_eq!(server_id(&[], &config), None);
    }

    #[test]
    fn a_configuration_out_of_range_names_nobody() {
        for length in [0, 9, 15, 255] {
            assert_eq!(server_id(&[0; 20], &PlaintextConfig { rotation: 0, length }), None);
        }
        assert_eq!(server_id(&[0; 20], &PlaintextConfig { rotation: 8, length: 1 }), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_their_bounds(
            payload in prop::collection::vec(any::<u8>(), 0..64), short in any::<u8>(),
            rotation in any::<u8>(), length in any::<u8>(),
        ) {
            let Some(read) = Quic::read(&payload) else { return Ok(()) };
            let Some(dcid) = read.dcid(short) else { return Ok(()) };
            let skipped = if matches!(read, Quic::Long { .. }) { 6 } else { 1 };
            prop_assert_eq!(dcid, &payload[skipped..skipped + dcid.len()]);
            let id = server_id(dcid, &PlaintextConfig { rotation, length });
            prop_assert!(id.is_none() || usize::from(length) < dcid.len());
        }

        #[test]
        fn a_long_header_is_read_as_it_was_written(
            version in any::<u32>(), dcid in prop::collection::vec(any::<u8>(), 0..=CID_MAX),
            rest in prop::collection::vec(any::<u8>(), 0..32),
        ) {
            let packet = [long(version, &dcid), rest].concat();
            prop_assert_eq!(Quic::read(&packet), Some(Quic::Long { version, dcid: &dcid }));
        }

        #[test]
        fn a_server_id_is_read_as_its_server_wrote_it(
            rotation in 0..7u8, low in 0..32u8, length in 1..=8u8, id in any::<u64>(),
            nonce in prop::collection::vec(any::<u8>(), 4..=11),
        ) {
            let id = id >> (64 - 8 * u32::from(length));
            let bytes = id.to_be_bytes();
            let cid = [&[rotation << 5 | low], &bytes[8 - usize::from(length)..], &nonce].concat();
            prop_assert_eq!(server_id(&cid, &PlaintextConfig { rotation, length }), Some(id));
        }
    }
}
