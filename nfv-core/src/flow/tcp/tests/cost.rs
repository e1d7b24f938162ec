//! What a segment costs.

use super::*;

/// `cargo test --release -- --ignored --nocapture costs`
#[test]
#[ignore = "a measurement: prints the cost of a segment"]
fn what_a_segment_costs() {
    use std::hint::black_box;
    let rounds = 10_000_000u32;
    let measured = |what: &str, one: &mut dyn FnMut()| {
        let begun = std::time::Instant::now();
        (0..rounds).for_each(|_| one());
        println!("{what}: {:.1} ns", begun.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    };
    let mut track = scaled(Some(7), Some(7));
    let mut data = seg(O, ACK, 1u32.wrapping_sub(500), 1, 500);
    let mut ack = seg(R, ACK, 1, 1, 0);
    measured("data, and its ACK", &mut || {
        data.seq = data.seq.wrapping_add(500);
        assert!(track.next(O, black_box(&data), Strict).is_ok());
        ack.ack = data.end();
        assert!(track.next(R, black_box(&ack), Strict).is_ok());
    });
    let fin = Segment { flags: TcpFlags(FA), seq: data.end(), payload: 0, ..data };
    assert!(track.next(O, &fin, Strict).is_ok());
    measured("ACK of one that closes", &mut || {
        assert!(track.next(R, black_box(&ack), Strict).is_ok());
    });
    let syn = seg(O, SYN, 0, 0, 0);
    measured("start", &mut || {
        assert!(black_box(TcpTrack::start(black_box(&syn), Strict)).is_ok());
    });
    let mut header = [0u8; 60];
    for (what, words, options) in [
        ("read without options", 5, [0u8; 4]),
        ("read with a timestamp", 8, [1, 1, 8, 10]),
        ("read with three SACK blocks", 15, [1, 1, 8, 10]),
    ] {
        header[12] = words << 4;
        header[13] = ACK;
        header[20..24].copy_from_slice(&options);
        header[32..36].copy_from_slice(&[1, 1, 5, 26]);
        measured(what, &mut || {
            assert!(black_box(&Segment::read(black_box(&header[..]), 0)).is_some());
        });
    }
}
