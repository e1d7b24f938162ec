//! What the network brings to a WAN optimizer: any bytes, and messages of a real encoder of which some bytes are changed;
//! alone and several in a datagram; without a key, with one, and encrypted.
//!   cargo +nightly fuzz run wanopt -- -max_total_time=600
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs::wanopt::bundle::{self, Bundle, MESSAGES_MAX};
use nfs::wanopt::codec::Effort;
use nfs::wanopt::decoder::Decoder;
use nfs::wanopt::encoder::{Encoder, Settings};
use nfs::wanopt::seal::{Encrypts, Seal};

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let seal = match mode % 3 {
        0 => Seal::new([0; 16]),
        1 => Seal::of([7; 16], "fuzz", Encrypts::Nothing),
        _ => Seal::of([7; 16], "fuzz", Encrypts::Messages),
    };
    let is_keyed = mode % 3 > 0;
    let settings = Settings { memory: 1 << 16, seal, level: 1, secret: [1, 2], instance: 0, of: 1 };
    let (mut encoder, mut decoder) = (Encoder::new(settings, 1), Decoder::new(settings, 2));
    let (mut message, mut out) = (Vec::new(), Vec::new());
    encoder.hello(0, &mut message);
    decoder.hello(&message);
    // Messages that wait to go together, each with what it was made of.
    let (mut together, mut of): (Vec<u8>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    // Each turn: a length, what it is for, and so many bytes.
    while let [kind, length, behind @ ..] = rest {
        let (part, next) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = next;
        message.clear();
        match kind % 8 {
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
            3 => each(part, |message| {
                let _ = decoder.decode(message, &mut out);
            }),
            4 => {
                // Some of its bytes are others', so that it may be cut elsewhere.
                change(&mut together, part, 1);
                each(&together, |message| {
                    if decoder.decode(message, &mut out).is_ok() {
                        assert!(of.contains(&out), "never a wrong byte");
                    }
                });
                together.clear();
                of.clear();
            }
            kind => {
                let datagram = datagram(part, *length);
                let number = (length % 2 == 0).then_some((u32::from(*length), u16::from(kind)));
                let before = encoder.session();
                encoder.encode(&datagram, datagram.len(), (Effort::Best, number), &mut message);
                assert!(message.len() < datagram.len(), "never longer");
                if message.is_empty() {
                    continue;
                }
                if kind == 7 {
                    if together.is_empty() {
                        bundle::begin(before.unwrap_or(0), &mut together);
                    }
                    if together.get(2..6) == message.get(2..6) && of.len() < MESSAGES_MAX {
                        assert!(bundle::add(&message, 0, &mut together));
                        of.push(datagram);
                    }
                    continue;
                }
                if kind == 6 {
                    // Changed behind the session, so that it is looked at.
                    change(&mut message, part, 6);
                }
                if decoder.decode(&message, &mut out).is_ok() {
                    assert_eq!(out, datagram, "never a wrong byte");
                    let again = decoder.decode(&message, &mut out);
                    assert!(again.is_err() || !is_keyed, "with a key never twice");
                }
            }
        }
    }
});

/// Changes some bytes from `start` on.
fn change(bytes: &mut [u8], by: &[u8], start: usize) {
    let changed = bytes.iter_mut().skip(start).zip(by.iter().rev());
    changed.filter(|(_, by)| **by < 8).for_each(|(byte, by)| *byte ^= by);
}

/// The messages of a bundle, if it is one.
fn each(bytes: &[u8], mut take: impl FnMut(&[u8])) {
    let Some(mut bundle) = Bundle::read(bytes) else { return };
    let (mut message, mut count) = (Vec::new(), 0);
    while let Some(next) = bundle.next(&mut message) {
        if next.is_ok() {
            take(&message);
        }
        message.clear();
        count += 1;
    }
    assert!(count <= MESSAGES_MAX);
}

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
