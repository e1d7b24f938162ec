//! Packets that a second thread reads while their owner goes on with them: a passive analyser's.

use nfv_core::dpdk::{Eal, Mempool, Packet, SharedPacket, unaccounted_packets};

fn packet(pool: &Mempool, bytes: &[u8]) -> Packet {
    pool.packet_of(bytes).expect("a packet")
}

/// One story, as the environment is started once a process.
#[test]
fn who_shares_a_packet_reads_it_as_it_was_and_its_memory_comes_back_once() {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "64"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("an environment");
    let pool = Mempool::create(1024, 512, -1).expect("a pool");

    // The owner writes, and writes into a copy of its own.
    let mut owned = packet(&pool, b"as it was");
    let shared = owned.share().expect("one segment");
    assert_eq!(pool.in_use(), 1, "nothing is copied to share");
    owned.data_mut()[..2].copy_from_slice(b"AS");
    assert_eq!((owned.data(), shared.data()), (&b"AS it was"[..], &b"as it was"[..]));
    assert_eq!(pool.in_use(), 2);
    owned.free();
    assert_eq!(shared.data(), b"as it was");
    assert_eq!(pool.in_use(), 1);
    drop(shared);
    assert_eq!(pool.in_use(), 0);

    // The control arm: of one that nobody shares no copy is made.
    let mut alone = packet(&pool, b"as it was");
    alone.data_mut()[..2].copy_from_slice(b"AS");
    assert_eq!(pool.in_use(), 1);
    alone.free();

    // Whoever is last gives it back, on whatever thread, and growing it does not show.
    let mut owned = packet(&pool, b"to be read");
    let shared: Vec<SharedPacket> = (0..3).map(|_| owned.share().expect("one segment")).collect();
    assert!(owned.append(b" and more"));
    let readers: Vec<_> = shared
        .into_iter()
        .map(|one| std::thread::spawn(move || assert_eq!(one.data(), b"to be read")))
        .collect();
    owned.free();
    readers.into_iter().for_each(|reader| reader.join().expect("it reads"));
    assert_eq!(pool.in_use(), 0);

    // A capture's packet keeps its length on the wire.
    let mut owned = packet(&pool, b"cut");
    owned.set_wire_length(1500);
    let shared = SharedPacket::of(owned);
    assert_eq!((shared.data(), shared.wire_length()), (&b"cut"[..], 1500));
    drop(shared);
    assert_eq!((pool.in_use(), unaccounted_packets()), (0, 0));
}
