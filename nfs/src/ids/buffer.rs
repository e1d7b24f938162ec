//! The buffers that contents are looked for in, by the names that rules give them.
//!
//! Rules name them, packets and transactions ([`super::app::Transaction`]) answer with their bytes: both know a buffer by
//! [`Buffer`] and nothing else, so that neither needs the other.

/// A protocol of applications that rules may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum App {
    /// HTTP/1.
    Http,
    /// DNS over UDP and TCP.
    Dns,
    /// TLS.
    Tls,
    /// SSH.
    Ssh,
}

impl App {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Http, Self::Dns, Self::Tls, Self::Ssh];

    /// By the words that rules have for it.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "http" | "http1" => Some(Self::Http),
            "dns" => Some(Self::Dns),
            "tls" | "ssl" => Some(Self::Tls),
            "ssh" => Some(Self::Ssh),
            _ => None,
        }
    }

    /// As rules and logs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
        }
    }
}

/// Which direction of a flow a packet, stream or buffer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

impl Side {
    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    /// 0 and 1.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Of what a buffer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A packet's payload and the stream: a rule's scope says which of them.
    Payload,
    /// A header of a packet.
    Header,
    /// A transaction of this application.
    Transaction(App),
    /// The body of a transaction, of any application that carries files.
    File,
    /// What the rule itself decoded.
    Decoded,
}

/// How often a buffer is there in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// At most once: all that a rule asks of it is asked of the same bytes.
    One,
    /// Several times: each time that a rule names it begins anew, and may match another one.
    Many,
}

/// What is known of a buffer besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct BufferInfo {
    /// Which.
    pub buffer: Buffer,
    /// The name that Suricata documents.
    pub name: &'static str,
    /// Other names of the sticky buffer.
    pub aliases: &'static [&'static str],
    /// The keyword that, behind a content, says that the content is looked for here.
    pub modifier: Option<&'static str>,
    /// The flag of a `pcre` that says the same.
    pub flag: Option<u8>,
    /// Of what it is made.
    pub origin: Origin,
    /// The direction in which it is, `None`: both.
    pub side: Option<Side>,
    /// Contents of buffers with the lowest number are preferred as a rule's fast pattern.
    pub priority: u8,
    /// How often it is there.
    pub instances: Instances,
}

macro_rules! buffers {
    ($($(#[$doc:meta])* $buffer:ident $name:literal [$($alias:literal)*] $modifier:expr, $flag:expr, $origin:expr, $side:expr,
        $priority:literal, $instances:ident;)*) => {
        /// Bytes that contents are looked for in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Buffer {
            $($(#[$doc])* $buffer,)*
        }

        /// All buffers, in the order of [`Buffer`].
        pub const BUFFERS: &[BufferInfo] = &[$(BufferInfo {
            buffer: Buffer::$buffer,
            name: $name,
            aliases: &[$($alias),*],
            modifier: $modifier,
            flag: $flag,
            origin: $origin,
            side: $side,
            priority: $priority,
            instances: Instances::$instances,
        },)*];

        impl Buffer {
            /// What is known of it.
            pub const fn info(self) -> &'static BufferInfo {
                match self {
                    $(Self::$buffer => &BUFFERS[Self::$buffer as usize],)*
                }
            }
        }
    };
}

const HTTP: Origin = Origin::Transaction(App::Http);
const DNS: Origin = Origin::Transaction(App::Dns);
const TLS: Origin = Origin::Transaction(App::Tls);
const SSH: Origin = Origin::Transaction(App::Ssh);
const SERVER: Option<Side> = Some(Side::ToServer);
const CLIENT: Option<Side> = Some(Side::ToClient);

// The priorities are those that Suricata registers its buffers with.
buffers! {
    /// A packet's payload, or the stream.
    Payload "pkt_data" [] None, None, Origin::Payload, None, 3, One;
    /// The IPv4 header with its options.
    Ipv4Header "ipv4.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The IPv6 header.
    Ipv6Header "ipv6.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The TCP header with its options.
    TcpHeader "tcp.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The UDP header.
    UdpHeader "udp.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The ICMP header.
    Icmpv4Header "icmpv4.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The ICMPv6 header.
    Icmpv6Header "icmpv6.hdr" [] None, None, Origin::Header, None, 2, One;
    /// The URI, normalised.
    HttpUri "http.uri" [] Some("http_uri"), Some(b'U'), HTTP, SERVER, 2, One;
    /// The URI as it was sent.
    HttpUriRaw "http.uri.raw" [] Some("http_raw_uri"), Some(b'I'), HTTP, SERVER, 2, One;
    /// The method.
    HttpMethod "http.method" [] Some("http_method"), Some(b'M'), HTTP, SERVER, 4, One;
    /// The host in lower case, without port.
    HttpHost "http.host" [] Some("http_host"), Some(b'W'), HTTP, SERVER, 2, One;
    /// The host as it was sent.
    HttpHostRaw "http.host.raw" [] Some("http_raw_host"), Some(b'Z'), HTTP, SERVER, 2, One;
    /// The value of `User-Agent`.
    HttpUserAgent "http.user_agent" [] Some("http_user_agent"), Some(b'V'), HTTP, SERVER, 2, One;
    /// All headers but cookies, normalised.
    HttpHeader "http.header" [] Some("http_header"), Some(b'H'), HTTP, None, 2, One;
    /// All headers as they were sent.
    HttpHeaderRaw "http.header.raw" [] Some("http_raw_header"), Some(b'D'), HTTP, None, 2, One;
    /// The names of all headers.
    HttpHeaderNames "http.header_names" ["http_header_names"] None, None, HTTP, None, 2, One;
    /// One header of a request, `name: value`.
    HttpRequestHeader "http.request_header" [] None, None, HTTP, SERVER, 2, Many;
    /// One header of a response, `name: value`.
    HttpResponseHeader "http.response_header" [] None, None, HTTP, CLIENT, 2, Many;
    /// The value of `Cookie` or `Set-Cookie`.
    HttpCookie "http.cookie" [] Some("http_cookie"), Some(b'C'), HTTP, None, 2, One;
    /// The request line.
    HttpRequestLine "http.request_line" ["http_request_line"] None, None, HTTP, SERVER, 2, One;
    /// The response line.
    HttpResponseLine "http.response_line" ["http_response_line"] None, None, HTTP, CLIENT, 2, One;
    /// The request or response line, and all headers.
    HttpStart "http.start" ["http_start"] None, None, HTTP, None, 2, One;
    /// The version, as in the request or response line.
    HttpProtocol "http.protocol" ["http_protocol"] None, None, HTTP, None, 2, One;
    /// The body of a request, its encoding undone.
    HttpRequestBody "http.request_body" [] Some("http_client_body"), Some(b'P'), HTTP, SERVER, 2, One;
    /// The body of a response, its encoding undone.
    HttpResponseBody "http.response_body" [] Some("http_server_body"), Some(b'Q'), HTTP, CLIENT, 2, One;
    /// The status code.
    HttpStatCode "http.stat_code" [] Some("http_stat_code"), Some(b'S'), HTTP, CLIENT, 4, One;
    /// The status message.
    HttpStatMsg "http.stat_msg" [] Some("http_stat_msg"), Some(b'Y'), HTTP, CLIENT, 3, One;
    /// The value of `Accept`.
    HttpAccept "http.accept" ["http_accept"] None, None, HTTP, SERVER, 2, One;
    /// The value of `Accept-Encoding`.
    HttpAcceptEncoding "http.accept_enc" ["http_accept_enc"] None, None, HTTP, SERVER, 2, One;
    /// The value of `Accept-Language`.
    HttpAcceptLanguage "http.accept_lang" ["http_accept_lang"] None, None, HTTP, SERVER, 2, One;
    /// The value of `Connection`.
    HttpConnection "http.connection" ["http_connection"] None, None, HTTP, None, 2, One;
    /// The value of `Content-Length`.
    HttpContentLength "http.content_len" ["http_content_len"] None, None, HTTP, None, 2, One;
    /// The value of `Content-Type`.
    HttpContentType "http.content_type" ["http_content_type"] None, None, HTTP, None, 2, One;
    /// The value of `Location`.
    HttpLocation "http.location" [] None, None, HTTP, CLIENT, 2, One;
    /// The value of `Referer`.
    HttpReferer "http.referer" ["http_referer"] None, None, HTTP, SERVER, 2, One;
    /// The value of `Server`.
    HttpServer "http.server" [] None, None, HTTP, CLIENT, 2, One;
    /// The body of a request or a response, its encoding undone.
    FileData "file.data" ["file_data"] None, None, Origin::File, None, 2, Many;
    /// The name of a question.
    DnsQuery "dns.query" ["dns_query"] None, None, DNS, SERVER, 2, Many;
    /// The name of a question, of queries and responses.
    DnsQueriesName "dns.queries.rrname" ["dns.query.name"] None, None, DNS, None, 2, Many;
    /// The name that an answer is about.
    DnsAnswersName "dns.answers.rrname" ["dns.answer.name"] None, None, DNS, None, 2, Many;
    /// The name that an authority is about.
    DnsAuthoritiesName "dns.authorities.rrname" [] None, None, DNS, None, 2, Many;
    /// The name that an additional record is about.
    DnsAdditionalsName "dns.additionals.rrname" [] None, None, DNS, None, 2, Many;
    /// The name that a client hello asks for.
    TlsSni "tls.sni" ["tls_sni"] None, None, TLS, SERVER, 2, One;
    /// The subject of a server's certificate.
    TlsCertSubject "tls.cert_subject" ["tls_cert_subject"] None, None, TLS, None, 2, Many;
    /// The issuer of a server's certificate.
    TlsCertIssuer "tls.cert_issuer" ["tls_cert_issuer"] None, None, TLS, None, 2, One;
    /// The serial number of a server's certificate, `0A:1B`.
    TlsCertSerial "tls.cert_serial" ["tls_cert_serial"] None, None, TLS, None, 2, One;
    /// The SHA-1 of a server's certificate, `0a:1b`.
    TlsCertFingerprint "tls.cert_fingerprint" ["tls_cert_fingerprint"] None, None, TLS, None, 2, One;
    /// A name that a server's certificate is for as well.
    TlsSubjectAltName "tls.subjectaltname" [] None, None, TLS, CLIENT, 2, Many;
    /// A certificate of the chain, in DER.
    TlsCerts "tls.certs" [] None, None, TLS, None, 2, Many;
    /// A protocol that a client offers or a server chose.
    TlsAlpn "tls.alpn" [] None, None, TLS, None, 2, Many;
    /// What the fingerprint of a client hello is the hash of.
    Ja3String "ja3.string" ["ja3_string"] None, None, TLS, SERVER, 2, One;
    /// The fingerprint of a server hello, 32 hexadecimal digits.
    Ja3sHash "ja3s.hash" [] None, None, TLS, CLIENT, 2, One;
    /// What the fingerprint of a server hello is the hash of.
    Ja3sString "ja3s.string" [] None, None, TLS, CLIENT, 2, One;
    /// The newer fingerprint of a client hello.
    Ja4Hash "ja4.hash" [] None, None, TLS, SERVER, 2, One;
    /// The fingerprint of a client hello, 32 hexadecimal digits.
    Ja3Hash "ja3.hash" ["ja3_hash"] None, None, TLS, SERVER, 2, One;
    /// The version in an SSH banner.
    SshProto "ssh.proto" ["ssh_proto"] None, None, SSH, None, 2, One;
    /// The software in an SSH banner.
    SshSoftware "ssh.software" ["ssh_software"] None, None, SSH, None, 2, One;
    /// The fingerprint of a client's key exchange.
    SshHassh "ssh.hassh" ["ssh-hassh"] None, None, SSH, SERVER, 2, One;
    /// What the fingerprint of a client's key exchange is the hash of.
    SshHasshString "ssh.hassh.string" ["ssh-hassh-string"] None, None, SSH, SERVER, 2, One;
    /// The fingerprint of a server's key exchange.
    SshHasshServer "ssh.hassh.server" ["ssh-hassh-server"] None, None, SSH, CLIENT, 2, One;
    /// What the fingerprint of a server's key exchange is the hash of.
    SshHasshServerString "ssh.hassh.server.string" ["ssh-hassh-server-string"] None, None, SSH, CLIENT, 2, One;
    /// What `base64_decode` made of another buffer.
    Base64Data "base64_data" [] None, None, Origin::Decoded, None, 3, One;
}

impl Buffer {
    /// The sticky buffer of this keyword.
    pub fn of(keyword: &str) -> Option<Self> {
        let named = |b: &&BufferInfo| b.name == keyword || b.aliases.contains(&keyword);
        BUFFERS.iter().find(named).map(|b| b.buffer)
    }

    /// The buffer into which this keyword puts the content before it.
    pub fn of_modifier(keyword: &str) -> Option<Self> {
        BUFFERS.iter().find(|b| b.modifier == Some(keyword)).map(|b| b.buffer)
    }

    /// The buffer of a flag of `pcre`.
    pub fn of_flag(flag: u8) -> Option<Self> {
        BUFFERS.iter().find(|b| b.flag == Some(flag)).map(|b| b.buffer)
    }

    /// The application whose transactions have it.
    pub fn app(self) -> Option<App> {
        match self.info().origin {
            Origin::Transaction(app) => Some(app),
            _ => None,
        }
    }

    /// Whether it is made of transactions, and not of packets and streams.
    pub fn is_of_transactions(self) -> bool {
        matches!(self.info().origin, Origin::Transaction(_) | Origin::File)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_buffer_and_every_buffer_knows_itself() {
        let mut names = Vec::new();
        for (index, info) in BUFFERS.iter().enumerate() {
            assert_eq!(info.buffer as usize, index);
            assert_eq!(info.buffer.info().name, info.name);
            names.push(info.name);
            names.extend(info.aliases);
            names.extend(info.modifier);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(Buffer::of("http_uri"), None);
        assert_eq!(Buffer::of_modifier("http_uri"), Some(Buffer::HttpUri));
        assert_eq!(Buffer::of("file_data"), Some(Buffer::FileData));
        assert_eq!(Buffer::of_flag(b'U'), Some(Buffer::HttpUri));
    }
}
