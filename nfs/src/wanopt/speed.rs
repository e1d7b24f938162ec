//! Figures for `scripts/bench.py`: how fast one core encodes and decodes, beside raw LZ4 on the same packets.

use std::ops::AddAssign;
use std::time::Duration;

use lz4_flex::block::{CompressTable, compress_into_with_table};
use rustix::time::{ClockId, clock_gettime};

use super::codec::Effort;
use super::decoder::Decoder;
use super::encoder::{Encoded, Encoder, Settings};
use super::testing::Datagram;

const PAYLOAD: usize = 1448;
const MEMORY: usize = 64 << 20;
/// Packets of a turn.
const TURN: usize = 512;
/// Records after which the decoder reports.
const REPORTED: usize = 32;

/// Both ends, and the time that each took.
struct Run {
    encoder: Encoder,
    decoder: Decoder,
    /// Those that are sent between two reports.
    messages: Vec<(Vec<u8>, Encoded)>,
    report: Vec<u8>,
    came: Vec<Vec<u8>>,
}

/// What a pass over packets took, and how many bytes became of them.
#[derive(Default)]
struct Pass {
    encode: Duration,
    decode: Duration,
    bytes: usize,
    sent: usize,
}

impl AddAssign for Pass {
    fn add_assign(&mut self, other: Self) {
        self.encode += other.encode;
        self.decode += other.decode;
        self.bytes += other.bytes;
        self.sent += other.sent;
    }
}

impl Run {
    fn new() -> Self {
        let settings = Settings::for_tests(MEMORY);
        let (encoder, decoder) = (Encoder::new(settings, 1), Decoder::new(settings, 2));
        let messages = vec![(Vec::new(), Encoded::AsItIs); REPORTED];
        let came = vec![Vec::new(); REPORTED];
        let mut run = Self { encoder, decoder, messages, report: Vec::new(), came };
        run.encoder.hello(0, &mut run.report);
        run.decoder.hello(&run.report);
        run.report();
        // A box that has run for a while has all its memory, here with noise of which all is there twice: it shrinks, and is
        // like nothing that comes later.
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut noise = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 24) as u8
        };
        let noise: Vec<u8> = (0..1 << 20).map(|_| noise()).collect();
        for turn in 0..MEMORY >> 21 {
            let key = turn as u8;
            let other: Vec<u8> = noise.iter().map(|byte| byte ^ key).collect();
            let (eights, _) = other.as_chunks::<8>();
            let twice: Vec<u8> = eights.iter().flat_map(|e| [*e, *e]).flatten().collect();
            run.pass(&packets(&twice, 9), Effort::Fast);
        }
        run
    }

    fn report(&mut self) {
        self.report.clear();
        self.decoder.report(&mut self.report);
        self.encoder.report(&self.report);
    }

    fn pass(&mut self, packets: &[Vec<u8>], effort: Effort) -> Pass {
        let mut pass = Pass::default();
        for some in packets.chunks(REPORTED) {
            let start = now();
            for (packet, (message, encoded)) in some.iter().zip(&mut self.messages) {
                message.clear();
                let most = packet.len() - 28;
                *encoded = self.encoder.encode(packet, most, (effort, None), message);
            }
            pass.encode += now() - start;
            let start = now();
            let each = self.messages.iter().zip(&mut self.came).take(some.len());
            for ((message, encoded), out) in each {
                if *encoded != Encoded::AsItIs {
                    self.decoder.decode(message, out).expect("nothing was lost");
                }
            }
            pass.decode += now() - start;
            let each = some.iter().zip(&self.messages).zip(&self.came);
            for ((packet, (message, encoded)), out) in each {
                pass.bytes += packet.len();
                let is_plain = *encoded == Encoded::AsItIs;
                assert!(is_plain || out == packet);
                pass.sent += if is_plain { packet.len() } else { message.len() + 28 };
            }
            let start = now();
            self.report();
            pass.encode += now() - start;
        }
        pass
    }
}

/// Time that this thread had, as other load of the machine comes and goes.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("it is after the thread's start")
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
    let (mut room, mut table) = (vec![0; 4096], CompressTable::small());
    let (mut raw, mut fast, mut run) = (Duration::ZERO, Pass::default(), Run::new());
    // By turns, as other load of the machine comes and goes.
    for (text, packets) in text.chunks(PAYLOAD * TURN).zip(first.chunks(TURN)) {
        let start = now();
        for payload in text.chunks(PAYLOAD) {
            compress_into_with_table(payload, &mut room, &mut table).expect("there is room");
        }
        raw += now() - start;
        fast += run.pass(packets, Effort::Fast);
    }
    let raw = gbps(text.len(), raw);
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
