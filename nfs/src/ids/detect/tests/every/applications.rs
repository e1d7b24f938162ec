//! Buffers of applications, and transforms.

use super::*;

pub fn of_requests() -> Vec<Row> {
    let http = |names: &'static str, options: &str| {
        let text = format!("alert http any any -> any any ({options} sid:1;)");
        of_http(names, Box::leak(text.into_boxed_str()))
    };
    vec![
        http("http http.uri", r#"http.uri; content:"/a b"; startswith;"#),
        http("http_uri", r#"content:"/a b"; http_uri;"#),
        http("uricontent", r#"uricontent:"/a b";"#),
        http("pcre http.uri", r#"pcre:"/^\/a b/U";"#),
        http("http.uri.raw", r#"http.uri.raw; content:"/a%20b";"#),
        http("http_raw_uri", r#"content:"/a%20b"; http_raw_uri;"#),
        http("urilen", "urilen:8;"),
        http("urilen", "urilen:9<>11,raw;"),
        http("bsize", r#"http.uri; bsize:5<>9;"#),
        http("http.method", r#"http.method; content:"POST"; bsize:4;"#),
        http("http_method", r#"content:"POST"; http_method;"#),
        http("http.host", r#"http.host; content:"example.org"; bsize:11;"#),
        http("http_host", r#"content:"example.org"; http_host;"#),
        http("http.host.raw", r#"http.host.raw; content:"Example.org";"#),
        http("http_raw_host", r#"content:"Example.org"; http_raw_host;"#),
        http("http.user_agent", r#"http.user_agent; content:"probe/1.0"; startswith;"#),
        http("http_user_agent", r#"content:"probe/1.0"; http_user_agent;"#),
        http("http.header", r#"http.header; content:"User-Agent|3a 20|probe";"#),
        http("http_header", r#"content:"|0d 0a|User-Agent|3a| probe"; http_header;"#),
        http("http.header", r#"flow:to_client; http.header; content:"Server|3a| thing";"#),
        http("http.header.raw", r#"http.header.raw; content:"Cookie|3a| c=1";"#),
        http("http_raw_header", r#"content:"Cookie|3a| c=1"; http_raw_header;"#),
        http(
            "http.header_names",
            r#"http.header_names; content:"|0d 0a|Host|0d 0a|User-Agent|0d 0a|Cookie|0d 0a|"; startswith;"#,
        ),
        http("http.cookie", r#"http.cookie; content:"c=1";"#),
        http("http_cookie", r#"content:"s=2"; http_cookie;"#),
        http(
            "http.request_line",
            r#"http.request_line; content:"POST /a"; startswith; content:"HTTP/1.1"; endswith;"#,
        ),
        http("http_request_line", r#"http_request_line; content:"POST /a";"#),
        http("http.request_body", r#"http.request_body; content:"secret"; startswith;"#),
        http("http_client_body", r#"content:"secret"; http_client_body;"#),
        http("http.stat_code", r#"http.stat_code; content:"200";"#),
        http("http_stat_code", r#"content:"200"; http_stat_code;"#),
        http("http.stat_msg", r#"http.stat_msg; content:"Fine"; bsize:4;"#),
        http("http_stat_msg", r#"content:"Fine"; http_stat_msg;"#),
        http(
            "http.response_line",
            r#"http.response_line; content:"HTTP/1.1 200 Fine"; startswith;"#,
        ),
        http("http.response_body", r#"http.response_body; content:"hello";"#),
        http("http_server_body", r#"content:"hello"; http_server_body;"#),
        http("file.data", r#"flow:to_client; file.data; content:"hello"; bsize:5;"#),
        http("file_data", r#"file_data; content:"hello";"#),
        http(
            "http.content_type",
            r#"flow:to_client; http.content_type; content:"text/html"; bsize:9;"#,
        ),
        http("http.server", r#"http.server; content:"thing"; bsize:5;"#),
        http("http.location", r#"http.location; content:"/there";"#),
        http("http.protocol", r#"http.protocol; content:"HTTP/1.1";"#),
        http("to_lowercase", r#"http.method; to_lowercase; content:"post";"#),
        http("strip_whitespace", r#"http.uri; strip_whitespace; content:"/ab";"#),
        http("compress_whitespace", r#"http.user_agent; compress_whitespace; content:"1.0 x";"#),
        http("dotprefix", r#"http.host; dotprefix; content:".example.org"; endswith; bsize:12;"#),
        http("url_decode", r#"http.uri.raw; url_decode; content:"/a b";"#),
        http(
            "to_md5",
            r#"http.method; to_md5; content:"|a0 24 39 ec 22 9d 8b e0 e7 4b 0c 16 02 39 23 10|"; bsize:16;"#,
        ),
        http(
            "to_sha1",
            r#"http.method; to_sha1; content:"|61 ff 81 c3 0a a3 c7 6e 78 af ea 62 b2 e3 bd 1d fa 49 e8 54|"; bsize:20;"#,
        ),
        http(
            "to_sha256",
            r#"http.method; to_sha256; content:"|9a ee 6b 1b cd f6 17 d8 e3 9b b1 f2 b6 24 c6 8e a3 3d eb 9d 48 e0 36 4a ea de d8 36 d3 d0 02 93|"; bsize:32;"#,
        ),
        http("pcrexform", r#"http.uri; pcrexform:"q=(\d)"; content:"1"; bsize:1;"#),
        http("xor", r#"http.method; xor:"01"; content:"QNRU";"#),
        http("pkt_data", r#"http.method; content:"POST"; pkt_data; content:"secret";"#),
    ]
}

pub fn of_others() -> Vec<Row> {
    let of = |app: &str, options: &str| -> &'static str {
        let text = format!("alert {app} any any -> any any ({options} sid:1;)");
        Box::leak(text.into_boxed_str())
    };
    let (named, other) = (|| dns(0, b"example"), || dns(0, b"another"));
    let banner: &[u8] = b"SSH-2.0-libssh-0.7.2\r\n";
    vec![
        Row(
            "dns dns.query",
            of("dns", r#"dns.query; content:"example.org"; bsize:11;"#),
            named(),
            other(),
        ),
        Row("dns_query", of("dns", r#"dns_query; content:"Example"; nocase;"#), named(), other()),
        Row("dns.opcode", of("dns", "dns.opcode:4;"), dns(4, b"example"), named()),
        Row("dns.opcode", of("dns", "dns.opcode:!4;"), named(), dns(4, b"example")),
        Row(
            "tls tls.sni",
            of("tls", r#"tls.sni; content:"www.example.org"; bsize:15;"#),
            tls12(),
            http(),
        ),
        Row("tls_sni", of("tls", r#"tls_sni; content:"example"; nocase;"#), tls12(), http()),
        Row(
            "tls.cert_subject",
            of("tls", r#"tls.cert_subject; content:"CN=www.example.org";"#),
            tls12(),
            tls13(),
        ),
        Row(
            "tls_cert_subject",
            of("tls", r#"tls_cert_subject; content:"C=DE"; startswith;"#),
            tls12(),
            tls13(),
        ),
        Row("tls.version", of("tls", "tls.version:1.2;"), tls12(), tls13()),
        Row("tls.version", of("tls", r#"tls.version:"1.3";"#), tls13(), tls12()),
        Row(
            "ja3.hash",
            of("tls", r#"ja3.hash; content:"104774240db569f8f87b1a28206b25e5";"#),
            tls12(),
            tls13(),
        ),
        Row("ja3_hash", of("tls", r#"ja3_hash; content:"104774240DB569F8";"#), tls12(), tls13()),
        Row(
            "ssh ssh.proto",
            of("ssh", r#"flow:to_server; ssh.proto; content:"2.0";"#),
            ssh(banner),
            ssh(b"SSH-1.99-x\r\n"),
        ),
        Row(
            "ssh_proto",
            of("ssh", r#"flow:to_server; ssh_proto; content:"2.0"; bsize:3;"#),
            ssh(banner),
            ssh(b"SSH-1.99-x\r\n"),
        ),
        Row(
            "ssh.software",
            of("ssh", r#"flow:to_server; ssh.software; content:"libssh-0.7.2";"#),
            ssh(banner),
            ssh(b"SSH-2.0-x\r\n"),
        ),
        Row(
            "ssh_software",
            of("ssh", r#"flow:to_server; ssh_software; content:"libssh"; startswith;"#),
            ssh(banner),
            ssh(b"SSH-2.0-x\r\n"),
        ),
    ]
}
