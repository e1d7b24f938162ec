//! Figures for `scripts/bench.py`: how fast one core encodes and decodes, beside raw LZ4 on the same packets.

use std::time::{Duration, Instant};

use super::codec::Effort;
use super::decoder::Decoder;
use super::encoder::{Encoded, Encoder, Settings};
use super::testing::Datagram;

const PAYLOAD: usize = 1448;
const MEMORY: usize = 64 << 20;

/// Both ends, and the time that each took.
struct Run {
    encoder: Encoder,
    decoder: Decoder,
    message: Vec<u8>,
    out: Vec<u8>,
}

/// What a pass over packets took, and how many bytes became of them.
#[derive(Default)]
struct Pass {
    encode: Duration,
    decode: Duration,
    bytes: usize,
    sent: usize,
}

impl Run {
    fn new() -> Self {
        let settings = Settings::for_tests(MEMORY);
        let (encoder, decoder) = (Encoder::new(settings, 1), Decoder::new(settings, 2));
        let mut run = Self { encoder, decoder, message: Vec::new(), out: Vec::new() };
        run.encoder.hello(0, &mut run.message);
        run.decoder.hello(&run.message);
        run.report();
        run
    }

    fn report(&mut self) {
        self.message.clear();
        self.decoder.report(&mut self.message);
        self.encoder.report(&self.message);
    }

    fn pass(&mut self, packets: &[Vec<u8>], effort: Effort) -> Pass {
        let mut pass = Pass::default();
        for packet in packets {
            self.message.clear();
            let start = Instant::now();
            let most = packet.len() - 28;
            let encoded = self.encoder.encode(packet, most, (effort, None), &mut self.message);
            pass.encode += start.elapsed();
            pass.bytes += packet.len();
            if encoded == Encoded::AsItIs {
                pass.sent += packet.len();
                continue;
            }
            pass.sent += self.message.len() + 28;
            let start = Instant::now();
            self.decoder.decode(&self.message, &mut self.out).expect("nothing was lost");
            pass.decode += start.elapsed();
            assert_eq!(&self.out, packet);
            if self.decoder.unreported() >= 32 {
                let start = Instant::now();
                self.report();
                pass.encode += start.elapsed();
            }
        }
        self.report();
        pass
    }
}

fn packets(bytes: &[u8], flow: u16) -> Vec<Vec<u8>> {
    let segment = |(n, payload): (usize, &[u8])| {
        let sequence = u32::try_from(n * PAYLOAD).expect("a file below 4 GiB");
        Datagram { sequence, ..Datagram::new(flow, payload) }.bytes()
    };
    bytes.chunks(PAYLOAD).enumerate().map(segment).collect()
}

fn gbps(bytes: usize, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_nanos() as f64
}

#[test]
#[ignore = "takes a file of text by WANOPT_TEXT, and an optimized build: scripts/bench.py wanopt"]
fn how_fast_packets_are_encoded_and_decoded() {
    let file = std::env::var("WANOPT_TEXT").expect("WANOPT_TEXT names a file");
    let text = std::fs::read(file).expect("it can be read");
    let (first, again) = (packets(&text, 1), packets(&text, 2));
    let mut room = vec![0; 4096];
    let start = Instant::now();
    for payload in text.chunks(PAYLOAD) {
        lz4_flex::block::compress_into(payload, &mut room).expect("there is room");
    }
    let raw = gbps(text.len(), start.elapsed());
    let fast = Run::new().pass(&first, Effort::Fast);
    let mut run = Run::new();
    let best = run.pass(&first, Effort::Best);
    let seen = run.pass(&again, Effort::Best);
    let figures = [
        ("raw_lz4_gbps", raw),
        ("new_fast_gbps", gbps(fast.bytes, fast.encode)),
        ("new_fast_share", fast.sent as f64 / fast.bytes as f64),
        ("new_best_gbps", gbps(best.bytes, best.encode)),
        ("new_best_share", best.sent as f64 / best.bytes as f64),
        ("decode_new_gbps", gbps(best.bytes, best.decode)),
        ("seen_gbps", gbps(seen.bytes, seen.encode)),
        ("seen_share", seen.sent as f64 / seen.bytes as f64),
        ("decode_seen_gbps", gbps(seen.bytes, seen.decode)),
    ];
    let figures = figures.map(|(name, value)| format!("\"{name}\": {value:.3}"));
    println!("figures: {{{}}}", figures.join(", "));
}
