//! Datagrams in fragments, with lies among them.

use crate::ids::stream::OverlapPolicy;

/// In how many bytes a datagram is cut, and what else is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// Not at all.
    Whole,
    /// Of so many bytes, a multiple of eight, in order.
    Cut(usize),
    /// The last one first.
    Backwards(usize),
    /// Each is there twice, the even ones first.
    Twice(usize),
    /// With others over them that a receiver of this policy throws away.
    Lies(OverlapPolicy, Shape),
    /// The same, but the receiver keeps the lies.
    Truths(OverlapPolicy, Shape),
}

/// How a lie lies to a true fragment of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Where it is.
    Same,
    /// Inside of it, behind its start.
    Inside,
}

impl Shape {
    pub const ALL: [Self; 2] = [Self::Same, Self::Inside];
}

/// A frame's fragments; `id` is the datagram's number.
pub fn cut(frame: &[u8], how: Fragments, id: u32) -> Vec<Vec<u8>> {
    let whole = Datagram::of(frame, id);
    let (size, is_last_kept) = match how {
        Fragments::Whole => return vec![frame.to_vec()],
        Fragments::Cut(size) | Fragments::Backwards(size) | Fragments::Twice(size) => (size, None),
        Fragments::Lies(policy, shape) => (32, Some((keeps_last(policy, shape), shape))),
        Fragments::Truths(policy, shape) => (32, Some((!keeps_last(policy, shape), shape))),
    };
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for start in (0..whole.data.len()).step_by(size) {
        let end = (start + size).min(whole.data.len());
        let part = whole.part(start, &whole.data[start..end]);
        // With the last one the datagram is whole, and nothing that comes later is looked at.
        let is_inside = end - start == size && end < whole.data.len();
        let Some((last_wins, shape)) = is_last_kept.filter(|_| is_inside) else {
            parts.push(part);
            continue;
        };
        let (from, to) = if shape == Shape::Same { (start, end) } else { (start + 8, end) };
        let lie = whole.part(from, &vec![b'#'; to - from]);
        parts.extend(if last_wins { [lie, part] } else { [part, lie] });
    }
    match how {
        Fragments::Backwards(_) => parts.reverse(),
        Fragments::Twice(_) => {
            let even = parts.iter().step_by(2).cloned();
            parts = even.chain(parts.iter().cloned()).collect();
        }
        _ => {}
    }
    parts
}

/// Whether a receiver keeps the later one of two fragments (Novak, 2005): only Linux does of those that begin together.
fn keeps_last(policy: OverlapPolicy, shape: Shape) -> bool {
    use OverlapPolicy::{Last, Linux, OldLinux};
    match shape {
        Shape::Same => matches!(policy, Last | Linux | OldLinux),
        Shape::Inside => policy == Last,
    }
}

/// A datagram that is not cut yet.
struct Datagram<'f> {
    /// Link and IP.
    header: &'f [u8],
    data: &'f [u8],
    id: u32,
}

impl<'f> Datagram<'f> {
    fn of(frame: &'f [u8], id: u32) -> Self {
        let (header, data) = frame.split_at(if frame[12] == 8 { 34 } else { 54 });
        Self { header, data, id }
    }

    /// The fragment that begins at `start`; it is the last one if it reaches the end.
    fn part(&self, start: usize, bytes: &[u8]) -> Vec<u8> {
        let more = u16::from(start + bytes.len() < self.data.len());
        let mut part = self.header.to_vec();
        if part[12] == 8 {
            part[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            part[18..20].copy_from_slice(&(self.id as u16).to_be_bytes());
            part[20..22].copy_from_slice(&(more << 13 | (start / 8) as u16).to_be_bytes());
            part[24..26].fill(0);
            let sum = nfv_core::packet::checksum::Sum::of(&part[14..34]).checksum();
            part[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            part[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut part[20], 44);
            part.extend_from_slice(&[next, 0]);
            part.extend_from_slice(&(start as u16 | more).to_be_bytes());
            part.extend_from_slice(&self.id.to_be_bytes());
        }
        part.extend_from_slice(bytes);
        part
    }
}
