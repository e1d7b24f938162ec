//! Packets that wait for the first fragment of their datagram, all in one room.

/// Packets that wait. Each datagram has a [`Line`] of them.
#[derive(Debug)]
pub(super) struct Pen<P> {
    slots: Vec<Slot<P>>,
    /// First empty slot.
    free: u32,
    packets: usize,
    bytes: usize,
    bytes_max: usize,
    line_max: usize,
}

/// Those of one datagram, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    first: u32,
    last: u32,
    length: usize,
}

#[derive(Debug)]
struct Slot<P> {
    packet: Option<P>,
    bytes: u32,
    /// Next one of the line, or next empty one.
    next: u32,
}

impl Line {
    /// Nobody waits.
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE, length: 0 };
}

impl<P> Pen<P> {
    /// Room for so many packets and bytes of them, and for so many of one datagram.
    pub(super) fn new(packets_max: usize, bytes_max: usize, line_max: usize) -> Self {
        let count = u32::try_from(packets_max).unwrap_or(NONE).min(SLOTS_MAX);
        let slot =
            |i| Slot { packet: None, bytes: 0, next: if i + 1 < count { i + 1 } else { NONE } };
        let slots = (0..count).map(slot).collect();
        let free = if count == 0 { NONE } else { 0 };
        Self { slots, free, packets: 0, bytes: 0, bytes_max, line_max }
    }

    /// How many wait.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// How many bytes they have.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether one more can wait in a line.
    #[inline]
    pub(super) fn has_room(&self, line: &Line, bytes: u32) -> bool {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.packets < self.slots.len()
            && self.bytes.saturating_add(bytes) <= self.bytes_max
            && line.length < self.line_max
    }

    /// Puts a packet at the end of a line; gives it back when there is no room.
    #[inline]
    pub(super) fn push(&mut self, line: &mut Line, packet: P, bytes: u32) -> Result<(), P> {
        let number = self.free;
        if !self.has_room(line, bytes) {
            return Err(packet);
        }
        let Some(slot) = self.slots.get_mut(place(number)) else { return Err(packet) };
        self.free = slot.next;
        *slot = Slot { packet: Some(packet), bytes, next: NONE };
        match self.slots.get_mut(place(line.last)) {
            Some(last) => last.next = number,
            None => line.first = number,
        }
        line.last = number;
        line.length += 1;
        self.packets += 1;
        self.bytes += place(bytes);
        Ok(())
    }

    /// Takes the packet that waits longest in a line.
    #[inline]
    pub(super) fn pop(&mut self, line: &mut Line) -> Option<P> {
        let number = line.first;
        let slot = self.slots.get_mut(place(number))?;
        let packet = slot.packet.take()?;
        line.first = slot.next;
        if line.first == NONE {
            line.last = NONE;
        }
        line.length -= 1;
        self.packets -= 1;
        self.bytes -= place(slot.bytes);
        slot.next = self.free;
        self.free = number;
        Some(packet)
    }
}

/// Of a number, its place in memory; beyond all for [`NONE`].
#[inline(always)]
pub(super) fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// No slot, no datagram.
pub(super) const NONE: u32 = u32::MAX;

/// Packets that wait at the very most.
const SLOTS_MAX: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_emptied_can_be_stood_in_again() {
        let mut pen = Pen::new(3, 30, 2);
        let [mut one, mut other] = [Line::EMPTY; 2];
        for packet in 0..10 {
            assert_eq!(pen.push(&mut one, packet, 10), Ok(()));
            assert_eq!(pen.push(&mut other, 100 + packet, 10), Ok(()));
            assert_eq!(pen.push(&mut one, 200 + packet, 10), Ok(()));
            assert_eq!(pen.push(&mut other, 7, 0), Err(7), "all are taken");
            assert_eq!((pen.packets(), pen.bytes()), (3, 30));
            assert_eq!(
                [pen.pop(&mut one), pen.pop(&mut other)],
                [Some(packet), Some(100 + packet)]
            );
            assert_eq!([pen.pop(&mut one), pen.pop(&mut one)], [Some(200 + packet), None]);
            assert_eq!((pen.packets(), pen.bytes()), (0, 0));
        }
    }
}
