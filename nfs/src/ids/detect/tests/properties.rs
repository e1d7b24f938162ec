//! What holds for all contents, however streams are cut, and whoever looks patterns up.

use proptest::prelude::*;

use super::super::matcher::Engine;
use super::*;
use crate::ids::stream::Mode;

/// A content as a rule has it: letters, and where it may be.
#[derive(Clone, Debug)]
struct Sketch {
    letters: String,
    is_negated: bool,
    /// Distance and within, or offset and depth.
    is_relative: bool,
    low: Option<usize>,
    room: Option<usize>,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let letters = "[ab]{1,2}";
    let low = prop::option::of(0_usize..4);
    let room = prop::option::of(0_usize..5);
    (letters, prop::bool::weighted(0.2), any::<bool>(), low, room).prop_map(
        |(letters, is_negated, is_relative, low, room)| {
            let room = room.map(|room| room + letters.len());
            Sketch { letters, is_negated, is_relative, low, room }
        },
    )
}

fn options(sketches: &[Sketch]) -> String {
    let one = |sketch: &Sketch| {
        let (low, room) = match sketch.is_relative {
            true => ("distance", "within"),
            false => ("offset", "depth"),
        };
        let not = if sketch.is_negated { "!" } else { "" };
        let mut text = format!("content:{not}\"{}\";", sketch.letters);
        if let Some(n) = sketch.low {
            text += &format!("{low}:{n};");
        }
        if let Some(n) = sketch.room {
            text += &format!("{room}:{n};");
        }
        text
    };
    sketches.iter().map(one).collect()
}

/// Whether the contents hold from here on, by trying all places.
fn naive(sketches: &[Sketch], bytes: &[u8], last: usize) -> bool {
    let Some((first, rest)) = sketches.split_first() else { return true };
    let is_relative = first.is_relative && (first.low.is_some() || first.room.is_some());
    let base = if is_relative { last } else { 0 };
    let low = base + first.low.unwrap_or(0);
    let high = first.room.map_or(bytes.len(), |room| (low + room).min(bytes.len()));
    let letters = first.letters.as_bytes();
    let mut places = (low..high)
        .filter(|place| place + letters.len() <= high && bytes[*place..].starts_with(letters));
    match first.is_negated {
        true => places.next().is_none() && naive(rest, bytes, last),
        false => places.any(|place| naive(rest, bytes, place + letters.len())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn contents_hold_where_trying_all_places_says_so(
        sketches in prop::collection::vec(sketch(), 1..5),
        bytes in prop::collection::vec(prop::sample::select(b"abc".to_vec()), 1..16),
    ) {
        let options = options(&sketches);
        let rule = format!("alert udp any any -> any any ({options} sid:1;)");
        if let Some(found) = try_on_payload(&rule, &bytes) {
            prop_assert_eq!(found, naive(&sketches, &bytes, 0), "{} {}", options, bytes.escape_ascii());
        }
    }

    #[test]
    fn a_stream_cut_anywhere_matches_the_same_rules(
        bytes in prop::collection::vec(prop::sample::select(b"abcd".to_vec()), 1..60),
        cuts in prop::collection::vec(1_usize..9, 0..20),
        is_inline in any::<bool>(),
    ) {
        let text = r#"
alert tcp any any -> any any (content:"abc"; sid:1;)
alert tcp any any -> any any (content:"ab"; content:"cd"; distance:0; sid:2;)
alert tcp any any -> any any (content:"ab"; content:"cd"; within:4; sid:3;)
alert tcp any any -> any any (content:"dd"; content:"aa"; sid:4;)
alert tcp any any -> any any (pcre:"/a[bc]+d/"; sid:5;)
alert tcp any any -> any any (content:"b"; pcre:"/^[ad]{3}/R"; sid:6;)
alert tcp any any -> any any (content:"a"; byte_test:1,=,0x62,1,relative; sid:7;)
"#;
        let ruleset = ruleset(text);
        let mode = if is_inline { Mode::Inline } else { Mode::Passive };
        let told = |pieces: &[&[u8]]| {
            let mut connection = Connection::of(std::sync::Arc::clone(&ruleset), mode);
            for piece in pieces {
                connection.up(piece);
            }
            connection.end();
            let mut told = connection.told.clone();
            told.sort_unstable();
            told.dedup();
            told
        };
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts {
            if cut < rest.len() {
                let (piece, behind) = rest.split_at(cut);
                pieces.push(piece);
                rest = behind;
            }
        }
        pieces.push(rest);
        prop_assert_eq!(told(&pieces), told(&[&bytes]));
    }

    #[test]
    fn both_matchers_lead_to_the_same_rules(
        contents in prop::collection::vec(("[a-cA-C]{1,4}", any::<bool>()), 1..12),
        payload in "[a-dA-D]{0,40}",
    ) {
        let text: String = (1..).zip(&contents).map(|(sid, (letters, nocase))| {
            let nocase = if *nocase { "nocase;" } else { "" };
            format!("alert udp any any -> any any (content:\"{letters}\"; {nocase} sid:{sid};)\n")
        }).collect();
        let packet = Crafted::udp(payload.as_bytes());
        let [one, other] = [Engine::Library, Engine::Plain].map(|engine| {
            Watch::of(ruleset_by(&text, engine)).lone(&packet)
        });
        prop_assert_eq!(&one, &other);
        let expected: Sids = (1..).zip(&contents).filter(|(_, (letters, nocase))| match nocase {
            true => payload.to_ascii_lowercase().contains(&letters.to_ascii_lowercase()),
            false => payload.contains(letters),
        }).map(|(sid, _)| sid).collect();
        prop_assert_eq!(one, expected);
    }
}
