//! What the network brings to a WAN optimizer: any bytes, and messages of a real encoder of which some bytes are changed.
//!   cargo +nightly fuzz run wanopt -- -max_total_time=600
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs::wanopt::codec::Effort;
use nfs::wanopt::decoder::Decoder;
use nfs::wanopt::encoder::{Encoder, Settings};
use nfs::wanopt::seal::Seal;

fuzz_target!(|bytes: &[u8]| {
    let seal = Seal::new([0; 16]);
    let settings = Settings { memory: 1 << 16, seal, level: 1, secret: [1, 2], instance: 0, of: 1 };
    let (mut encoder, mut decoder) = (Encoder::new(settings, 1), Decoder::new(settings, 2));
    let (mut message, mut out) = (Vec::new(), Vec::new());
    encoder.hello(0, &mut message);
    decoder.hello(&message);
    let mut rest = bytes;
    // Each turn: a length, what it is for, and so many bytes.
    while let [kind, length, behind @ ..] = rest {
        let (part, next) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = next;
        message.clear();
        match kind % 5 {
            0 => {
                let _ = decoder.decode(part, &mut out);
            }
            1 => {
                let _ = (decoder.hello(part), encoder.report(part));
            }
            2 => {
                decoder.report(&mut message);
                encoder.report(&message);
            }
            kind => {
                let datagram = datagram(part, *length);
                let number = (length % 2 == 0).then_some(u32::from(*length));
                encoder.encode(&datagram, datagram.len(), (Effort::Best, number), &mut message);
                if kind == 4 {
                    // Changed behind the session, so that it is looked at.
                    let changed = message.iter_mut().skip(6).zip(part.iter().rev());
                    changed.filter(|(_, by)| **by < 8).for_each(|(byte, by)| *byte ^= by);
                }
                if !message.is_empty() && decoder.decode(&message, &mut out).is_ok() {
                    assert_eq!(out, datagram, "never a wrong byte");
                }
            }
        }
    }
});

/// A datagram of UDP with this payload, some times over.
fn datagram(payload: &[u8], times: u8) -> Vec<u8> {
    let payload = payload.repeat(1 + usize::from(times % 4));
    let [a, b] = (28 + payload.len() as u16).to_be_bytes();
    let [c, d] = (8 + payload.len() as u16).to_be_bytes();
    let mut all = vec![0x45, 0, a, b, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    all.extend([0, 9, 0, 9, c, d, 0, 0]);
    all.extend(payload);
    all
}
