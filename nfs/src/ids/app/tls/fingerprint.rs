//! Fingerprints of hellos: JA3 and JA3S (Salesforce, 2017), JA4 (FoxIO, 2023).

use std::fmt::Write;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::hello::{ClientHello, ServerHello, extension};
use crate::ids::app::text::hex;

/// A string of numbers and its MD5.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ja3 {
    pub string: Vec<u8>,
    pub hash: Vec<u8>,
}

impl Ja3 {
    /// Of a client. Versions, ciphers, extensions, groups, point formats; what is there to grease is left out.
    pub fn of_client(hello: &ClientHello<'_>) -> Option<Self> {
        let mut string = format!("{},", hello.version);
        write_list(&mut string, hello.ciphers.iter().copied());
        string.push(',');
        write_list(&mut string, hello.extensions.iter().copied());
        string.push(',');
        write_list(&mut string, hello.groups.iter().copied());
        string.push(',');
        write_list(&mut string, hello.point_formats.iter().map(|format| u16::from(*format)));
        Self::of(string)
    }

    /// Of a server. Version, cipher, extensions.
    pub fn of_server(hello: &ServerHello<'_>) -> Option<Self> {
        let mut string = format!("{},{},", hello.version, hello.cipher);
        write_list(&mut string, hello.extensions.iter().copied());
        Self::of(string)
    }

    fn of(string: String) -> Option<Self> {
        let string = string.into_bytes();
        let hash = hex(&Md5::digest(&string));
        (string.len() <= LONGEST).then_some(Self { string, hash })
    }
}

/// JA4 of a client over TCP.
pub(super) fn ja4(hello: &ClientHello<'_>) -> Vec<u8> {
    let real = |list: &[u16]| list.iter().copied().filter(|n| !is_grease(*n)).collect::<Vec<_>>();
    let mut ciphers = real(&hello.ciphers);
    let mut extensions = real(&hello.extensions);
    let version = real(&hello.versions).into_iter().max().unwrap_or(hello.version);
    let version = match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    };
    let name = if extensions.contains(&extension::SERVER_NAME) { 'd' } else { 'i' };
    let (count_c, count_e) = (ciphers.len().min(99), extensions.len().min(99));
    let mut out = format!("t{version}{name}{count_c:02}{count_e:02}{}_", first_and_last(hello));
    ciphers.sort_unstable();
    out.push_str(&short_hash(&hex_list(&ciphers)));
    extensions.retain(|kind| !matches!(*kind, extension::SERVER_NAME | extension::PROTOCOLS));
    extensions.sort_unstable();
    let mut list = hex_list(&extensions);
    let signatures = real(&hello.signatures);
    if !signatures.is_empty() {
        list.push('_');
        list.push_str(&hex_list(&signatures));
    }
    out.push('_');
    out.push_str(&short_hash(&list));
    out.into_bytes()
}

/// First and last character of the first protocol offered; of its hexadecimal form, if they are none.
fn first_and_last(hello: &ClientHello<'_>) -> String {
    let first_protocol = hello.protocols.first().copied().unwrap_or_default();
    let (Some(first), Some(last)) = (first_protocol.first(), first_protocol.last()) else {
        return "00".into();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    let digits = hex(first_protocol);
    let ends = [digits.first(), digits.last()];
    ends.iter().map(|digit| char::from(digit.copied().unwrap_or(b'0'))).collect()
}

fn short_hash(list: &str) -> String {
    if list.is_empty() {
        return "0".repeat(SHORT);
    }
    hex(&Sha256::digest(list)).iter().take(SHORT).map(|b| char::from(*b)).collect()
}

fn hex_list(list: &[u16]) -> String {
    let mut out = String::new();
    for (at, number) in list.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // Writing to a String does not fail.
        let _ = write!(out, "{comma}{number:04x}");
    }
    out
}

fn write_list(out: &mut String, list: impl Iterator<Item = u16>) {
    for (at, number) in list.filter(|number| !is_grease(*number)).enumerate() {
        let dash = if at > 0 { "-" } else { "" };
        // Writing to a String does not fail.
        let _ = write!(out, "{dash}{number}");
    }
}

/// Values that clients send to keep servers tolerant (RFC 8701).
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// Of a JA3 string; longer ones are made to be long.
const LONGEST: usize = 8 << 10;

/// Digits of JA4's hashes.
const SHORT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of JA4's specification.
    #[test]
    fn the_example_of_ja4_has_its_fingerprint() {
        let hello = ClientHello {
            version: 0x0303,
            versions: vec![0x6a6a, 0x0304, 0x0303],
            ciphers: vec![
                0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x2a2a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005,
                0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            protocols: vec![b"h2", b"http/1.1"],
            ..ClientHello::default()
        };
        let fingerprint = String::from_utf8(ja4(&hello)).unwrap();
        assert_eq!(fingerprint, "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn ja3_leaves_grease_out() {
        let hello = ClientHello {
            version: 769,
            ciphers: vec![47, 53, 0x1a1a, 5],
            extensions: vec![0, 10],
            groups: vec![23, 0x2a2a],
            point_formats: &[0],
            ..ClientHello::default()
        };
        let ja3 = Ja3::of_client(&hello).unwrap();
        assert_eq!(ja3.string, b"769,47-53-5,0-10,23,0");
    }

    #[test]
    fn a_protocol_that_is_no_text_is_told_by_its_digits() {
        let of = |protocol| {
            first_and_last(&ClientHello { protocols: vec![protocol], ..Default::default() })
        };
        assert_eq!(of(b"http/1.1"), "h1");
        assert_eq!(of(&[0xab, 0xcd]), "ad");
    }
}
