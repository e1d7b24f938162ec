//! What hosts say to each other in these tests, and rules that all fire on it.

use std::io::Write;

use super::super::Who::{self, Client, Server};

/// What two hosts say to each other, in turns.
pub struct Conversation {
    pub name: &'static str,
    /// The server's.
    pub port: u16,
    pub turns: Vec<(Who, Vec<u8>)>,
    /// Each fires, but for those whose number is above [`NEVER`].
    pub rules: &'static str,
}

/// Rules from here on fire on no part of a conversation.
pub const NEVER: u32 = 100;

/// All of them.
pub fn all() -> Vec<Conversation> {
    vec![form(), chunks(), compressed(), pipelined(), names(), hello(), greeting(), raw()]
}

fn turn(who: Who, bytes: impl AsRef<[u8]>) -> (Who, Vec<u8>) {
    (who, bytes.as_ref().to_vec())
}

fn form() -> Conversation {
    Conversation {
        name: "a form",
        port: 80,
        turns: vec![
            turn(
                Client,
                "POST /cgi-bin/..%2f/login.php?user=%61dmin HTTP/1.1\r\nHost: www.example.com\r\n\
                 User-Agent: Mozilla/5.0 (Evil)\r\nCookie: session=0123456789\r\nContent-Length: 31\r\n\r\n\
                 name=admin&password=letmein1234",
            ),
            turn(
                Server,
                "HTTP/1.1 302 Found\r\nServer: nginx/1.2\r\nLocation: /welcome\r\nSet-Cookie: a=b\r\n\
                 Content-Length: 0\r\n\r\n",
            ),
        ],
        rules: r#"
            alert http any any -> any any (http.uri; content:"/login.php?user=admin"; endswith; sid:1;)
            alert http any any -> any any (http.uri.raw; content:"%2f/login"; nocase; sid:2;)
            alert http any any -> any any (http.method; content:"POST"; http.host; content:"www.example.com"; sid:3;)
            alert http any any -> any any (http.user_agent; content:"(Evil)"; endswith; http.cookie; content:"session="; startswith; sid:4;)
            alert http any any -> any any (http.request_body; content:"password="; pcre:"/^letmein\d{4}$/R"; sid:5;)
            alert http any any -> any any (http.header_names; content:"|0d 0a|Host|0d 0a|User-Agent|0d 0a|"; sid:6;)
            alert http any any -> any any (flow:established,to_client; http.stat_code; content:"302"; http.location; content:"/welcome"; sid:7;)
            alert tcp any any -> any 80 (flow:established,to_server; content:"POST /cgi-bin/"; startswith; content:"letmein"; distance:20; sid:8;)
            alert tcp any any -> any 80 (flow:established,to_server; content:"session="; byte_test:4,>=,123,0,relative,string,dec; sid:9;)
            alert tcp any 80 -> any any (flow:established,to_client; pcre:"/Server: nginx\/\d\.\d\r\nLocation:/"; sid:10;)
            alert tcp any any -> any any (content:"Cookie|3a 20|session="; content:"6789"; distance:6; within:4; sid:11;)
            alert http any any -> any any (http.uri; content:"/login.php"; http.request_body; content:"name=admin"; startswith; content:"1234"; endswith; sid:12;)
            alert http any any -> any any (http.request_body; content:"nobody"; sid:101;)
            alert tcp any any -> any any (content:"letmein5"; sid:102;)
        "#,
    }
}

fn chunks() -> Conversation {
    Conversation {
        name: "chunks",
        port: 80,
        turns: vec![
            turn(Client, "GET /page HTTP/1.1\r\nHost: a\r\n\r\n"),
            turn(
                Server,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n\r\n\
                 7\r\n<html><\r\n8;x=y\r\nscript>e\r\n10\r\nval(unescape('%u\r\n9\r\n9090'))</\r\n7\r\nscript>\r\n0\r\n\r\n",
            ),
        ],
        rules: r#"
            alert http any any -> any any (file.data; content:"<script>eval(unescape("; sid:1;)
            alert http any any -> any any (flow:to_client; http.response_body; content:"%u9090"; content:"</script>"; distance:0; isdataat:!1,relative; sid:2;)
            alert http any any -> any any (file.data; pcre:"/<script>.*unescape\(.(%u[0-9a-f]{4})+/s"; sid:3;)
            alert http any any -> any any (http.stat_code; content:"200"; http.content_type; content:"text/html"; bsize:9; sid:4;)
            alert tcp any any -> any any (content:"|0d 0a|8|3b|x=y|0d 0a|"; sid:5;)
            alert http any any -> any any (file.data; content:"script>e|0d|"; sid:101;)
        "#,
    }
}

fn compressed() -> Conversation {
    let page = "<html><body>".to_owned()
        + &"nothing to see here. ".repeat(40)
        + "powershell -enc SQBFAFgA</body></html>";
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zipped.write_all(page.as_bytes()).expect("memory takes all");
    let zipped = zipped.finish().expect("memory takes all");
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        zipped.len()
    )
    .into_bytes();
    answer.extend_from_slice(&zipped);
    Conversation {
        name: "a compressed page",
        port: 8080,
        turns: vec![turn(Client, "GET /update HTTP/1.1\r\nHost: b\r\n\r\n"), (Server, answer)],
        rules: r#"
            alert http any any -> any any (file.data; content:"powershell -enc "; content:"SQBF"; distance:0; within:4; sid:1;)
            alert http any any -> any any (flow:to_client,established; file.data; content:"<html>"; startswith; content:"</html>"; endswith; sid:2;)
            alert tcp any any -> any any (content:"powershell"; sid:101;)
        "#,
    }
}

fn pipelined() -> Conversation {
    let request = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: c\r\n\r\n");
    let answer =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Conversation {
        name: "requests one behind another",
        port: 80,
        turns: vec![
            turn(Client, request("one") + &request("two?cmd=id") + &request("three")),
            turn(Server, answer("first") + &answer("uid=0(root) gid=0(root)")),
            turn(Server, answer("third")),
            turn(Client, request("four/evil.exe")),
            turn(Server, answer("MZ\0\0\0\0PE\0\0")),
        ],
        rules: r#"
            alert http any any -> any any (http.uri; content:"/two?cmd=id"; bsize:11; sid:1;)
            alert http any any -> any any (file.data; content:"uid=0|28|root|29|"; sid:2;)
            alert http any any -> any any (http.uri; content:".exe"; endswith; flowbits:set,exe; sid:3;)
            alert http any any -> any any (flowbits:isset,exe; flow:to_client; file.data; content:"MZ"; startswith; content:"PE"; distance:4; sid:4;)
            alert http any any -> any any (urilen:6; http.uri; content:"/three"; sid:5;)
            alert tcp any any -> any any (content:"uid=0"; content:"third"; distance:10; sid:6;)
            alert http any any -> any any (http.uri; content:"/one"; file.data; content:"third"; sid:101;)
        "#,
    }
}

fn names() -> Conversation {
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03c2c\x07example\x03com\x00\x00\x10\x00\x01";
    let other =
        b"\x43\x21\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05other\x03net\x00\x00\x01\x00\x01";
    let framed = |message: &[u8]| {
        let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(message);
        bytes
    };
    let mut both = framed(other);
    both.extend(framed(query));
    Conversation {
        name: "DNS over TCP",
        port: 53,
        turns: vec![(Client, both)],
        rules: r#"
            alert dns any any -> any any (dns.query; content:"c2c.example.com"; bsize:15; sid:1;)
            alert dns any any -> any any (dns.query; dotprefix; content:".other.net"; endswith; sid:2;)
            alert dns any any -> any any (dns.opcode:0; sid:3;)
            alert tcp any any -> any 53 (content:"|07|example|03|com|00 00 10|"; sid:4;)
            alert dns any any -> any any (dns.query; content:"c2c.other"; sid:101;)
        "#,
    }
}

fn hello() -> Conversation {
    let (client, server) = (
        include_bytes!("../../../app/tls/data/client12.bin"),
        include_bytes!("../../../app/tls/data/server12.bin"),
    );
    Conversation {
        name: "a handshake of TLS",
        port: 4433,
        turns: vec![turn(Client, &client[..204]), turn(Server, &server[..749])],
        rules: r#"
            alert tls any any -> any any (tls.sni; content:"www.example.org"; bsize:15; sid:1;)
            alert tls any any -> any any (ja3.hash; content:"104774240DB569F8f87b1a28206b25e5"; sid:2;)
            alert tls any any -> any any (tls.cert_subject; content:"O=Example Works"; sid:3;)
            alert tls any any -> any any (flow:to_client; tls.version:1.2; sid:4;)
            alert tcp any any -> any any (flow:to_server; content:"|16 03 01|"; startswith; content:"www.example.org"; sid:5;)
            alert tls any any -> any any (tls.cert_fingerprint; content:"0A:C4:ab:e8"; startswith; sid:6;)
            alert tls any any -> any any (tls.cert_serial; content:"27:ee:3B:cd"; startswith; sid:7;)
            alert tls any any -> any any (tls.sni; content:"example.com"; sid:101;)
        "#,
    }
}

fn greeting() -> Conversation {
    Conversation {
        name: "SSH",
        port: 2222,
        turns: vec![
            turn(Server, "SSH-2.0-OpenSSH_7.4p1 Debian-10\r\n"),
            turn(Client, "SSH-2.0-libssh2_1.4.3\r\n"),
        ],
        rules: r#"
            alert ssh any any -> any any (ssh.software; content:"libssh2_1.4"; startswith; sid:1;)
            alert ssh any any -> any any (flow:to_client; ssh.software; content:"OpenSSH_7.4p1"; ssh.proto; content:"2.0"; sid:2;)
            alert ssh any any -> any any (ssh.software; content:"dropbear"; sid:101;)
        "#,
    }
}

fn raw() -> Conversation {
    let mut shell = b"uname -a; id\n".to_vec();
    shell.extend_from_slice(b"\x00\x10secret-beacon-id\x90\x90\x90\x90/bin/sh\x00tail");
    shell.extend((0..3000u32).map(|i| (i * 31 % 251) as u8));
    shell.extend_from_slice(b"END-OF-SHELL");
    Conversation {
        name: "nobody's protocol",
        port: 31_337,
        turns: vec![
            turn(Server, "220 backdoor ready\r\n"),
            (Client, shell),
            turn(Server, "uid=0(root) gid=0(root) groups=0(root)\n"),
            turn(Client, "exit\n"),
        ],
        rules: r#"
            alert tcp any any -> any any (content:"|90 90 90 90|/bin/sh|00|"; sid:1;)
            alert tcp any any -> any any (flow:to_server,established; pcre:"/secret-[a-z]+-id\x90+\/bin\/(ba)?sh/"; sid:2;)
            alert tcp any any -> any any (content:"id|0a|"; byte_jump:2,0,relative; content:"|90 90|"; within:2; sid:3;)
            alert tcp any any -> any any (content:"id|0a|"; byte_extract:2,0,size,relative; content:"|90|"; distance:size; within:1; sid:4;)
            alert tcp any any -> any any (flow:to_client; content:"uid=0|28|root|29|"; nocase; content:"groups="; distance:0; sid:5;)
            alert tcp-stream any any -> any any (content:"uname -a"; startswith; sid:6;)
            alert tcp any any -> any any (content:"END-OF-SHELL"; isdataat:!100,relative; sid:7;)
            alert tcp any any -> any any (flow:to_client; content:"backdoor"; offset:4; depth:8; sid:8;)
            alert tcp any any -> any any (flow:to_server; content:"SHELLexit|0a|"; sid:9;)
            alert tcp any any -> any any (content:"secret-"; content:"/bin/bash"; distance:0; sid:101;)
        "#,
    }
}
