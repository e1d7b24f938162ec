//! Contents, numbers and lengths in a payload.

use super::*;

pub fn contents() -> Vec<Row> {
    vec![
        Row(
            "msg gid rev sid classtype priority reference metadata target udp",
            r#"msg:"m"; gid:5; rev:2; classtype:bad-unknown; priority:2; reference:cve,2020-1; metadata:a b, c d; target:dest_ip; content:"a";"#,
            udp(b"a"),
            udp(b"b"),
        ),
        Row("content", r#"content:"a|3b 20|\"b";"#, udp(b"xa; \"bx"), udp(b"a;\"b")),
        Row("content", r#"content:"a"; content:!"b";"#, udp(b"a"), udp(b"ab")),
        Row("nocase", r#"content:"AbC"; nocase;"#, udp(b"xaBcx"), udp(b"xabd")),
        Row("offset depth", r#"content:"b"; offset:2; depth:3;"#, udp(b"aaaab"), udp(b"abaaab")),
        Row(
            "distance within",
            r#"content:"a"; content:"b"; distance:1; within:2;"#,
            udp(b"axb"),
            udp(b"axxxb"),
        ),
        Row(
            "within",
            r#"byte_extract:1,0,n; content:"a"; content:"b"; within:n;"#,
            udp(b"\x02axb"),
            udp(b"\x02axxb"),
        ),
        Row("startswith", r#"content:"ab"; startswith;"#, udp(b"abc"), udp(b"cab")),
        Row("endswith", r#"content:"ab"; endswith;"#, udp(b"cab"), udp(b"abc")),
        Row("rawbytes", r#"content:"ab"; rawbytes;"#, udp(b"ab"), udp(b"ba")),
        Row(
            "fast_pattern",
            r#"content:"ab"; content:"cd"; fast_pattern;"#,
            udp(b"abcd"),
            udp(b"cd"),
        ),
        Row(
            "fast_pattern",
            r#"content:"ab"; content:"cde"; fast_pattern:1,2;"#,
            udp(b"cdeab"),
            udp(b"deab"),
        ),
        Row(
            "fast_pattern",
            r#"content:"cd"; fast_pattern:only; content:"ab";"#,
            udp(b"abcd"),
            udp(b"ab"),
        ),
        Row("Content NoCase", r#"Content:"AB"; NoCase;"#, udp(b"ab"), udp(b"a")),
        Row("pcre", r#"pcre:"/a\d+b/i";"#, udp(b"xA12b"), udp(b"ab")),
        Row("pcre", r#"content:"a"; pcre:"/^b/R";"#, udp(b"ab"), udp(b"acb")),
        Row("pcre", r#"content:"a"; pcre:!"/b/";"#, udp(b"ac"), udp(b"ab")),
        Row("pcre", r#"pcre:"/a.b$/s";"#, udp(b"a\nb"), udp(b"a\nbc")),
        Row("isdataat", r#"isdataat:2;"#, udp(b"abc"), udp(b"ab")),
        Row("isdataat", r#"content:"a"; isdataat:!2,relative;"#, udp(b"xa1"), udp(b"xa12")),
        Row(
            "isdataat",
            r#"content:"a"; isdataat:2, relative, rawbytes;"#,
            udp(b"xa12"),
            udp(b"xa1"),
        ),
        Row("byte_test", "byte_test:2,>=,258,0;", udp(b"\x01\x02"), udp(b"\x01\x01")),
        Row("byte_test", "byte_test:2, !<, 0x0102, 0, little;", udp(b"\x02\x01"), udp(b"\x01\x01")),
        Row("byte_test", "byte_test:3,=,123,1,String,DEC;", udp(b"x123"), udp(b"x124")),
        Row("byte_test", "byte_test:1,&,0x10,0;", udp(b"\x30"), udp(b"\x2f")),
        Row("byte_test", "byte_test:1,=,3,0,bitmask 0xf0;", udp(b"\x3f"), udp(b"\x43")),
        Row(
            "byte_jump",
            r#"byte_jump:1,0,multiplier 2,post_offset 1; content:"x"; within:1;"#,
            udp(b"\x01abcx"),
            udp(b"\x01abx."),
        ),
        Row(
            "byte_jump",
            r#"content:"a"; byte_jump:2,0,relative,string,dec; content:"x"; within:1;"#,
            udp(b"a03...x"),
            udp(b"a02...x"),
        ),
        Row(
            "byte_extract",
            r#"byte_extract:1,0,n; content:"x"; offset:n; depth:1;"#,
            udp(b"\x03abx"),
            udp(b"\x02abx"),
        ),
        Row(
            "byte_math",
            "byte_math:bytes 1,offset 0,oper *,rvalue 3,result n; byte_test:1,=,n,1;",
            udp(b"\x02\x06"),
            udp(b"\x02\x05"),
        ),
        Row(
            "byte_math",
            "byte_math:bytes 1, offset 0, oper -, rvalue 3, result n, bitmask 0x0f; isdataat:!n;",
            udp(b"\x06ab"),
            udp(b"\x05abc"),
        ),
        Row("dsize", "dsize:2<>5;", udp(b"abc"), udp(b"abcde")),
        Row("dsize", "dsize:!3;", udp(b"ab"), udp(b"abc")),
        Row("dsize", "dsize:<=3;", udp(b"abc"), udp(b"abcd")),
        Row(
            "base64_decode base64_data",
            r#"content:"x="; base64_decode:bytes 8, offset 0, relative; base64_data; content:"hello";"#,
            udp(b"x=aGVsbG8=rest"),
            udp(b"x=d29ybGQ="),
        ),
    ]
}
