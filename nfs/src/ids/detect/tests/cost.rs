//! What detection costs; printed, as machines differ.

use super::*;
use crate::ids::stream::Mode;

/// Words that paths, names and texts are made of.
const WORDS: [&str; 24] = [
    "login", "admin", "gate", "upload", "config", "user", "report", "check", "panel", "update",
    "index", "token", "script", "select", "passwd", "system", "proxy", "session", "image",
    "content", "search", "download", "payload", "beacon",
];

/// Numbers that look as if there were no order in them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.roll(WORDS.len())]
    }

    /// A name that no text has by chance.
    fn name(&mut self) -> String {
        let tail: String =
            (0..3 + self.roll(5)).map(|_| char::from(b'a' + self.roll(26) as u8)).collect();
        format!("{}{}{tail}", self.word(), ["/", ".", "=", "-", "_"][self.roll(5)])
    }
}

/// Rules as the usual files have them, by kind.
fn realistic(count: usize) -> String {
    let mut dice = Dice(88_172_645_463_325_252);
    let mut text = String::new();
    for sid in 1..=count {
        let (a, b) = (dice.name(), dice.name());
        let rule = match dice.roll(20) {
            0..7 => format!(
                "alert http any any -> any any (flow:established,to_server; http.method; content:\"GET\"; http.uri; content:\"/{a}\"; fast_pattern; content:\"{b}\"; distance:0; "
            ),
            7..9 => format!(
                "alert http any any -> any any (flow:established,to_server; http.user_agent; content:\"{a}\"; nocase; "
            ),
            9..11 => format!(
                "alert http any any -> any any (flow:established,to_server; http.host; content:\"{a}.com\"; endswith; "
            ),
            11..13 => format!(
                "alert http any any -> any any (flow:established,to_client; file.data; content:\"{a}\"; nocase; content:\"{b}\"; within:100; "
            ),
            13 => format!(
                "alert http any any -> any any (flow:established,to_server; http.request_body; content:\"{a}\"; "
            ),
            14..16 => format!(
                "alert tcp any any -> any any (flow:established,to_client; content:\"{a}\"; content:\"{b}\"; distance:0; "
            ),
            16 => format!(
                "alert tcp any any -> any [21,25,{}] (flow:established,to_server; content:\"{a}\"; depth:40; ",
                1000 + dice.roll(5000)
            ),
            17 => format!(
                "alert tls any any -> any any (flow:established,to_server; tls.sni; content:\"{a}\"; "
            ),
            18 => format!("alert dns any any -> any any (dns.query; content:\"{a}\"; nocase; "),
            _ => format!("alert udp any any -> any {} (content:\"{a}\"; ", 1000 + dice.roll(5000)),
        };
        text += &format!("{rule}sid:{sid};)\n");
    }
    text
}

/// Nanoseconds that this thread has run: what others on the machine do does not count.
fn ran() -> u64 {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    read.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn prose(dice: &mut Dice, length: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < length {
        text += dice.word();
        text += [" ", "<p>", ", ", "\n", " the "][dice.roll(5)];
    }
    text.truncate(length);
    text.into_bytes()
}

#[test]
fn cost_of_inspection() {
    let text = realistic(3000);
    let start = ran();
    let ruleset = ruleset(&text);
    println!("3,000 rules compiled in {} ms", (ran() - start) / 1_000_000);
    let mut dice = Dice(7);
    let pieces: Vec<Vec<u8>> = (0..64).map(|_| prose(&mut dice, 1460)).collect();
    for mode in [Mode::Inline, Mode::Passive] {
        let mut spent = 0;
        let mut packets = 0;
        for _ in 0..8 {
            let mut connection = Connection::of(std::sync::Arc::clone(&ruleset), mode);
            connection.up(b"GET /index HTTP/1.1\r\nHost: example.org\r\nUser-Agent: probe\r\n\r\n");
            connection.down(b"HTTP/1.1 200 OK\r\nContent-Length: 934400\r\n\r\n");
            let start = ran();
            for round in 0..640 {
                let _ = connection.send(DOWN, 0x10, &pieces[round % 64]);
                if round % 2 == 1 {
                    let _ = connection.send(UP, 0x10, b"");
                }
                packets += 1;
            }
            spent += ran() - start;
            assert_eq!(connection.told, NONE);
        }
        let each = spent as f64 / f64::from(packets);
        let rate = 1460.0 * 8.0 / each;
        println!("{mode:?}: {each:.0} ns for 1,460 bytes with streams and HTTP, {rate:.1} Gbit/s");
    }
    let mut watch = Watch::of(ruleset);
    let of_stream = FlowFacts { is_in_stream: true, ..facts(UP) };
    let packet = Crafted::tcp(0x10, b"");
    let start = ran();
    for _ in 0..100_000 {
        watch.look(&packet, Some(of_stream));
    }
    println!("an ACK: {} ns", (ran() - start) / 100_000);
}
