//! Numbers in bytes, lengths, and what is decoded.

use super::*;

type Case = (&'static str, &'static [u8], bool);

fn check(cases: &[Case]) {
    for (options, payload, expected) in cases {
        assert_eq!(holds(options, payload), *expected, "{options} {}", payload.escape_ascii());
    }
}

#[test]
fn a_number_compares_as_byte_test_says() {
    check(&[
        ("byte_test:2,=,258,0;", b"\x01\x02", true),
        ("byte_test:2,=,513,0,little;", b"\x01\x02", true),
        ("byte_test:2,=,0x102,0;", b"\x01\x02", true),
        ("byte_test:2,=,0402,0;", b"\x01\x02", true),
        ("byte_test:8,=,0xffffffffffffffff,0;", &[0xff; 8], true),
        ("byte_test:1,>,1,1;", b"\x01\x02", true),
        ("byte_test:1,>,2,1;", b"\x01\x02", false),
        ("byte_test:1,!=,2,1;", b"\x01\x03", true),
        ("byte_test:1,!>,2,1;", b"\x01\x02", true),
        ("byte_test:1,&,128,0;", b"\x81", true),
        ("byte_test:1,&,128,0;", b"\x01", false),
        ("byte_test:4,=,1234,0,string,dec;", b"1234", true),
        ("byte_test:4,=,0x1234,0,string,hex;", b"1234", true),
        ("byte_test:2,=,15,0,bitmask 0x0ff0;", b"\x00\xff", true),
        ("byte_test:4,=,1,0;", b"\x00\x00\x01", false),
        (r#"content:"ab"; byte_test:1,=,5,0,relative;"#, b"ab\x05", true),
        (r#"content:"ab"; byte_test:1,=,5,-3,relative;"#, b"\x05ab", true),
        (r#"content:"ab"; byte_test:1,=,5,-4,relative;"#, b"\x05ab", false),
        (r#"content:"ab"; byte_test:1,=,5,0,relative;"#, b"ab\x04ab\x05", true),
    ]);
}

#[test]
fn a_jump_moves_where_the_next_test_begins() {
    check(&[
        (r#"byte_jump:1,0; content:"x"; distance:0; within:1;"#, b"\x02abx", true),
        (r#"byte_jump:1,0; content:"x"; distance:0; within:1;"#, b"\x01abx", false),
        (r#"byte_jump:1,0,from_beginning; content:"x"; distance:0; within:1;"#, b"\x03abx", true),
        (r#"byte_jump:1,0,multiplier 2; content:"x"; distance:0; within:1;"#, b"\x01abx", true),
        (r#"byte_jump:1,0,align; content:"x"; distance:0; within:1;"#, b"\x03abcdx", true),
        (r#"byte_jump:1,0,post_offset -1; content:"x"; distance:0; within:1;"#, b"\x03abx", true),
        (
            r#"byte_jump:0,0,from_end,post_offset -2; content:"x"; distance:0; within:1;"#,
            b"abxc",
            true,
        ),
        (
            r#"content:"a"; byte_jump:1,0,relative; content:"x"; distance:0; within:1;"#,
            b"a\x01bx",
            true,
        ),
        ("byte_jump:1,0;", b"\x09ab", false),
        (
            r#"content:"b"; byte_jump:0,0,relative,post_offset -9; content:"a"; distance:0; within:1;"#,
            b"ab",
            true,
        ),
    ]);
}

#[test]
fn what_was_extracted_is_used_by_later_tests() {
    check(&[
        (r#"byte_extract:1,0,n; content:"x"; offset:n;"#, b"\x03abx", true),
        (r#"byte_extract:1,0,n; content:"x"; offset:n;"#, b"\x03xab", false),
        (r#"byte_extract:1,0,n; byte_test:1,=,n,1;"#, b"\x03\x03", true),
        (r#"byte_extract:1,0,n; byte_test:1,=,n,1;"#, b"\x03\x04", false),
        (r#"byte_extract:1,0,n,multiplier 2; byte_test:1,=,n,1;"#, b"\x03\x06", true),
        (r#"byte_extract:1,0,n; isdataat:n;"#, b"\x02ab", true),
        (r#"byte_extract:1,0,n; isdataat:n;"#, b"\x03ab", false),
        (
            r#"byte_extract:1,0,n; content:"ab"; distance:0; content:"x"; distance:n; within:1;"#,
            b"\x02ab..x",
            true,
        ),
        (
            r#"byte_math:bytes 1, offset 0, oper *, rvalue 3, result n; byte_test:1,=,n,1;"#,
            b"\x02\x06",
            true,
        ),
        (
            r#"byte_math:bytes 1, offset 0, oper <<, rvalue 2, result n; byte_test:1,=,n,1;"#,
            b"\x02\x08",
            true,
        ),
        (
            r#"byte_extract:1,0,d; byte_math:bytes 1, offset 1, oper /, rvalue d, result n; byte_test:1,=,n,2;"#,
            b"\x02\x08\x04",
            true,
        ),
        (
            r#"byte_extract:1,0,d; byte_math:bytes 1, offset 1, oper /, rvalue d, result n; byte_test:1,=,n,2;"#,
            b"\x00\x08\x04",
            false,
        ),
    ]);
}

#[test]
fn lengths_are_asked_for_from_the_start_or_behind_the_last_match() {
    check(&[
        ("isdataat:2;", b"abc", true),
        ("isdataat:3;", b"abc", false),
        ("isdataat:!3;", b"abc", true),
        (r#"content:"a"; isdataat:2,relative;"#, b"abc", true),
        (r#"content:"a"; isdataat:3,relative;"#, b"abc", false),
        (r#"content:"a"; isdataat:!1,relative;"#, b"ba", true),
        (r#"content:"a"; isdataat:!1,relative;"#, b"bab", false),
        (r#"content:"a"; isdataat:!1,relative;"#, b"baba", true),
    ]);
}

#[test]
fn base64_is_decoded_and_looked_into() {
    check(&[
        (r#"base64_decode; base64_data; content:"Hello";"#, b"SGVsbG8=", true),
        (r#"base64_decode; base64_data; content:"hello";"#, b"SGVsbG8=", false),
        (r#"base64_decode:offset 2; base64_data; content:"Hello";"#, b"::SGVsbG8=", true),
        (
            r#"content:"x"; base64_decode:relative; base64_data; content:"Hello";"#,
            b"xxSGVsbG8=",
            true,
        ),
        (
            r#"content:"x"; base64_decode:bytes 4,relative; base64_data; content:"Hello";"#,
            b"xSGVsbG8=",
            false,
        ),
        (
            r#"content:"x"; base64_decode:bytes 4,relative; base64_data; content:"Hel";"#,
            b"xSGVsbG8=",
            true,
        ),
    ]);
}
