//! chains/wanopt-a.yaml and chains/wanopt-b.yaml: two sites with two hosts each, a box at each end of a slow link.

#[path = "wanopt/coalesced.rs"]
mod coalesced;
#[path = "wanopt/sites.rs"]
mod sites;
mod testkit;

use std::path::Path;
use std::time::Duration;

use sites::{Fetched, Sites};
use testkit::packets::Udp;
use testkit::replayed::Replayed;
use testkit::{is_root, must, skip};

/// Bytes of the files that are fetched.
const SIZE: u64 = 50_000_000;

/// Makes a file of source text and one of noise.
fn files(folder: &Path) {
    let folder = folder.display();
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap_or_default()));
    // The sources of what this program is made of are where it was built; else there are headers.
    must(&format!(
        "(find {home}/registry/src -name '*.rs' | sort; find /usr/include -name '*.h' | sort) 2>/dev/null \
         | tar cf - -P -T - 2>/dev/null | head -c {SIZE} > {folder}/text"
    ));
    must(&format!("head -c {SIZE} /dev/urandom > {folder}/noise"));
    for file in ["text", "noise"] {
        let bytes = std::fs::metadata(format!("{folder}/{file}")).unwrap().len();
        assert_eq!(bytes, SIZE, "there is too little text on this machine");
    }
}

fn share(fetched: &Fetched) -> f64 {
    fetched.bytes_on_link as f64 * 100.0 / SIZE as f64
}

#[test]
fn a_file_of_text_takes_half_the_bytes_and_the_second_time_a_twelfth_and_is_the_same() {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let mut sites = Sites::start(&[]);
    sites.serve("b1", folder.path());
    // The control: the same link without encoding.
    sites.ask_both(&["set", "opt.encoding", "off"]);
    let bare = sites.fetch("a1", "b1", "text");
    println!("as it is: {bare:?}");
    assert!(share(&bare) > 100.0, "control: nothing is encoded");
    sites.ask_both(&["set", "opt.encoding", "on"]);
    let first = sites.fetch("a1", "b1", "text");
    // Another host: what one has fetched the other's packets refer to.
    let second = sites.fetch("a2", "b1", "text");
    // The other control: how fast the cores are that all this shares with others, over a link that has no rate. Two boxes
    // that encode and decode need not be faster than three times what forwarding takes, whatever that is.
    let through = |sites: &Sites| {
        sites.ask_both(&["set", "opt.encoding", "off"]);
        sites.ask_both(&["set", "line.rate", "none"]);
        let took = sites.fetch("a2", "b1", "text").took;
        sites.ask_both(&["set", "line.rate", "20Mbps"]);
        sites.ask_both(&["set", "opt.encoding", "on"]);
        took
    };
    let mut tries = vec![(second.took, through(&sites))];
    let holds = |(took, through): &(Duration, Duration)| *took <= (bare.took / 8).max(3 * *through);
    while !tries.iter().any(holds) && tries.len() < 3 {
        tries.push((sites.fetch("a2", "b1", "text").took, through(&sites)));
    }
    println!("as it is {:?}, then encoded and through: {tries:?}", bare.took);
    let noise = sites.fetch("a1", "b1", "noise");
    for (what, fetched) in [("first", &first), ("second", &second), ("noise", &noise)] {
        println!("{what}: {:.1} %, {fetched:?}", share(fetched));
    }
    println!("{}", sites.ask("b", &["get", "opt.peers"]));
    assert!(share(&first) <= 45.0 * 1.038, "with frames' headers: {:.1} %", share(&first));
    assert!(share(&second) <= 8.0, "{:.1} %", share(&second));
    assert!(tries.iter().any(holds), "eight times faster than {:?}: {tries:?}", bare.took);
    // What TCP sends again is sent again without the boxes, too.
    let (noise, bare) = (noise.bytes_on_link, bare.bytes_on_link);
    assert!(noise * 1000 <= bare * 1005, "{noise} bytes, and {bare} without encoding");
    sites.finish();
}

#[test]
fn messages_that_wait_for_each_other_take_the_second_time_less_than_a_twenty_fifth() {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let lines = || "    coalesce: { delay: 1ms, mtu: 1500 }\n".to_owned();
    let fetch = |lines: [String; 2]| {
        let mut sites = Sites::start_with(&[], lines);
        sites.serve("b1", folder.path());
        let [first, second] = ["a1", "a2"].map(|host| sites.fetch(host, "b1", "text"));
        println!("first {:.2} %: {first:?}", share(&first));
        println!("second {:.2} %: {second:?}", share(&second));
        println!("{}", sites.ask("b", &["get", "opt.peers"]));
        sites.finish();
        (share(&first), share(&second))
    };
    let (first, second) = fetch([lines(), lines()]);
    let (_, control) = fetch(Default::default());
    assert!(first <= 45.0 * 1.038, "with frames' headers: {first:.1} %");
    assert!(second <= 4.0, "{second:.2} %");
    assert!(control > 4.0, "control: {control:.2} %");
}

#[test]
fn over_a_link_that_loses_doubles_and_reorders_the_file_is_the_same_and_hardly_longer() {
    over_a_bad_link(&[], "");
}

#[test]
fn messages_that_wait_for_each_other_survive_such_a_link_too_with_and_without_recovery() {
    for recover in ["off", "all"] {
        over_a_bad_link(&[("RECOVER", recover)], "    coalesce: { delay: 1ms }\n");
    }
}

/// Fetches a file twice over a link that loses, doubles and reorders.
fn over_a_bad_link(environment: &[(&str, &str)], line: &str) {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    must(&format!("truncate -s 10000000 {0}/text", folder.path().display()));
    let bad = [("LOSS", "1%"), ("DUPLICATE", "0.5%"), ("REORDER", "0.5%")];
    let lines = [line.to_owned(), line.to_owned()];
    let mut sites = Sites::start_with(&[bad.as_slice(), environment].concat(), lines);
    sites.serve("b2", folder.path());
    let first = sites.fetch("a1", "b2", "text");
    let second = sites.fetch("a2", "b2", "text");
    let share = |f: &Fetched| f.bytes_on_link as f64 * 100.0 / 10e6;
    println!("first {:.1} %: {first:?}\nsecond {:.1} %: {second:?}", share(&first), share(&second));
    println!("{}", sites.ask("b", &["get", "opt.peers"]));
    assert!(share(&first) <= 45.0 * 1.3 && share(&second) <= 8.0 * 1.3);
    sites.finish();
}

#[test]
fn what_the_link_loses_is_sent_again_before_tcp_misses_it() {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    must(&format!("truncate -s 10000000 {0}/text", folder.path().display()));
    let bad = [("LOSS", "1%"), ("DUPLICATE", "0.5%"), ("REORDER", "0.5%")];
    // As it is, then with the boxes that do not recover, the control, and with those that do.
    let fetch = |recover: &'static str| {
        let mut sites = Sites::start(&[bad.as_slice(), &[("RECOVER", recover)]].concat());
        sites.serve("b2", folder.path());
        sites.ask_both(&["set", "opt.encoding", "off"]);
        let bare = sites.fetch("a1", "b2", "text");
        sites.ask_both(&["set", "opt.encoding", "on"]);
        let first = sites.fetch("a1", "b2", "text");
        let second = sites.fetch("a2", "b2", "text");
        println!("{recover}: as it is {bare:?}\nfirst {first:?}\nsecond {second:?}");
        sites.finish();
        (bare, first, second)
    };
    let (bare, first, second) = fetch("tcp");
    let (bare_too, _, control) = fetch("off");
    let share = |f: &Fetched| f.bytes_on_link as f64 * 100.0 / 10e6;
    assert!(share(&first) <= 45.0 * 1.3 && share(&second) <= 8.0 * 1.3);
    // The link's dice are the same each time, but what falls to whom is not.
    let bare = bare.took.max(bare_too.took);
    assert!(3 * first.took <= bare, "{:?} and {bare:?}", first.took);
    assert!(3 * second.took <= bare, "{:?} and {bare:?}", second.took);
    assert!(2 * second.took <= control.took, "{:?}, control {:?}", second.took, control.took);
}

#[test]
fn boxes_with_one_key_encrypt_for_each_other_and_with_two_they_do_not_speak() {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    must(&format!("truncate -s 5000000 {0}/text", folder.path().display()));
    let line = |name: &str, digit: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, digit.repeat(32)).unwrap();
        format!("    key-file: {}\n    encrypt: yes\n", file.display())
    };
    let share = |f: &Fetched| f.bytes_on_link as f64 * 100.0 / 5e6;
    let fetch = |lines| {
        let mut sites = Sites::start_with(&[("RECOVER", "tcp")], lines);
        sites.serve("b1", folder.path());
        let both = ["a1", "a2"].map(|host| share(&sites.fetch(host, "b1", "text")));
        sites.finish();
        both
    };
    let [first, second] = fetch([line("one", "1"), line("one", "1")]);
    assert!(first < 60.0 && second < 11.0, "{first:.1} % and {second:.1} %");
    let [first, second] = fetch([line("one", "1"), line("two", "2")]);
    assert!(first > 100.0 && second > 100.0, "control: {first:.1} % and {second:.1} %");
}

#[test]
fn a_box_that_restarts_harms_no_connection() {
    if !is_root() {
        return skip("wanopt", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    must(&format!("truncate -s 20000000 {0}/text", folder.path().display()));
    let mut sites = Sites::start(&[]);
    sites.serve("b1", folder.path());
    let fetching = sites.begin_fetch("a1", "b1", "text");
    std::thread::sleep(Duration::from_millis(1500));
    sites.restart("a");
    std::thread::sleep(Duration::from_millis(1500));
    sites.restart("b");
    sites.end_fetch(fetching, "text");
    sites.finish();
}

/// By a capture's clock and without a peer: packets go as they are, beside a hello now and then.
#[test]
fn without_a_peer_that_answers_packets_go_as_they_are() {
    let frame = |n: u64| {
        (1_000_000_000 + n * 10_000_000, Udp { payload: 900, ..Udp::to([10, 2, 0, 2], 9) }.frame())
    };
    let frames: Vec<_> = (0..500).map(frame).collect();
    let run = Replayed::of("chains/wanopt.yaml", frames.iter().cloned()).succeeded();
    let sent = run.sent("wan");
    let plain = sent.iter().filter(|frame| frame.len() > 900).count();
    assert_eq!(plain, 500);
    assert!(sent.iter().filter(|f| f.len() > 900).all(|f| *f == frames[0].1));
    // Ten hellos in five seconds.
    assert_eq!(run.counter("opt", "hello_messages"), sent.len() as u64 - 500);
    assert!((9..=11).contains(&(sent.len() - 500)), "{}", sent.len() - 500);
}

#[test]
fn mistakes_in_the_section_are_shown_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain.yaml");
    let text = "ports: { lan: net_null0, wan: net_null1 }\nfunctions:\n  opt:\n    type: wanopt\n    local: 192.0.2.1\n    \
                memory: 1KiB\n    protocol: 200\n    key-file: nowhere\n    coalesce: { delay: 1s }\n    peers:\n      - { name: a, address: \"fd00::1\", prefixes: 10.0.0.0/8, store: { folder: /nowhere, size: 1KiB } }\n      \
                - { name: b, address: 192.0.2.1, prefixes: 10.0.0.0/8 }\nchains: { site: { from: lan, through: [ opt ], to: wan } }\n";
    std::fs::write(&file, text).unwrap();
    let run = Replayed::of(&file.display().to_string(), []);
    let said = String::from_utf8_lossy(&run.output.stderr).into_owned();
    assert_eq!(run.output.status.code(), Some(2), "{said}");
    for expected in [
        ":6:13: a side of a peer has 1MiB to 64GiB",
        ":7:5: `protocol` does not go with `over`",
        ":8:15: nowhere",
        ":9:24: messages wait for each other up to 100ms",
        ":11:79: /nowhere is no folder",
        ":11:95: a side of a peer has 1MiB to 64GiB",
        "not of one family",
        "behind another peer already",
        "another box's address already",
    ] {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
}
