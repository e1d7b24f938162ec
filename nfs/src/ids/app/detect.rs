//! The guess of a TCP flow's protocol by its first bytes, as Suricata's patterns and probes do.
//!
//! A pattern is looked for at the start of a direction. While the bytes so far are the start of one, more are waited for: at
//! most 32 bytes a direction are kept, and given to the parser once it is known.

use super::event::Event;
use super::{Pickup, Ports, Protocol, Side, dns};

/// What the bytes so far tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Too few yet.
    Open,
    /// This protocol; `is_swapped` when the directions are the other way round.
    Known {
        /// What it speaks.
        protocol: Protocol,
        /// The client's bytes came in the server's direction.
        is_swapped: bool,
    },
    /// None that is known.
    Hopeless,
}

/// The first bytes of both directions.
#[derive(Debug)]
pub struct Guesser {
    ports: Ports,
    pickup: Pickup,
    sides: [First; 2],
    first: Option<Side>,
}

/// The first bytes of a direction.
#[derive(Clone, Copy, Debug, Default)]
struct First {
    bytes: [u8; FIRSTS],
    len: usize,
    /// Bytes that came behind those and were not kept.
    lost: u64,
    is_hopeless: bool,
}

/// What one direction's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Partial,
    Is(Protocol),
    Nothing,
}

impl Guesser {
    /// Of a flow with these ports.
    pub fn new(ports: Ports, pickup: Pickup) -> Self {
        Self { ports, pickup, sides: [First::default(); 2], first: None }
    }

    /// Takes bytes of a direction: how many of them were kept, and what they tell.
    pub fn add(&mut self, direction: Side, bytes: &[u8]) -> (usize, Guess) {
        if bytes.is_empty() {
            return (0, Guess::Open);
        }
        self.first.get_or_insert(direction);
        let ports = self.ports;
        let side = &mut self.sides[direction.index()];
        if side.is_hopeless {
            side.lost += bytes.len() as u64;
            return (bytes.len(), Guess::Open);
        }
        let taken = bytes.len().min(FIRSTS - side.len);
        for (to, from) in side.bytes.iter_mut().skip(side.len).zip(bytes) {
            *to = *from;
        }
        side.len += taken;
        let seen = side.seen();
        let mut sight = look(seen, direction, ports);
        let mut is_swapped = false;
        if self.pickup == Pickup::Midstream && !matches!(sight, Sight::Is(_)) {
            let turned = Ports { client: ports.server, server: ports.client };
            let other = look(seen, direction.opposite(), turned);
            is_swapped = matches!(other, Sight::Is(_));
            if sight == Sight::Nothing || is_swapped {
                sight = other;
            }
        }
        match sight {
            Sight::Is(protocol) => (taken, Guess::Known { protocol, is_swapped }),
            Sight::Partial if side.len < FIRSTS => (taken, Guess::Open),
            Sight::Partial | Sight::Nothing => {
                side.is_hopeless = true;
                side.lost = (bytes.len() - taken) as u64;
                let guess = if self.is_hopeless() { Guess::Hopeless } else { Guess::Open };
                (bytes.len(), guess)
            }
        }
    }

    /// Nothing more is learnt from a direction: it ended, or bytes are missing.
    pub fn give_up(&mut self, direction: Side) {
        self.sides[direction.index()].is_hopeless = true;
    }

    /// Whether both directions are of no protocol that is known.
    pub fn is_hopeless(&self) -> bool {
        self.sides.iter().all(|side| side.is_hopeless)
    }

    /// What was kept of the directions, to the server and to the client, and how many bytes behind it were not.
    pub fn firsts(&self, is_swapped: bool) -> [(Vec<u8>, u64); 2] {
        let of = |side: &First| (side.seen().to_vec(), side.lost);
        let [to_server, to_client] = &self.sides;
        let [to_server, to_client] = [of(to_server), of(to_client)];
        if is_swapped { [to_client, to_server] } else { [to_server, to_client] }
    }

    /// What to remark, now that `known` told the protocol: the other direction did not, or the server spoke first.
    pub fn disagreement(&self, known: Side, protocol: Protocol) -> Option<Event> {
        if !matches!(protocol, Protocol::Http | Protocol::Tls | Protocol::Dns | Protocol::Ssh) {
            return None;
        }
        let other = &self.sides[known.opposite().index()];
        if other.is_hopeless && other.len > 0 {
            return Some(ONE_DIRECTION);
        }
        let is_asked_first = matches!(protocol, Protocol::Http | Protocol::Tls | Protocol::Dns);
        let server_first = self.pickup == Pickup::Start && self.first == Some(Side::ToClient);
        (is_asked_first && server_first).then_some(WRONG_DIRECTION)
    }
}

impl First {
    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What the first bytes of a direction are.
fn look(seen: &[u8], direction: Side, ports: Ports) -> Sight {
    let mut best = Sight::Nothing;
    for sight in
        [words(seen, direction), tls(seen, direction), smb(seen), dns_probe(seen, direction, ports)]
    {
        match sight {
            Sight::Is(_) => return sight,
            Sight::Partial => best = Sight::Partial,
            Sight::Nothing => {}
        }
    }
    best
}

/// Protocols of text: a word at the start.
fn words(seen: &[u8], direction: Side) -> Sight {
    let words = match direction {
        Side::ToServer => TO_SERVER,
        Side::ToClient => TO_CLIENT,
    };
    let mut best = Sight::Nothing;
    for (word, protocol) in words {
        let len = word.len().min(seen.len());
        if word.as_bytes().get(..len) == seen.get(..len) {
            if len == word.len() {
                return Sight::Is(*protocol);
            }
            best = Sight::Partial;
        }
    }
    match (direction, http_method(seen)) {
        (Side::ToServer, Sight::Nothing) | (Side::ToClient, _) => best,
        (Side::ToServer, sight) => sight,
    }
}

/// A method that is known and a blank.
fn http_method(seen: &[u8]) -> Sight {
    let end = seen.iter().position(|b| matches!(b, b' ' | b'\t'));
    let word = seen.get(..end.unwrap_or(seen.len())).unwrap_or_default();
    let fits = |method: &&[u8]| method.starts_with(word);
    if end.is_some() && super::http::METHODS.contains(&word) {
        Sight::Is(Protocol::Http)
    } else if end.is_none() && super::http::METHODS.iter().any(fits) {
        Sight::Partial
    } else {
        Sight::Nothing
    }
}

/// A handshake's record of a version that exists, an alert, or a hello of SSLv2.
fn tls(seen: &[u8], direction: Side) -> Sight {
    let at = |place: usize| seen.get(place).copied();
    match (at(0), at(1), at(2)) {
        (Some(0x16), None, _) | (Some(0x16), Some(3), None) => Sight::Partial,
        (Some(0x16), Some(3), Some(0..=4)) => Sight::Is(Protocol::Tls),
        (Some(0x15), Some(3), Some(0..=4)) if direction == Side::ToClient => {
            Sight::Is(Protocol::Tls)
        }
        (Some(0x15), None, _) | (Some(0x15), Some(3), None) if direction == Side::ToClient => {
            Sight::Partial
        }
        (Some(first), second, third) if first & 0x80 != 0 && direction == Side::ToServer => {
            match (second, third, at(3), at(4)) {
                (Some(_), Some(1), Some(0), Some(2)) | (Some(_), Some(1), Some(3), Some(0..=4)) => {
                    Sight::Is(Protocol::Tls)
                }
                (None, ..) | (_, None, ..) => Sight::Partial,
                (_, Some(1), None, _) | (_, Some(1), Some(0 | 3), None) => Sight::Partial,
                _ => Sight::Nothing,
            }
        }
        _ => Sight::Nothing,
    }
}

/// The mark behind the four bytes of NetBIOS.
fn smb(seen: &[u8]) -> Sight {
    let mark = seen.get(4..).unwrap_or_default();
    let starts = seen.first() == Some(&0);
    match mark {
        [0xfd..=0xff, b'S', b'M', b'B', ..] if starts => Sight::Is(Protocol::Smb),
        [] | [0xfd..=0xff] | [0xfd..=0xff, b'S'] | [0xfd..=0xff, b'S', b'M'] if starts => {
            Sight::Partial
        }
        _ => Sight::Nothing,
    }
}

/// A length and a header of DNS that make sense, on its port.
fn dns_probe(seen: &[u8], direction: Side, ports: Ports) -> Sight {
    if ports.server != dns::PORT {
        return Sight::Nothing;
    }
    let Some((_, header)) = seen.split_at_checked(2) else { return Sight::Partial };
    if header.len() < dns::HEADER_LEN {
        return Sight::Partial;
    }
    if dns::looks_like(header, direction) { Sight::Is(Protocol::Dns) } else { Sight::Nothing }
}

/// Bytes of a direction that are kept: the longest pattern, the preface of HTTP/2, and some.
const FIRSTS: usize = 32;

const TO_SERVER: &[(&str, Protocol)] = &[
    ("PRI * HTTP/2.0", Protocol::Http2),
    ("SSH-", Protocol::Ssh),
    ("EHLO ", Protocol::Smtp),
    ("HELO ", Protocol::Smtp),
    ("ehlo ", Protocol::Smtp),
    ("helo ", Protocol::Smtp),
    ("USER ", Protocol::Ftp),
    ("AUTH TLS", Protocol::Ftp),
    ("AUTH SSL", Protocol::Ftp),
];

const TO_CLIENT: &[(&str, Protocol)] = &[
    ("HTTP/0.9", Protocol::Http),
    ("HTTP/1.0", Protocol::Http),
    ("HTTP/1.1", Protocol::Http),
    ("SSH-", Protocol::Ssh),
];

const ONE_DIRECTION: Event = Event::detection("APPLAYER_DETECT_PROTOCOL_ONLY_ONE_DIRECTION");
const WRONG_DIRECTION: Event = Event::detection("APPLAYER_WRONG_DIRECTION_FIRST_DATA");

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(ports: Ports, pickup: Pickup, direction: Side, bytes: &[u8]) -> Guess {
        Guesser::new(ports, pickup).add(direction, bytes).1
    }

    const WEB: Ports = Ports { client: 40000, server: 80 };

    #[test]
    fn first_bytes_tell_the_protocol_whatever_the_port() {
        let of = |bytes: &[u8]| guess(WEB, Pickup::Start, Side::ToServer, bytes);
        let known = |protocol| Guess::Known { protocol, is_swapped: false };
        assert_eq!(of(b"GET / HTTP/1.1\r\n"), known(Protocol::Http));
        assert_eq!(of(b"BASELINE-CONTROL /"), known(Protocol::Http));
        assert_eq!(of(b"SSH-2.0-OpenSSH_7.4\r\n"), known(Protocol::Ssh));
        assert_eq!(of(&[0x16, 3, 1, 0, 5]), known(Protocol::Tls));
        assert_eq!(of(&[0x80, 0x2e, 1, 0, 2]), known(Protocol::Tls));
        assert_eq!(of(b"PRI * HTTP/2.0\r\n"), known(Protocol::Http2));
        assert_eq!(of(b"\0\0\0\x85\xffSMBr"), known(Protocol::Smb));
    }

    #[test]
    fn bytes_of_a_word_cut_anywhere_wait_for_the_rest() {
        let word = b"OPTIONS * HTTP/1.1";
        for cut in 1..8 {
            let mut guesser = Guesser::new(WEB, Pickup::Start);
            assert_eq!(guesser.add(Side::ToServer, &word[..cut]).1, Guess::Open, "{cut}");
            let (_, guess) = guesser.add(Side::ToServer, &word[cut..]);
            assert!(matches!(guess, Guess::Known { protocol: Protocol::Http, .. }), "{cut}");
        }
    }

    #[test]
    fn a_flow_fails_when_neither_direction_tells() {
        let mut guesser = Guesser::new(WEB, Pickup::Start);
        assert_eq!(guesser.add(Side::ToServer, b"hello").1, Guess::Open);
        assert_eq!(guesser.add(Side::ToClient, b"world").1, Guess::Hopeless);
    }

    #[test]
    fn a_request_in_the_servers_direction_turns_a_flow_met_in_its_middle() {
        let of = |pickup| guess(WEB, pickup, Side::ToClient, b"GET / HTTP/1.1\r\n");
        let turned = Guess::Known { protocol: Protocol::Http, is_swapped: true };
        assert_eq!(of(Pickup::Midstream), turned);
        assert_eq!(of(Pickup::Start), Guess::Open);
    }

    #[test]
    fn dns_is_looked_for_on_its_port_only() {
        let query = b"\x00\x1d\x10\x32\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06google";
        let of = |server| {
            let ports = Ports { client: 40000, server };
            guess(ports, Pickup::Start, Side::ToServer, query)
        };
        assert_eq!(of(53), Guess::Known { protocol: Protocol::Dns, is_swapped: false });
        assert_eq!(of(54), Guess::Open);
    }
}
