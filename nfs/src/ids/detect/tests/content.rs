//! Contents and expressions.

use super::*;

/// Options of a rule, a payload, and whether the rule matches it.
type Case = (&'static str, &'static [u8], bool);

fn check(cases: &[Case]) {
    for (options, payload, expected) in cases {
        assert_eq!(holds(options, payload), *expected, "{options} {}", payload.escape_ascii());
    }
}

#[test]
fn a_content_is_anywhere_in_its_own_case_or_in_either() {
    check(&[
        (r#"content:"needle";"#, b"a needle in hay", true),
        (r#"content:"needle";"#, b"a Needle in hay", false),
        (r#"content:"needle"; nocase;"#, b"a NeedLE in hay", true),
        (r#"content:"|00 ff|a";"#, b"x\x00\xffa", true),
        (r#"content:"|00 ff|a";"#, b"x\x00\xff", false),
        (r#"content:"a"; content:"b";"#, b"b a", true),
        (r#"content:"a"; content:"b";"#, b"a", false),
        (r#"content:"needle";"#, b"", false),
    ]);
}

#[test]
fn a_content_is_where_offset_and_depth_allow() {
    check(&[
        (r#"content:"ab"; offset:2;"#, b"xxab", true),
        (r#"content:"ab"; offset:3;"#, b"xxab", false),
        (r#"content:"ab"; offset:3;"#, b"xxabab", true),
        (r#"content:"ab"; depth:2;"#, b"abxx", true),
        (r#"content:"ab"; depth:2;"#, b"xabx", false),
        (r#"content:"ab"; depth:3;"#, b"xabx", true),
        (r#"content:"ab"; offset:1; depth:2;"#, b"xabx", true),
        (r#"content:"ab"; offset:1; depth:2;"#, b"xxab", false),
        (r#"content:"ab"; startswith;"#, b"abab", true),
        (r#"content:"ab"; startswith;"#, b"xab", false),
        (r#"content:"ab"; endswith;"#, b"abab", true),
        (r#"content:"ab"; endswith;"#, b"abx", false),
        (r#"content:"ab"; startswith; endswith;"#, b"abab", false),
        (r#"content:"ab"; startswith; endswith;"#, b"ab", true),
    ]);
}

#[test]
fn a_relative_content_is_behind_the_last_match() {
    check(&[
        (r#"content:"ab"; content:"cd"; distance:0;"#, b"abcd", true),
        (r#"content:"ab"; content:"cd"; distance:0;"#, b"cdab", false),
        (r#"content:"ab"; content:"cd"; distance:1;"#, b"abcd", false),
        (r#"content:"ab"; content:"cd"; distance:1;"#, b"abxcd", true),
        (r#"content:"ab"; content:"cd"; within:2;"#, b"abcd", true),
        (r#"content:"ab"; content:"cd"; within:2;"#, b"abxcd", false),
        (r#"content:"ab"; content:"cd"; within:3;"#, b"abxcd", true),
        (r#"content:"ab"; content:"cd"; distance:2; within:2;"#, b"abxxcd", true),
        (r#"content:"ab"; content:"cd"; distance:2; within:2;"#, b"abxxxcd", false),
        (r#"content:"abcd"; content:"bc"; distance:-3; within:2;"#, b"abcd", true),
        (r#"content:"abc"; nocase; content:"ab"; distance:-10; within:9;"#, b"xxABcab", false),
    ]);
}

#[test]
fn another_match_of_a_content_is_tried_when_what_follows_fails() {
    check(&[
        (r#"content:"abc"; content:"d"; distance:0; within:1;"#, b"abcabcd", true),
        (r#"content:"abc"; nocase; content:"d"; distance:0; within:1;"#, b"abcaBcd", true),
        (
            r#"content:"this"; content:"is"; within:6; content:"big"; within:8; content:"string"; within:8;"#,
            b"now this is is big big string now",
            true,
        ),
        (
            r#"content:"this"; content:"is"; within:9; content:"big"; within:12; content:"string"; within:8;"#,
            b"now this is is is big big big string now",
            true,
        ),
        (
            r#"content:"thus"; offset:8; content:"is"; within:6; content:"big"; within:8;"#,
            b"         thus thus is a big",
            true,
        ),
        (
            r#"content:"a"; content:"b"; distance:0; within:1; content:"c"; distance:0; within:1;"#,
            b"ab abx abc",
            true,
        ),
        (
            r#"content:"a"; content:"b"; distance:0; within:1; content:"c"; distance:0; within:1;"#,
            b"ab bc ac",
            false,
        ),
        (
            r#"pcre:"/super/"; content:"nova"; within:7;"#,
            b"this is a super duper nova in super nova now",
            true,
        ),
        (
            r#"pcre:"/super/"; content:"nova"; within:7;"#,
            b"this is a super duper nova in super duper",
            false,
        ),
    ]);
}

#[test]
fn a_negated_content_is_not_where_it_is_looked_for() {
    check(&[
        (r#"content:"a"; content:!"b";"#, b"a", true),
        (r#"content:"a"; content:!"b";"#, b"ab", false),
        (r#"content:"a"; content:!"b"; distance:0; within:1;"#, b"ab", false),
        (r#"content:"a"; content:!"b"; distance:0; within:1;"#, b"acb", true),
        (r#"content:"a"; content:!"b"; distance:0; within:1;"#, b"abac", true),
        (r#"content:"a"; content:!"b"; depth:2;"#, b"xxab", true),
        (r#"content:"a"; content:!"b"; depth:2;"#, b"xba", false),
        (r#"content:"a"; content:!"b"; startswith;"#, b"ab", true),
        (r#"content:"a"; content:!"b"; endswith;"#, b"ba", true),
        (r#"content:"a"; content:!"b"; endswith;"#, b"ab", false),
        (r#"content:"a"; content:!"b"; endswith;"#, b"bab", false),
        (
            r#"content:"fix"; content:"this"; within:6; content:!"and"; distance:0;"#,
            b"we need to fix this and yes fix this now",
            true,
        ),
    ]);
}

#[test]
fn a_rule_of_negated_contents_alone_needs_a_payload_without_them() {
    check(&[
        (r#"content:!"b";"#, b"a", true),
        (r#"content:!"b";"#, b"b", false),
        (r#"content:!"b";"#, b"", false),
    ]);
}

#[test]
fn an_expression_matches_anywhere_or_behind_the_last_match() {
    check(&[
        (r#"pcre:"/a[0-9]b/";"#, b"xa1b", true),
        (r#"pcre:"/a[0-9]b/";"#, b"xaab", false),
        (r#"pcre:"/A[0-9]B/i";"#, b"xa1b", true),
        (r#"content:"x"; pcre:"/^a/R";"#, b"xa", true),
        (r#"content:"x"; pcre:"/^a/R";"#, b"xxba", false),
        (r#"content:"x"; pcre:"/^a/R";"#, b"xbxa", true),
        (r#"content:"x"; pcre:!"/a/";"#, b"xb", true),
        (r#"content:"x"; pcre:!"/a/";"#, b"xa", false),
        (r#"content:"x"; pcre:!"/a/R";"#, b"ax", true),
        (r#"pcre:"/[a-z]+/"; content:"1"; distance:0; within:1;"#, b"ab cd1", true),
        (r#"pcre:"/a(?=b)/"; content:"b"; distance:0; within:1;"#, b"ac ab", true),
    ]);
}

#[test]
fn a_part_of_a_content_may_be_what_it_is_looked_up_by() {
    check(&[
        (r#"content:"abcdef"; fast_pattern:2,2;"#, b"xxabcdefxx", true),
        (r#"content:"abcdef"; fast_pattern:2,2;"#, b"xxcdxx", false),
        (r#"content:"abc"; content:"defghi"; nocase; fast_pattern;"#, b"abc DEFghi", true),
        (r#"content:"abc"; content:"defghi"; fast_pattern:only;"#, b"abc defghi", true),
    ]);
}

#[test]
fn what_would_take_too_long_comes_to_no() {
    let mut watch = Watch::new(
        r#"alert udp any any -> any any (content:"a"; content:"a"; distance:1; content:"a"; distance:1; content:"b"; distance:1; sid:1;)"#,
    );
    assert_eq!(watch.lone(&Crafted::udp(&[b'a'; 1400])), NONE);
    assert_eq!(watch.detector.given_up(), 1);
}
