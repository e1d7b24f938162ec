//! What was expected goes the short way, and says what it says on the long one.

use proptest::prelude::*;

use super::*;
use crate::ids::stream::Mode;

/// What looks at streams, at bodies, at both ends of a stretch, and at what others left.
const RULES: &str = r#"
alert tcp any any -> any any (msg:"stream"; content:"needle"; sid:1;)
alert http any any -> any any (msg:"back"; file.data; content:"alpha"; content:"omega"; distance:0; within:200; fast_pattern; sid:2;)
alert http any any -> any any (msg:"on"; file.data; content:"omega"; fast_pattern; content:"beta"; distance:0; within:300; sid:3;)
alert tcp any any -> any any (msg:"sets"; flow:to_client; content:"token"; flowbits:set,seen; noalert; sid:4;)
alert tcp any any -> any any (msg:"asks"; content:"gamma"; flowbits:isset,seen; sid:5;)
drop tcp any any -> any any (msg:"stops"; content:"forbidden"; content:"fruit"; distance:0; sid:6;)
alert http any any -> any any (msg:"not"; file.data; content:"alpha"; content:!"beta"; within:60; sid:7;)
"#;

/// The same but for those that look back in bodies.
const FORWARD_RULES: &str = r#"
alert tcp any any -> any any (msg:"stream"; content:"needle"; sid:1;)
alert http any any -> any any (msg:"on"; file.data; content:"omega"; fast_pattern; content:"beta"; distance:0; within:300; sid:3;)
alert http any any -> any any (msg:"far on"; file.data; content:"alpha"; fast_pattern; content:"beta"; distance:40; sid:8;)
alert http any any -> any any (msg:"longer"; file.data; content:"gammalorem"; fast_pattern:4,5; content:!"beta"; within:20; sid:9;)
drop tcp any any -> any any (msg:"stops"; content:"forbidden"; content:"fruit"; distance:0; sid:6;)
"#;

const WORDS: [&str; 9] =
    ["needle", "alpha", "omega", "beta", "token", "gamma", "forbidden", "fruit", "plain"];

/// What happens to a segment.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Comes,
    ComesTwice,
    ComesAfterTheNext,
    IsLied,
    IsLost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        40 => Just(Fate::Comes),
        1 => Just(Fate::ComesTwice),
        1 => Just(Fate::ComesAfterTheNext),
        1 => Just(Fate::IsLied),
        1 => Just(Fate::IsLost),
    ]
}

fn site() -> Site {
    site_of(RULES)
}

fn site_of(rules: &str) -> Site {
    Site::under(rules, |settings| {
        settings.streams.mode = Mode::Inline;
        settings.budget.apps = 16 << 20;
    })
}

/// The frames of a download: its body is text with words in it.
fn download(words: &[(usize, usize)], cuts: &[(usize, Fate)], sized: bool) -> Vec<Vec<u8>> {
    let mut body = Vec::new();
    for (word, gap) in words {
        body.extend_from_slice(WORDS[*word].as_bytes());
        body.extend((0..*gap).map(|at| b"lorem ipsum dolor "[at % 18]));
    }
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    if sized {
        answer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&body);
    let mut talk = Talk::new(80);
    let mut frames: Vec<Vec<u8>> = talk.handshake().into();
    frames.push(talk.frame(Client, "ap", REQUEST));
    talk.sent(Client, REQUEST.len());
    let (mut rest, mut held) = (answer.as_slice(), None);
    for (size, fate) in cuts.iter().cycle() {
        let (part, behind) = rest.split_at((*size).min(rest.len()));
        if part.is_empty() {
            break;
        }
        let frame = talk.frame(Server, "a", part);
        let lie = talk.frame(Server, "a", &vec![b'!'; part.len()]);
        talk.sent(Server, part.len());
        match fate {
            Fate::Comes => frames.push(frame),
            Fate::ComesTwice => frames.extend([frame.clone(), frame]),
            Fate::ComesAfterTheNext if held.is_none() => held = Some(frame),
            Fate::ComesAfterTheNext | Fate::IsLost => {}
            Fate::IsLied => frames.extend([frame, lie]),
        }
        if !matches!(fate, Fate::ComesAfterTheNext) {
            frames.extend(held.take());
        }
        if size % 2 == 0 {
            frames.push(talk.frame(Client, "a", &[]));
        }
        rest = behind;
    }
    frames.push(talk.frame(Server, "fa", &[]));
    frames
}

/// How segments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Long,
    Short,
    /// Those of a burst together.
    Trains,
}

/// What came of frames.
struct Outcome {
    answers: Vec<Answer>,
    told: String,
    /// Segments that went the short way, and those that went together with others.
    predicted: u64,
    together: usize,
    /// What was counted of all frames.
    counts: [u64; 6],
}

fn outcome(frames: &[Vec<u8>], way: Way) -> Outcome {
    outcome_of(RULES, frames, way)
}

fn outcome_of(rules: &str, frames: &[Vec<u8>], way: Way) -> Outcome {
    let mut site = site_of(rules);
    let (mut answers, mut together) = (Vec::new(), 0);
    for burst in frames.chunks(32) {
        site.now.0 += 1_000_000;
        let mut rest = burst;
        while !rest.is_empty() {
            let train = match way {
                Way::Trains => train_of(rest.iter().map(Vec::as_slice)),
                _ => train_of(std::iter::empty()),
            };
            let (passed, alone) = match train.len() {
                2.. => site.inspector.train(&train, site.now, &mut site.told),
                _ => (0, 1),
            };
            together += passed;
            answers.extend(std::iter::repeat_n(Answer::Pass, passed));
            let (now, behind) = rest.split_at(passed + alone);
            for frame in &now[passed..] {
                if way == Way::Long {
                    // As if rules had changed.
                    site.inspector.generation += 1;
                }
                let seen = site.seen(frame);
                answers.push(site.inspector.packet(&seen, &mut site.told).answer);
            }
            rest = behind;
        }
    }
    let count = |counter| site.inspector.counters().get(counter);
    let predicted = count(Counter::Predicted);
    let counts = [
        Counter::Packets,
        Counter::Bytes,
        Counter::Ethernet,
        Counter::Ipv4,
        Counter::Tcp,
        Counter::Dropped,
    ]
    .map(count);
    Outcome { answers, told: format!("{:#?}", site.ends()), predicted, together, counts }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_short_way_says_what_the_long_way_says(
        words in prop::collection::vec((0..WORDS.len(), 0usize..900), 1..30),
        cuts in prop::collection::vec((1usize..1460, fate()), 4..40),
        sized: bool,
        way in prop_oneof![Just(Way::Short), Just(Way::Trains)],
        rules in prop_oneof![Just(RULES), Just(FORWARD_RULES)],
    ) {
        let frames = download(&words, &cuts, sized);
        let (short, long) = (outcome_of(rules, &frames, way), outcome_of(rules, &frames, Way::Long));
        prop_assert_eq!(long.predicted, 0);
        prop_assert_eq!(short.answers, long.answers);
        prop_assert_eq!(short.counts, long.counts);
        let differ = short.told.lines().zip(long.told.lines()).find(|(a, b)| a != b);
        prop_assert_eq!(differ, None);
        prop_assert_eq!(short.told.len(), long.told.len());
    }
}

#[test]
fn most_segments_of_a_download_go_the_short_way() {
    let words: Vec<(usize, usize)> = (0..120).map(|_| (8, 800)).collect();
    let frames = download(&words, &[(1460, Fate::Comes)], true);
    let Outcome { told, predicted, .. } = outcome(&frames, Way::Short);
    assert!(told.contains("Http"), "{told}");
    // All but what opens and closes, the head, the first bytes and the last ones of what rules look at of a body.
    assert!(predicted as usize >= frames.len() - 12, "{predicted} of {}", frames.len());
    assert_eq!(outcome(&frames, Way::Long).predicted, 0);
}

#[test]
fn what_comes_in_a_row_goes_together() {
    let words: Vec<(usize, usize)> = (0..120).map(|_| (8, 800)).collect();
    // Ten segments, and what acknowledges them.
    let mut cuts = [(1459, Fate::Comes); 10];
    cuts[9].0 = 1460;
    let frames = download(&words, &cuts, true);
    let Outcome { predicted, together, .. } = outcome(&frames, Way::Trains);
    assert_eq!(predicted, outcome(&frames, Way::Short).predicted);
    assert!(together >= frames.len() * 3 / 4, "{together} of {}", frames.len());
    // Of none that is acknowledged at once.
    let frames = download(&words, &[(1460, Fate::Comes)], true);
    assert_eq!(outcome(&frames, Way::Trains).together, 0);
}

#[test]
fn a_pattern_is_found_across_segments_and_what_it_completes_is_dropped() {
    for at in 1..9 {
        let mut site = site();
        let mut talk = Talk::open(&mut site, 80);
        let _ = talk.says(&mut site, Client, REQUEST);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n.";
        let _ = talk.says(&mut site, Server, head);
        for _ in 0..4 {
            let _ = talk.says(&mut site, Server, &[b'.'; 700]);
        }
        let (before, behind) = b"forbidden".split_at(at);
        let _ = talk.says(&mut site, Server, &[&[b'.'; 300][..], before].concat());
        let _ = talk.says(&mut site, Server, &[behind, &[b'.'; 300][..]].concat());
        let predicted = site.inspector.counters().get(Counter::Predicted);
        assert!(predicted >= 8, "{predicted}");
        let last = talk.frame(Server, "a", b"fruit");
        assert_eq!(site.sees(&last).answer, Answer::Drop, "cut behind {at}");
        let _ = site.ends();
    }
}
