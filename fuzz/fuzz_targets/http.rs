//! A conversation of HTTP, cut anywhere.
#![no_main]

mod conversation;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| conversation::converse(conversation::tcp(80), input));
