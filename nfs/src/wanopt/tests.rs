//! Two ends and a hostile link: what comes out is what went in, whatever the link does.

use std::rc::Rc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::bundle::{self, Bundle};
use super::codec::Effort;
use super::decoder::{Decoder, Undecodable};
use super::encoder::{Encoded, Encoder, Heard, Settings};
use super::seal::{Encrypts, Seal};
use super::store::{Found, Names, Store};
use super::testing::{Datagram, Family, Upper};
use super::wire::{Report, session};

/// Both ends, without a link.
struct Pair {
    encoder: Encoder,
    decoder: Decoder,
    settings: Settings,
    epochs: u32,
    /// Where they keep their logs, if anywhere.
    folder: Option<Rc<TempDir>>,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let (encoder, decoder) = (Encoder::new(settings, 1), Decoder::new(settings, 2));
        Self { encoder, decoder, settings, epochs: 2, folder: None }
    }

    /// Whose logs are files of a folder.
    fn stored(settings: Settings, folder: &Rc<TempDir>) -> Self {
        let mut pair = Self { folder: Some(folder.clone()), ..Self::new(settings) };
        pair.restart_encoder();
        pair.restart_decoder();
        pair
    }

    fn open(&self, name: &str, epoch: u32) -> Option<(Store, Found)> {
        let path = self.folder.as_ref()?.path().join(name);
        let (sent, came) = (self.settings.log(epoch), self.settings.log(!epoch));
        let memory = self.settings.memory;
        Some(Store::open(&path, memory, Names { sent, came }).expect("the disk has room"))
    }

    fn restart_encoder(&mut self) -> Option<Found> {
        let epoch = self.epoch();
        self.encoder = Encoder::new(self.settings, epoch);
        let (store, found) = self.open("sent", epoch)?;
        self.encoder = Encoder::stored(self.settings, epoch, store, found);
        Some(found)
    }

    fn restart_decoder(&mut self) -> Option<Found> {
        let epoch = self.epoch();
        self.decoder = Decoder::new(self.settings, epoch);
        let (store, found) = self.open("came", epoch)?;
        self.decoder = Decoder::stored(self.settings, epoch, store, found);
        Some(found)
    }

    fn opened(memory: usize) -> Self {
        let mut pair = Self::new(Settings::for_tests(memory));
        pair.greet();
        assert!(pair.encoder.is_open());
        pair
    }

    fn epoch(&mut self) -> u32 {
        self.epochs += 1;
        self.epochs
    }

    fn greet(&mut self) {
        let mut hello = Vec::new();
        self.encoder.hello(0, &mut hello);
        self.decoder.hello(&hello);
        self.report();
    }

    fn report(&mut self) {
        let mut report = Vec::new();
        self.decoder.report(&mut report);
        self.encoder.report(&report);
    }

    /// One packet over a link that loses nothing. Returns how many bytes its message has.
    fn pass(&mut self, datagram: &[u8]) -> usize {
        let mut message = Vec::new();
        match self.encoder.encode(datagram, datagram.len(), (Effort::Best, None), &mut message) {
            Encoded::AsItIs => {
                assert!(message.is_empty());
                datagram.len()
            }
            Encoded::Shorter { .. } => {
                let mut out = Vec::new();
                assert_eq!(self.decoder.decode(&message, &mut out), Ok(None));
                assert_eq!(out, datagram);
                if self.decoder.unreported() >= 32 {
                    self.report();
                }
                message.len()
            }
        }
    }
}

/// Words that repeat as source text does, and noise.
fn text(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let words = [
        "let ", "mut ", "packet", "self.", "flow", " = ", "fn ", "{\n    ", "}\n", "length",
        "return ",
    ];
    let mut out = Vec::new();
    while out.len() < length {
        if next().is_multiple_of(3) {
            out.extend(next().to_string().bytes());
        } else {
            out.extend(words[next() as usize % words.len()].bytes());
        }
    }
    out.truncate(length);
    out
}

fn segments(bytes: &[u8], flow: u16) -> Vec<Vec<u8>> {
    let chunks = bytes.chunks(1448).enumerate();
    let datagram = |(n, payload)| {
        Datagram { sequence: n as u32 * 1448, ..Datagram::new(flow, payload) }.bytes()
    };
    chunks.map(datagram).collect()
}

#[test]
fn what_was_seen_before_costs_a_few_bytes_a_packet_in_another_flow_cut_otherwise_too() {
    let mut pair = Pair::opened(4 << 20);
    let bytes = text(400_000, 7);
    let first: usize = segments(&bytes, 1000).iter().map(|s| pair.pass(s)).sum();
    assert!(first < bytes.len() / 2, "{first}");
    pair.report();
    let again: usize = segments(&bytes, 1001).iter().map(|s| pair.pass(s)).sum();
    assert!(again < bytes.len() * 4 / 100, "{again}");
    let cut: usize = segments(&bytes[555..], 1002).iter().map(|s| pair.pass(s)).sum();
    assert!(cut < bytes.len() * 6 / 100, "{cut}");
    println!("{} bytes: {first}, then {again}, then {cut}", bytes.len());
    // The control: other text is not found.
    let other: usize = segments(&text(400_000, 8), 1003).iter().map(|s| pair.pass(s)).sum();
    assert!(other > 5 * again, "{other}");
}

#[test]
fn noise_goes_as_it_is_and_is_not_tried_for_ever() {
    let mut pair = Pair::opened(1 << 20);
    let noise: Vec<u8> = (0..100_000u64)
        .map(|n| {
            (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                >> 56) as u8
        })
        .collect();
    let all: usize = segments(&noise, 1).iter().map(Vec::len).sum();
    let sent: usize = segments(&noise, 1).iter().map(|s| pair.pass(s)).sum();
    assert!(sent <= all, "{sent} of {all}");
}

#[test]
fn a_log_that_is_too_small_for_the_flow_goes_round_and_nothing_breaks() {
    let mut pair = Pair::opened(60_000);
    for seed in 0..6 {
        for segment in segments(&text(100_000, seed % 3), seed as u16) {
            pair.pass(&segment);
        }
    }
}

#[test]
fn nothing_is_encoded_before_the_decoder_has_spoken_and_a_strangers_report_opens_nothing() {
    let mut settings = Settings::for_tests(1 << 20);
    let mut encoder = Encoder::new(settings, 5);
    let datagram = &segments(&text(1448, 1), 1)[0];
    let mut out = Vec::new();
    assert_eq!(encoder.encode(datagram, 1500, (Effort::Best, None), &mut out), Encoded::AsItIs);
    let mut report = Vec::new();
    Report {
        encoder: 5,
        decoder: 1,
        log: 1,
        instance: 0,
        capacity: 1 << 20,
        next: 0,
        came: [0; 4],
        echo: 0,
    }
    .emit(&mut report);
    settings.seal = Seal::new([7; 16]);
    let mut forged = report.clone();
    settings.seal.close(0, &mut forged);
    assert_eq!(encoder.report(&forged), Heard::NotOurs, "another key");
    assert_eq!(encoder.report(&report), Heard::NotOurs, "no seal");
    Settings::for_tests(1).seal.close(0, &mut report);
    assert_eq!(encoder.report(&report), Heard::Anew);
    assert!(matches!(
        encoder.encode(datagram, 1500, (Effort::Best, None), &mut out),
        Encoded::Shorter { .. }
    ));
}

/// What the link does with a message.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Deliver,
    Lose,
    Double,
    /// Behind so many that come later.
    Delay(u8),
    /// One byte changed by this.
    Corrupt(u16, u8),
    RestartEncoder,
    RestartDecoder,
    /// The next report gets lost.
    LoseReport,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        30 => Just(Deed::Deliver),
        2 => Just(Deed::Lose),
        1 => Just(Deed::Double),
        2 => (1u8..20).prop_map(Deed::Delay),
        2 => (any::<u16>(), 1u8..=255).prop_map(|(at, by)| Deed::Corrupt(at, by)),
        1 => Just(Deed::LoseReport),
    ]
}

fn deed_or_restart() -> impl Strategy<Value = Deed> {
    prop_oneof![60 => deed(), 1 => Just(Deed::RestartEncoder), 1 => Just(Deed::RestartDecoder)]
}

/// A datagram under way: of which packets, its bytes, whether it was changed.
type Under = (Vec<usize>, Vec<u8>, bool);

/// What a talk over a link came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    encoded: usize,
    came_out: usize,
    undecodable: usize,
    /// Came out as what never went in.
    forged: usize,
    /// Arrived as it was sent and did not come out.
    lost_here: usize,
}

/// How honest reports are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reports {
    Honest,
    /// They say that all came.
    Boastful,
}

fn talk(settings: Settings, packets: &[Vec<u8>], deeds: &[Deed], how: (Reports, usize)) -> Outcome {
    talk_of(&mut Pair::new(settings), packets, deeds, how)
}

/// The messages of a datagram.
fn opened(datagram: &[u8]) -> Vec<Vec<u8>> {
    let Some(mut bundle) = Bundle::read(datagram) else { return vec![datagram.to_vec()] };
    let mut messages = Vec::new();
    let mut message = Vec::new();
    while let Some(Ok(())) = bundle.next(&mut message) {
        messages.push(std::mem::take(&mut message));
    }
    messages
}

/// `together`: so many messages go in one datagram.
fn talk_of(
    pair: &mut Pair,
    packets: &[Vec<u8>],
    deeds: &[Deed],
    (reports, together): (Reports, usize),
) -> Outcome {
    let settings = pair.settings;
    let mut outcome = Outcome::default();
    let mut late: Vec<(usize, Under)> = Vec::new();
    let (mut lose_report, mut of, mut waiting) = (false, vec![], vec![]);
    for (n, packet) in packets.iter().enumerate() {
        let deed = deeds[n % deeds.len()];
        match deed {
            Deed::RestartEncoder => _ = pair.restart_encoder(),
            Deed::RestartDecoder => _ = pair.restart_decoder(),
            Deed::LoseReport => lose_report = true,
            _ => {}
        }
        if n.is_multiple_of(16) {
            let mut message = Vec::new();
            if !pair.encoder.is_open() || n.is_multiple_of(64) {
                pair.encoder.hello(0, &mut message);
                pair.decoder.hello(&message);
            }
            let mut report = Vec::new();
            pair.decoder.report(&mut report);
            if reports == Reports::Boastful
                && let Some((mut all, _)) = Report::read(&report)
            {
                all.came = [u64::MAX; 4];
                report.clear();
                all.emit(&mut report);
                settings.seal.close(0, &mut report);
            }
            if !std::mem::take(&mut lose_report) {
                pair.encoder.report(&report);
            }
        }
        let mut message = Vec::new();
        let encoded = pair.encoder.encode(packet, packet.len(), (Effort::Best, None), &mut message);
        assert!(message.len() <= packet.len());
        let mut arrive: Vec<Under> = Vec::new();
        let mut datagram = None;
        if encoded != Encoded::AsItIs {
            outcome.encoded += 1;
            if together == 1 {
                datagram = Some((vec![n], message));
            } else {
                let session = message.get(2..6) == waiting.get(2..6);
                if !session && !waiting.is_empty() {
                    datagram = Some((std::mem::take(&mut of), std::mem::take(&mut waiting)));
                }
                if waiting.is_empty() {
                    let session = message[2..6].try_into().unwrap();
                    bundle::begin(u32::from_be_bytes(session), &mut waiting);
                }
                assert!(bundle::add(&message, 0, &mut waiting));
                of.push(n);
                if of.len() >= together && datagram.is_none() {
                    datagram = Some((std::mem::take(&mut of), std::mem::take(&mut waiting)));
                }
            }
        }
        if let Some((of, mut datagram)) = datagram {
            match deed {
                Deed::Lose => {}
                Deed::Double => {
                    arrive.extend([(of.clone(), datagram.clone(), false), (of, datagram, false)]);
                }
                Deed::Delay(by) => late.push((n + usize::from(by), (of, datagram, false))),
                Deed::Corrupt(at, by) => {
                    let at = usize::from(at) % datagram.len();
                    datagram[at] ^= by;
                    arrive.push((of, datagram, true));
                }
                _ => arrive.push((of, datagram, false)),
            }
        }
        let due = late.extract_if(.., |(when, _)| *when <= n).map(|(_, under)| under);
        arrive.extend(due);
        for (of, datagram, was_changed) in arrive {
            let messages = opened(&datagram);
            assert!(was_changed || messages.len() == of.len());
            for (at, message) in messages.iter().enumerate() {
                let mut out = Vec::new();
                match pair.decoder.decode(message, &mut out) {
                    // One that was changed may be cut elsewhere; then it is another's, if anybody's.
                    Ok(_) if was_changed && of.iter().any(|n| out == packets[*n]) => {
                        outcome.came_out += 1;
                    }
                    Ok(_) if !was_changed && out == packets[of[at]] => outcome.came_out += 1,
                    Ok(_) => outcome.forged += 1,
                    Err(why) => {
                        outcome.undecodable += 1;
                        let was_lost = !was_changed && why != Undecodable::Stale;
                        outcome.lost_here += usize::from(was_lost);
                    }
                }
            }
        }
    }
    outcome
}

/// Packets of several flows, families and protocols that have much in common.
fn packets(count: usize, seed: u32) -> Vec<Vec<u8>> {
    let bytes = text(60_000, seed);
    let packet = |n: usize| {
        let mix = (n as u32).wrapping_mul(2_654_435_761).wrapping_add(seed);
        let start = (mix >> 7) as usize % 50_000;
        let length = 20 + (mix >> 3) as usize % 1400;
        let family = if mix.is_multiple_of(5) { Family::V6 } else { Family::V4 };
        let upper = if mix.is_multiple_of(7) { Upper::Udp } else { Upper::Tcp };
        let payload = &bytes[start..(start + length).min(bytes.len())];
        let sequence = n as u32 * 1448;
        Datagram { family, upper, flow: (mix >> 20) as u16 % 6, sequence, payload }.bytes()
    };
    (0..count).map(packet).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn over_a_hostile_link_what_comes_out_is_what_went_in(
        seed: u32, deeds in prop::collection::vec(deed_or_restart(), 1..300), small: bool, key: [u8; 16], together in 1usize..20,
    ) {
        let mut settings = Settings::for_tests(if small { 30_000 } else { 1 << 20 });
        settings.seal = match key[0] % 3 {
            0 => Seal::new(key),
            1 => Seal::of(key, "run", Encrypts::Nothing),
            _ => Seal::of(key, "run", Encrypts::Messages),
        };
        let outcome = talk(settings, &packets(600, seed), &deeds, (Reports::Honest, together));
        prop_assert_eq!(outcome.forged, 0);
    }

    #[test]
    fn what_arrives_undamaged_comes_out_as_long_as_both_ends_live(
        seed: u32, deeds in prop::collection::vec(deed(), 1..300), together in 1usize..20,
    ) {
        let settings = Settings::for_tests(1 << 20);
        let outcome = talk(settings, &packets(600, seed), &deeds, (Reports::Honest, together));
        prop_assert_eq!(outcome.lost_here, 0, "{:?}", outcome);
    }

    #[test]
    fn any_bytes_from_the_network_are_decoded_or_refused(messages in prop::collection::vec(any::<Vec<u8>>(), 1..30), valid: bool) {
        let mut pair = Pair::opened(1 << 16);
        let mut out = Vec::new();
        for mut message in messages {
            if valid && message.len() > 8 {
                message[0] = 0x11;
                let now = session(1, 2).to_be_bytes();
                message[2..6].copy_from_slice(&now);
            }
            prop_assert!(pair.decoder.decode(&message, &mut out).is_err());
            let _ = (pair.decoder.hello(&message), pair.encoder.report(&message));
        }
    }
}

/// The control: without a key they come out twice, as if the link had doubled them.
#[test]
fn what_is_recorded_and_sent_again_comes_out_once_where_there_is_a_key() {
    let again = |seal: Seal| {
        let mut pair = Pair::new(Settings { seal, ..Settings::for_tests(1 << 20) });
        pair.greet();
        let mut recorded = Vec::new();
        for segment in segments(&text(300_000, 4), 9) {
            let mut message = Vec::new();
            let wanted = (Effort::Best, None);
            pair.encoder.encode(&segment, segment.len(), wanted, &mut message);
            recorded.push(message);
        }
        let mut out = Vec::new();
        // Not in the order in which they were sent.
        for some in recorded.chunks(16) {
            for message in some.iter().rev() {
                assert_eq!(pair.decoder.decode(message, &mut out), Ok(None));
            }
        }
        let mut results = recorded.iter().map(|message| pair.decoder.decode(message, &mut out));
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first));
        first
    };
    assert_eq!(again(Seal::new([0; 16])), Ok(None));
    for encrypts in [Encrypts::Nothing, Encrypts::Messages] {
        assert_eq!(again(Seal::of([9; 16], "run", encrypts)), Err(Undecodable::Repeated));
    }
}

#[test]
fn an_encoder_that_made_many_messages_is_heard_by_a_decoder_that_begins_anew() {
    for encrypts in [Encrypts::Nothing, Encrypts::Messages] {
        let seal = Seal::of([9; 16], "run", encrypts);
        let mut pair = Pair::new(Settings { seal, ..Settings::for_tests(1 << 20) });
        for _ in 0..3 {
            pair.greet();
            for segment in segments(&text(100_000, 4), 9) {
                pair.pass(&segment);
            }
            pair.decoder = Decoder::new(pair.settings, pair.epochs + 1);
            pair.epochs += 1;
        }
    }
}

/// The controls: without the digests wrong bytes come out, and without confirmations packets do not.
#[test]
fn digests_keep_wrong_bytes_back_and_confirmations_keep_packets_decodable() {
    let deeds: Vec<Deed> = (0..97u16)
        .map(|n| match n % 10 {
            3 => Deed::Corrupt(n.wrapping_mul(7919) % 1000 + 14, 0x40),
            7 => Deed::Lose,
            _ => Deed::Deliver,
        })
        .collect();
    let all = packets(3000, 5);
    let mut settings = Settings::for_tests(1 << 20);
    let honest = talk(settings, &all, &deeds, (Reports::Honest, 1));
    assert_eq!((honest.forged, honest.lost_here), (0, 0), "{honest:?}");
    let boastful = talk(settings, &all, &deeds, (Reports::Boastful, 1));
    assert_eq!(boastful.forged, 0);
    assert!(boastful.lost_here > 50, "{boastful:?}");
    settings.seal.is_blind = true;
    let blind = talk(settings, &all, &deeds, (Reports::Honest, 1));
    assert!(blind.forged > 50, "{blind:?}");
}

#[test]
fn a_restart_of_either_end_is_over_with_the_next_hello() {
    let mut pair = Pair::opened(1 << 20);
    let segments = segments(&text(200_000, 3), 9);
    let run = |pair: &mut Pair| -> usize { segments.iter().map(|s| pair.pass(s)).sum() };
    run(&mut pair);
    pair.report();
    let known = run(&mut pair);
    pair.restart_decoder();
    let mut message = Vec::new();
    assert!(matches!(
        pair.encoder.encode(&segments[0], 1500, (Effort::Best, None), &mut message),
        Encoded::Shorter { .. }
    ));
    assert_eq!(pair.decoder.decode(&message, &mut Vec::new()), Err(Undecodable::Stale));
    pair.greet();
    let anew = run(&mut pair);
    assert!(anew > 5 * known, "the decoder has nothing: {anew} after {known}");
    pair.restart_encoder();
    pair.greet();
    let anew = run(&mut pair);
    assert!(anew > 5 * known, "the encoder knows of nothing: {anew} after {known}");
}

/// A file of text, and how many bytes it takes over the link.
fn fetch(pair: &mut Pair, flow: u16) -> usize {
    let all = segments(&text(300_000, 11), flow);
    let sent = all.iter().map(|segment| pair.pass(segment)).sum();
    pair.report();
    sent
}

#[test]
fn ends_that_keep_their_logs_in_files_know_after_a_restart_what_they_knew() {
    let folder = Rc::new(tempfile::tempdir().unwrap());
    let mut pair = Pair::stored(Settings::for_tests(4 << 20), &folder);
    pair.greet();
    let first = fetch(&mut pair, 1);
    let known = fetch(&mut pair, 2);
    assert!(known * 5 < first, "{first}, then {known}");
    for who in 0..6 {
        let found = match who % 3 {
            0 => vec![pair.restart_encoder()],
            1 => vec![pair.restart_decoder()],
            _ => vec![pair.restart_encoder(), pair.restart_decoder()],
        };
        assert!(found.iter().all(|f| matches!(f, Some(Found::Records { .. }))), "{found:?}");
        pair.greet();
        let again = fetch(&mut pair, 10 + who);
        assert!(again < 2 * known, "{who}: {again}, {known} before");
    }
    // The controls: either file is lost, and all is as at first.
    for name in ["sent", "came"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let found = [pair.restart_encoder(), pair.restart_decoder()];
        assert!(found.contains(&Some(Found::Nothing(super::store::Why::New))), "{found:?}");
        pair.greet();
        let anew = fetch(&mut pair, 20);
        assert!(anew * 10 > first * 9, "{anew}, {first} at first");
    }
}

/// What may become of a file while its box is down.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Lost,
    /// One byte changed by this.
    Damaged(u32, u8),
    Cut(u32),
    /// It is what it was some time ago.
    Restored,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Kept),
        1 => Just(Fate::Lost),
        3 => (any::<u32>(), 1u8..=255).prop_map(|(at, by)| Fate::Damaged(at, by)),
        1 => any::<u32>().prop_map(Fate::Cut),
        2 => Just(Fate::Restored),
    ]
}

fn suffer(folder: &TempDir, name: &str, fate: Fate) {
    let (file, backup) = (folder.path().join(name), folder.path().join(format!("{name}.old")));
    let mut bytes = std::fs::read(&file).unwrap();
    match fate {
        Fate::Kept => {}
        Fate::Lost => bytes.clear(),
        Fate::Damaged(at, by) => {
            let at = at as usize % bytes.len();
            bytes[at] ^= by;
        }
        Fate::Cut(at) => bytes.truncate(at as usize % bytes.len()),
        Fate::Restored => bytes = std::fs::read(&backup).unwrap_or(bytes),
    }
    std::fs::write(&backup, std::fs::read(&file).unwrap()).unwrap();
    std::fs::write(&file, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn with_logs_in_files_too_what_arrives_undamaged_comes_out_and_restarts_lose_what_was_under_way_only(
        seed: u32, deeds in prop::collection::vec(deed_or_restart(), 1..300), small: bool,
        together in prop::sample::select(vec![1_usize, 4]),
    ) {
        let folder = Rc::new(tempfile::tempdir().unwrap());
        let settings = Settings::for_tests(if small { 30_000 } else { 1 << 20 });
        let mut pair = Pair::stored(settings, &folder);
        let outcome = talk_of(&mut pair, &packets(600, seed), &deeds, (Reports::Honest, together));
        prop_assert_eq!((outcome.forged, small || outcome.lost_here == 0), (0, true), "{:?}", outcome);
    }

    #[test]
    fn whatever_becomes_of_the_files_no_wrong_byte_comes_out(
        seed: u32, deeds in prop::collection::vec(deed(), 1..100), fates in prop::collection::vec([fate(), fate()], 1..5), small: bool,
    ) {
        let folder = Rc::new(tempfile::tempdir().unwrap());
        let settings = Settings::for_tests(if small { 30_000 } else { 1 << 20 });
        let mut epochs = 2;
        for (turn, [sent, came]) in (0u32..).zip(fates) {
            let mut pair = Pair::new(settings);
            (pair.folder, pair.epochs) = (Some(folder.clone()), epochs);
            pair.restart_encoder();
            pair.restart_decoder();
            // Much of what was there before comes again.
            let outcome = talk_of(&mut pair, &packets(200, seed ^ (turn % 2)), &deeds, (Reports::Honest, 1));
            prop_assert_eq!(outcome.forged, 0);
            epochs = pair.epochs;
            drop(pair);
            suffer(&folder, "sent", sent);
            suffer(&folder, "came", came);
        }
    }
}
