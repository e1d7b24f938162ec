//! The wire of an emulated NIC: another device of DPDK's, between which and the rings a thread moves frames.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::side::NicSide;
use crate::dpdk::{Packet, Packets, QueueSeed, RxQueue, TxQueue};

/// A NIC's side with its wire, for a thread of its own on no worker's core.
#[derive(Debug)]
pub struct Wire {
    side: NicSide,
    queue: QueueSeed,
}

impl Wire {
    /// Of a NIC, and the one queue of the device that is its wire.
    pub fn new(side: NicSide, queue: QueueSeed) -> Self {
        Self { side, queue }
    }

    /// Moves frames until `stop`, then what workers have transmitted before they ended. Sleeps while there are none.
    pub fn run(self, stop: &AtomicBool) {
        let Self { mut side, queue } = self;
        let (mut rx, mut tx) = queue.claim();
        let (mut frames, mut out) = (Packets::new(), Packets::new());
        let mut pause = PAUSE_MIN;
        while !stop.load(Ordering::Relaxed) {
            let moved =
                receive(&mut side, &mut rx, &mut frames) + transmit(&mut side, &mut tx, &mut out);
            if moved > 0 {
                pause = PAUSE_MIN;
            } else {
                std::thread::sleep(pause);
                pause = PAUSE_MAX.min(pause * 2);
            }
        }
        let end = Instant::now() + LAST;
        while transmit(&mut side, &mut tx, &mut out) > 0 || !out.is_empty() && Instant::now() < end
        {
        }
        side.count_sent(0, out.len());
        Packet::free_all(&mut out);
        side.end();
    }
}

fn receive(side: &mut NicSide, rx: &mut RxQueue, frames: &mut Packets) -> usize {
    rx.receive(frames);
    let count = frames.len();
    side.receive(frames);
    count
}

/// What the wire does not take waits in `out`, and behind it what workers transmit: their queues fill, and say so.
fn transmit(side: &mut NicSide, tx: &mut TxQueue, out: &mut Packets) -> usize {
    if out.is_empty() {
        side.transmitted(out);
    }
    if out.is_empty() {
        return 0;
    }
    let sent = tx.transmit(out);
    side.count_sent(sent, 0);
    sent
}

/// How soon to look again while there are frames.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// How soon to look while there are none.
const PAUSE_MAX: Duration = Duration::from_micros(500);
/// How long the wire is tried at the end.
const LAST: Duration = Duration::from_millis(100);
