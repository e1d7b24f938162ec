//! What matches leave behind for later ones: bits and integers of flows, bits of hosts.

use super::mistake::{Read, broken, unsupported};
use super::number::number;
use super::options::Value;

/// What a rule asks of what earlier matches left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateTest {
    /// One of these bits is set.
    IsSet(Store, Box<[Box<str>]>),
    /// One of these bits is not set.
    IsNotSet(Store, Box<[Box<str>]>),
    /// An integer of the flow exists.
    IntegerIsSet(Box<str>),
    /// It does not.
    IntegerIsNotSet(Box<str>),
    /// It exists and compares so.
    Integer(Box<str>, IntegerTest, IntegerValue),
}

/// What a match leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Sets a bit, for so many seconds if there is a number.
    Set(Store, Box<str>, Option<u32>),
    /// Takes a bit away.
    Unset(Store, Box<str>),
    /// Sets a bit that was not, and takes it away if it was.
    Toggle(Store, Box<str>, Option<u32>),
    /// Sets an integer of the flow, or adds to it, or takes from it.
    Integer(Box<str>, IntegerChange, IntegerValue),
}

/// What holds a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// The flow (`flowbits`).
    Flow,
    /// The source's host (`xbits` and `hostbits`).
    SrcHost,
    /// The destination's host.
    DstHost,
    /// The pair of hosts (`xbits`, `ip_pair`).
    Pair,
}

/// How an integer is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerTest {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

/// How an integer is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerChange {
    /// `=`
    Set,
    /// `+`; one that does not exist is 0 before.
    Add,
    /// `-`
    Subtract,
}

/// A number, or another integer of the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntegerValue {
    /// Given.
    Number(u32),
    /// Of this name.
    Named(Box<str>),
}

/// What a keyword of this file comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Test(StateTest),
    Effect(Effect),
    NoAlert,
}

/// `flowbits:COMMAND,NAME[|NAME...]`
pub(super) fn flowbits(value: Value<'_>) -> Read<State> {
    let parts: Vec<_> = value.parts()?.collect();
    let (command, at, name) = match *parts {
        [("noalert", _)] => return Ok(State::NoAlert),
        [(command, at), (name, _)] => (command, at, name),
        _ => return broken(value.at, "flowbits is `COMMAND,NAME`, or `noalert`"),
    };
    bit(Store::Flow, command, at, name, None)
}

/// `xbits:COMMAND,NAME,track ip_src|ip_dst|ip_pair[,expire SECONDS]`
pub(super) fn xbits(value: Value<'_>) -> Read<State> {
    let mut parts = value.parts()?;
    let (command, at) = parts.next().unwrap_or_default();
    if command == "noalert" {
        return Ok(State::NoAlert);
    }
    let (name, _) = parts.next().unwrap_or_default();
    let (mut store, mut expire) = (None, None);
    for (part, at) in parts {
        let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        match (key, word.trim_ascii()) {
            ("track", "ip_src") => store = Some(Store::SrcHost),
            ("track", "ip_dst") => store = Some(Store::DstHost),
            ("track", "ip_pair") => store = Some(Store::Pair),
            ("track", "tx") => return unsupported(at, "xbits: track tx"),
            ("expire", seconds) => match number(seconds, at)? {
                0 => return broken(at, "a bit that expires at once"),
                seconds => expire = Some(seconds),
            },
            _ => {
                return broken(
                    at,
                    format!(
                        "`{part}` is neither `track ip_src|ip_dst|ip_pair` nor `expire SECONDS`"
                    ),
                );
            }
        }
    }
    let Some(store) = store else {
        return broken(value.at, "xbits needs `track ip_src|ip_dst|ip_pair`");
    };
    // Suricata's default.
    bit(store, command, at, name, expire.or(Some(XBITS_SECONDS)))
}

/// `hostbits:COMMAND,NAME[,src|dst[,SECONDS]]`
pub(super) fn hostbits(value: Value<'_>) -> Read<State> {
    let parts: Vec<_> = value.parts()?.collect();
    let ((command, at), (name, _), rest) = match *parts {
        [("noalert", _)] => return Ok(State::NoAlert),
        [command, name, ref rest @ ..] => (command, name, rest),
        _ => {
            return broken(
                value.at,
                "hostbits is `COMMAND,NAME[,src|dst[,SECONDS]]`, or `noalert`",
            );
        }
    };
    let (store, expire) = match *rest {
        [] => (Store::SrcHost, None),
        [side, ref expire @ ..] => {
            let store = match side {
                ("src", _) => Store::SrcHost,
                ("dst", _) => Store::DstHost,
                ("both", at) => return unsupported(at, "hostbits: both"),
                (word, at) => return broken(at, format!("`{word}` is neither src nor dst")),
            };
            match *expire {
                [] => (store, None),
                [(seconds, at)] => (store, Some(number(seconds, at)?)),
                [_, (_, at), ..] => return broken(at, "nothing comes behind the seconds"),
            }
        }
    };
    bit(store, command, at, name, expire.or(Some(HOSTBITS_SECONDS)))
}

fn bit(store: Store, command: &str, at: usize, name: &str, expire: Option<u32>) -> Read<State> {
    let names: Box<[Box<str>]> = name.split('|').map(|n| n.trim_ascii().into()).collect();
    if names.iter().any(|n| n.is_empty() || n.contains(char::is_whitespace)) {
        return broken(at, format!("`{name}` is no name of a bit"));
    }
    let one = || match &*names {
        [one] => Ok(one.clone()),
        _ => broken(at, "only `isset` and `isnotset` take several bits"),
    };
    Ok(match command {
        "isset" => State::Test(StateTest::IsSet(store, names)),
        "isnotset" => State::Test(StateTest::IsNotSet(store, names)),
        "set" => State::Effect(Effect::Set(store, one()?, expire)),
        "unset" => State::Effect(Effect::Unset(store, one()?)),
        "toggle" => State::Effect(Effect::Toggle(store, one()?, expire)),
        _ => {
            return broken(
                at,
                format!("`{command}` is none of set, isset, isnotset, unset, toggle, noalert"),
            );
        }
    })
}

/// `flowint:NAME,MODIFIER[,VALUE]`
pub(super) fn flowint(value: Value<'_>) -> Read<State> {
    let parts: Vec<_> = value.parts()?.collect();
    let (name, (modifier, at), operand) = match *parts {
        [(name, _), modifier] => (name, modifier, None),
        [(name, _), modifier, (operand, _)] => (name, modifier, Some(operand)),
        _ => return broken(value.at, "flowint is `NAME,MODIFIER[,VALUE]`"),
    };
    let is_name = |n: &str| {
        let mut bytes = n.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-'))
    };
    if !is_name(name) {
        return broken(value.at, format!("`{name}` is no name of an integer"));
    }
    let name: Box<str> = name.into();
    let operand = match operand {
        None => match modifier {
            "isset" => return Ok(State::Test(StateTest::IntegerIsSet(name))),
            "isnotset" | "notset" => return Ok(State::Test(StateTest::IntegerIsNotSet(name))),
            _ => return broken(at, format!("`{modifier}` needs a value")),
        },
        Some(operand) if is_name(operand) => IntegerValue::Named(operand.into()),
        Some(operand) => IntegerValue::Number(number(operand, at)?),
    };
    let test = |test, operand| Ok(State::Test(StateTest::Integer(name.clone(), test, operand)));
    let change =
        |change, operand| Ok(State::Effect(Effect::Integer(name.clone(), change, operand)));
    match modifier {
        "<" => test(IntegerTest::Less, operand),
        "<=" => test(IntegerTest::LessOrEqual, operand),
        "==" => test(IntegerTest::Equal, operand),
        "!=" => test(IntegerTest::NotEqual, operand),
        ">=" => test(IntegerTest::GreaterOrEqual, operand),
        ">" => test(IntegerTest::Greater, operand),
        "=" => change(IntegerChange::Set, operand),
        "+" => change(IntegerChange::Add, operand),
        "-" => change(IntegerChange::Subtract, operand),
        _ => broken(at, format!("`{modifier}` is none of < <= == != >= > = + - isset isnotset")),
    }
}

/// How long a bit of `xbits` stays set when the rule does not say.
const XBITS_SECONDS: u32 = 30;
/// And one of `hostbits`.
const HOSTBITS_SECONDS: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    type Reader = fn(Value<'_>) -> Read<State>;

    fn text(of: Reader, text: &str) -> Result<State, String> {
        of(Value { bytes: text.as_bytes(), at: 0 }).map_err(|m| m.text)
    }

    #[test]
    fn bits_are_set_and_asked_for_where_the_rule_says() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).into()).collect::<Box<[Box<str>]>>();
        let isset = |s, list: &[&str]| Ok(State::Test(StateTest::IsSet(s, names(list))));
        assert_eq!(text(flowbits, "isset, a|b"), isset(Store::Flow, &["a", "b"]));
        assert_eq!(text(flowbits, "noalert"), Ok(State::NoAlert));
        assert_eq!(
            text(xbits, "set,a,track ip_pair, expire 60"),
            Ok(State::Effect(Effect::Set(Store::Pair, "a".into(), Some(60)))),
        );
        assert_eq!(text(xbits, "isset,a,track ip_dst"), isset(Store::DstHost, &["a"]));
        assert_eq!(text(hostbits, "isset,a"), isset(Store::SrcHost, &["a"]));
        assert_eq!(
            text(hostbits, "set,a,dst,60"),
            Ok(State::Effect(Effect::Set(Store::DstHost, "a".into(), Some(60)))),
        );
        assert_eq!(
            text(hostbits, "unset,a,dst"),
            Ok(State::Effect(Effect::Unset(Store::DstHost, "a".into()))),
        );
    }

    #[test]
    fn integers_are_compared_and_changed() {
        assert_eq!(
            text(flowint, "a.b, >, 3"),
            Ok(State::Test(StateTest::Integer(
                "a.b".into(),
                IntegerTest::Greater,
                IntegerValue::Number(3)
            ))),
        );
        assert_eq!(
            text(flowint, "a,+,b"),
            Ok(State::Effect(Effect::Integer(
                "a".into(),
                IntegerChange::Add,
                IntegerValue::Named("b".into())
            ))),
        );
        assert_eq!(
            text(flowint, "a,notset"),
            Ok(State::Test(StateTest::IntegerIsNotSet("a".into())))
        );
    }

    #[test]
    fn what_names_no_bit_or_knows_no_command_is_refused() {
        let bad: [(Reader, &str); 12] = [
            (flowbits, "set"),
            (flowbits, "set,a|b"),
            (flowbits, "isset,a|"),
            (flowbits, "noalert,a"),
            (flowbits, "is,a"),
            (xbits, "set,a"),
            (xbits, "set,a,track ip_src,expire 0"),
            (xbits, "set,,track ip_src"),
            (hostbits, "set,a,here"),
            (flowint, "a"),
            (flowint, "a,+"),
            (flowint, "a,~,1"),
        ];
        for (of, value) in bad {
            assert!(text(of, value).is_err(), "{value}");
        }
    }
}
