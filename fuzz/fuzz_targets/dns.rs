//! Messages of DNS: the same bytes as datagrams, and as a stream cut anywhere.
#![no_main]

mod conversation;

use libfuzzer_sys::fuzz_target;
use nfs::ids::app::{App, Ports};

fuzz_target!(|input: &[u8]| {
    conversation::converse(App::udp(Ports { client: 40_000, server: 53 }), input);
    conversation::converse(conversation::tcp(53), input);
});
