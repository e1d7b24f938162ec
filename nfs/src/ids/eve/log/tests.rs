use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::*;
use crate::ids::eve::{DropReason, DropRecord, TaggedPacket};

fn packet(place: u64) -> Record {
    let mut head = Head::at(Time(place));
    head.pcap_cnt = Some(place);
    Record { head, body: Body::Packet(Box::new(TaggedPacket { frame: (*b"x").into() })) }
}

fn drop_record() -> Record {
    let drop = DropRecord::of(b"", b"", 6, DropReason::Rules);
    Record { head: Head::at(Time(0)), body: Body::Drop(Box::new(drop)) }
}

fn counted(count: u64) -> Record {
    let counters = vec![("tcp.syn".into(), count)];
    Record {
        head: Head::at(Time(1_000_000_000)),
        body: Body::Stats(Box::new(Stats { uptime: 1, counters })),
    }
}

fn config(target: Target) -> LogConfig {
    let settings = Arc::new(Settings::default());
    LogConfig { target, settings, queue_records: 1000, queue_bytes: 1 << 20 }
}

/// The places of packets in a log, in their order.
fn places(text: &str) -> Vec<u64> {
    let place = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        json["pcap_cnt"].as_u64()
    };
    text.lines().filter_map(place).collect()
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_recorded_before_the_end_is_in_the_file_each_worker_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    let (log, mut queues) = Log::start(config(Target::File(path.clone())), 2).unwrap();
    for place in 1..=500 {
        queues[0].record(packet(place));
        queues[1].record(packet(1000 + place));
    }
    let counts = log.stop();
    assert_eq!(counts, LogCounts { written: 1000, shed: 0, lost: 0 });
    let places = places(&std::fs::read_to_string(path).unwrap());
    let (first, second): (Vec<u64>, Vec<u64>) = places.iter().partition(|place| **place <= 1000);
    assert_eq!(first, (1..=500).collect::<Vec<_>>());
    assert_eq!(second, (1001..=1500).collect::<Vec<_>>());
}

#[test]
fn a_file_that_was_moved_away_gets_a_new_one_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    let old = folder.path().join("eve.json.1");
    let (log, mut queues) = Log::start(config(Target::File(path.clone())), 1).unwrap();
    queues[0].record(packet(1));
    wait_until(|| log.counts().written == 1);
    std::fs::rename(&path, &old).unwrap();
    queues[0].record(packet(2));
    wait_until(|| log.counts().written == 2);
    log.reopen();
    wait_until(|| path.exists());
    queues[0].record(packet(3));
    log.stop();
    assert_eq!(places(&std::fs::read_to_string(old).unwrap()), [1, 2]);
    assert_eq!(places(&std::fs::read_to_string(path).unwrap()), [3]);
}

#[test]
fn a_log_goes_on_behind_what_its_file_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    for place in [1, 2] {
        let (log, mut queues) = Log::start(config(Target::File(path.clone())), 1).unwrap();
        queues[0].record(packet(place));
        log.stop();
    }
    assert_eq!(places(&std::fs::read_to_string(path).unwrap()), [1, 2]);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_with_its_name() {
    let error = Log::start(config(Target::File("/nonexistent/eve.json".into())), 1).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /nonexistent/eve.json for writing");
}

#[test]
fn nobody_waits_for_a_reader_that_is_away_and_what_finds_no_place_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Target::Stream(folder.path().join("nobody")));
    config.queue_records = 100;
    let (log, mut queues) = Log::start(config, 1).unwrap();
    for place in 0..1000 {
        queues[0].record(packet(place));
    }
    // A quarter is left for what is worth more.
    assert_eq!(log.counts(), LogCounts { written: 0, shed: 925, lost: 0 });
    for _ in 0..30 {
        queues[0].record(drop_record());
    }
    assert_eq!(log.counts().shed, 930);
    assert_eq!(log.stop(), LogCounts { written: 0, shed: 930, lost: 100 });
}

#[test]
fn records_that_wait_hold_no_more_bytes_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Target::Stream(folder.path().join("nobody")));
    let one = packet(1).bytes();
    config.queue_bytes = one * 40;
    let (log, mut queues) = Log::start(config, 1).unwrap();
    for place in 0..100 {
        queues[0].record(packet(place));
    }
    assert_eq!(log.counts().shed, 70);
}

#[test]
fn a_stream_socket_is_connected_again_at_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (log, mut queues) = Log::start(config(Target::Stream(path.clone())), 1).unwrap();
    let read = |listener: &UnixListener, place: u64| {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(places(&line), [place]);
    };
    queues[0].record(packet(1));
    read(&listener, 1);
    // Nobody reads any more: what is written now may be lost, what comes behind is not.
    wait_until(|| {
        queues[0].record(packet(2));
        log.counts().lost > 0
    });
    while queues[0].line.queue.pop().is_some() {}
    queues[0].record(packet(3));
    read(&listener, 3);
    log.stop();
}

#[test]
fn a_datagram_socket_gets_a_datagram_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (log, mut queues) = Log::start(config(Target::Datagram(path)), 1).unwrap();
    for place in [1, 2] {
        queues[0].record(packet(place));
    }
    for place in [1, 2] {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(places(std::str::from_utf8(&buffer[..len]).unwrap()), [place]);
    }
    log.stop();
}

#[test]
fn what_workers_counted_is_one_record_with_what_the_log_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    let (log, mut queues) = Log::start(config(Target::File(path.clone())), 2).unwrap();
    queues[0].record(counted(1));
    queues[0].record(counted(3));
    queues[1].record(counted(4));
    log.stop();
    let text = std::fs::read_to_string(path).unwrap();
    let expected = r#""stats":{"uptime":1,"eve":{"lost":0,"shed":0},"tcp":{"syn":7}}}"#;
    assert_eq!(text.lines().count(), 1);
    assert!(text.trim_end().ends_with(expected), "{text}");
}

#[test]
fn a_replay_writes_all_in_order_and_its_counts_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eve.json");
    std::fs::write(&path, "from another time").unwrap();
    let mut log = ReplayLog::create(path.clone(), Arc::new(Settings::default())).unwrap();
    for place in 1..=5000 {
        log.record(packet(place));
        log.record(counted(place));
    }
    assert_eq!(log.finish().unwrap().written, 5001);
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(places(&text), (1..=5000).collect::<Vec<_>>());
    let last = text.lines().last().unwrap();
    assert!(last.contains(r#""event_type":"stats""#) && last.contains(r#""syn":5000"#), "{last}");
}

#[test]
fn a_full_disk_is_told_at_the_end_of_a_replay() {
    let mut log = ReplayLog::create("/dev/full".into(), Arc::new(Settings::default())).unwrap();
    log.record(packet(1));
    assert_eq!(log.finish().unwrap_err().to_string(), "cannot write /dev/full");
}

#[test]
fn lines_that_a_full_disk_did_not_take_are_counted() {
    let (log, mut queues) = Log::start(config(Target::File("/dev/full".into())), 1).unwrap();
    for place in 0..3 {
        queues[0].record(packet(place));
    }
    assert_eq!(log.stop(), LogCounts { written: 0, shed: 0, lost: 3 });
}
