//! Names in a message: labels, and pointers to labels before (RFC 1035, section 4.1.4).

use super::{ENDLESS_NAME, NAME_TOO_LONG};
use crate::ids::app::event::Event;

/// A name read from a message: where the bytes behind it start, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub end: usize,
    pub event: Option<Event>,
}

/// Reads the name at `start` of `message` to the end of `out`, labels joined by dots; `None` when it runs out of the message.
///
/// # Cost
/// At most [`MOST_STEPS`] labels and pointers, so a loop ends.
pub(super) fn read(message: &[u8], start: usize, out: &mut Vec<u8>) -> Option<Read> {
    let (mut at, mut end) = (start, None);
    let first = out.len();
    for _ in 0..MOST_STEPS {
        let len = *message.get(at)?;
        match len {
            0 => return Some(Read { end: end.unwrap_or(at + 1), event: None }),
            0xc0.. => {
                let low = *message.get(at + 1)?;
                end.get_or_insert(at + 2);
                at = usize::from(len & 0x3f) << 8 | usize::from(low);
            }
            0x40.. => return None,
            _ => {
                let label = message.get(at + 1..at + 1 + usize::from(len))?;
                if out.len() > first {
                    out.push(b'.');
                }
                out.extend_from_slice(label);
                at += 1 + usize::from(len);
                if out.len() - first > LONGEST {
                    out.truncate(first + LONGEST);
                    let end = end.or_else(|| skip(message, at))?;
                    return Some(Read { end, event: Some(NAME_TOO_LONG) });
                }
            }
        }
    }
    // What was read stays: it is what resolvers may have seen of it.
    let end = end.or_else(|| skip(message, at))?;
    Some(Read { end, event: Some(ENDLESS_NAME) })
}

/// The place behind the rest of a name.
fn skip(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            0x40.. => return None,
            len => at += 1 + usize::from(len),
        }
    }
}

/// Labels and pointers of a name.
const MOST_STEPS: usize = 255;

/// Of a name, as text. Longer than RFC 1035 allows, as Suricata has it.
const LONGEST: usize = 1025;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &[u8], start: usize) -> Option<(String, Read)> {
        let mut out = Vec::new();
        let read = read(message, start, &mut out)?;
        Some((String::from_utf8(out).unwrap(), read))
    }

    #[test]
    fn labels_are_joined_and_pointers_followed() {
        let message = b"\x06google\x03com\x00\x03www\xc0\x00\xff";
        let name = text(message, 12).unwrap();
        assert_eq!(name, ("www.google.com".into(), Read { end: 18, event: None }));
        assert_eq!(text(message, 0).unwrap().1.end, 12);
    }

    #[test]
    fn pointers_that_go_round_end() {
        let name = text(b"\x01a\xc0\x00", 0).unwrap();
        assert_eq!(name.1, Read { end: 4, event: Some(ENDLESS_NAME) });
        assert_eq!(text(b"\xc0\x00", 0).unwrap().1.event, Some(ENDLESS_NAME));
    }

    #[test]
    fn a_name_that_runs_out_of_the_message_is_none() {
        assert_eq!(text(b"\x05abc", 0), None);
        assert_eq!(text(b"\x01a", 0), None);
        assert_eq!(text(b"\xc0", 0), None);
        assert_eq!(text(b"\x41a", 0), None);
        assert_eq!(text(b"", 0), None);
    }

    #[test]
    fn a_name_too_long_is_cut() {
        let mut message = Vec::new();
        for _ in 0..40 {
            message.push(63);
            message.extend_from_slice(&[b'a'; 63]);
        }
        message.push(0);
        let (name, read) = text(&message, 0).unwrap();
        assert_eq!((name.len(), read.event), (LONGEST, Some(NAME_TOO_LONG)));
        assert_eq!(read.end, message.len());
    }
}
