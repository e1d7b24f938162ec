//! Any text as a file of rules: each rule loads, is skipped or is broken, with a place that is in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs::ids::rules::{Classes, Rules, Setup, Source, Variables};

fuzz_target!(|text: &[u8]| {
    let group = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (variables, wrong) =
        Variables::new(&group("HOME_NET", "[10.0.0.0/8,!10.1.0.0/16]"), &group("HTTP_PORTS", "[80,8000:]"));
    assert!(wrong.is_empty());
    let setup = Setup { variables: &variables, classes: &Classes::default(), events: &["http.invalid_uri"] };
    let rules = Rules::read(&[Source { name: "x", text }], &setup);
    let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    for left_out in rules.skipped.iter().chain(&rules.broken).chain(&rules.replaced) {
        assert!((1..=lines).contains(&(left_out.line as usize)), "{left_out}");
        assert!(!left_out.why.is_empty());
    }
    for rule in &rules.rules {
        assert!(rule.sid > 0 && rule.priority > 0);
        if let Some(pattern) = rule.fast_pattern {
            assert!(pattern.inspect < rule.inspects.len() && pattern.length > 0);
        }
    }
});
