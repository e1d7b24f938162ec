//! `mirror`: sends a copy of each packet, or of those that match, out of another port.
//!
//! ```text
//!     in ---->[ mirror ]----> next      kind: packet NF
//!                 |
//!                 +---- copy ----> the port `to`
//!
//! Keys   to     required  the port that the copies leave by
//!        snap   none      bytes of each packet that are copied, at least 60B; without it, all
//!        match  none      one match or a list; only packets that meet one are copied
//! Drops  none             the packet itself always goes on
//! Counts mirrored_packets   copies sent to the port
//!        no_buffer_packets  copies that were not made or not sent: no buffer was free, or too many copies wait
//! ```
//!
//! A copy is the packet as it is at this place in the chain. A match is written for the chain's direction, as a
//! firewall's rule is: an answer is compared with source and destination exchanged. When the port takes no more, the
//! engine counts what it drops there as it does for any packet. Copies are made, not shared: a later function may
//! change the packet.

use nfv_core::chain::key::{Key, Names, Need, Shape};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::Size;
use nfv_core::dispatch::Selection;
use nfv_core::nf::{Built, Burst, Cx, Kind, Named, PacketNf, PortIndex, Profile, Surroundings};

/// The type of NF `mirror`.
pub const KIND: Kind = Kind {
    name: "mirror",
    profile: Profile {
        reads_payload: true,
        writes: false,
        drops: false,
        creates: true,
        routes: false,
    },
    keys: &[
        Key {
            name: "to",
            shape: Shape::Name(Names::Port),
            need: Need::Required,
            help: "the port that the copies leave by",
        },
        Key {
            name: "snap",
            shape: Shape::Size,
            need: Need::Optional,
            help: "bytes of each packet that are copied, at least 60B; without it, all",
        },
        Selection::KEY,
    ],
    drops: &[],
    answers: &[],
    counters: &[
        Named { name: "mirrored_packets", help: "copies sent to the port" },
        Named {
            name: "no_buffer_packets",
            help: "copies not made or not sent: no buffer was free, or too many copies wait",
        },
    ],
    source: include_str!("mirror.rs"),
    build,
};

const MIRRORED: usize = 0;
const NO_BUFFER: usize = 1;

fn build(section: &Section<'_>, around: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let snap = section.value::<Size>("snap").map(Size::bytes);
    if snap.is_some_and(|bytes| bytes < SNAP_MIN) {
        let message = "a copy is at least 60B long: the shortest Ethernet frame";
        report.error(section.span_of("snap"), message);
    }
    let chosen = Selection::read(section, around, report);
    let to = around.port(&section.text("to")?)?;
    if report.has_errors() {
        return None;
    }
    let chosen = chosen?;
    let snap = snap.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(u32::MAX);
    Some(Built::packet(move || Mirror { to, snap, chosen: chosen.clone() }))
}

#[derive(Debug)]
struct Mirror {
    to: PortIndex,
    snap: u32,
    chosen: Selection,
}

impl PacketNf for Mirror {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let found = self.chosen.look_up(burst);
        let (mut sent, mut lost) = (0, 0);
        for (slot, found) in burst.slots().zip(found) {
            if found == 0 {
                continue;
            }
            // A packet of a capture may have been longer on the wire than what is here of it.
            let held = u32::try_from(slot.packet.data().len()).unwrap_or(u32::MAX);
            let copy = cx.copy(slot.packet, self.snap.min(held));
            match copy.map(|copy| cx.send(self.to, copy)) {
                Some(true) => sent += 1,
                Some(false) | None => lost += 1,
            }
        }
        cx.count(MIRRORED, sent);
        cx.count(NO_BUFFER, lost);
    }
}

const SNAP_MIN: u64 = 60;

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;

    use super::*;

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KIND.keys), Ok(()));
    }
}
