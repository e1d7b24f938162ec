//! A conversation of TLS, cut anywhere.
#![no_main]

mod conversation;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| conversation::converse(conversation::tcp(443), input));
