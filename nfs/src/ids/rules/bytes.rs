//! The keywords that read numbers from bytes, and those that ask for lengths.

use super::content::amount_of;
use super::draft::Draft;
use super::inspect::{
    Arithmetic, Base64Decode, ByteExtract, ByteJump, ByteMath, ByteTest, Encoding, Field, From,
    IsDataAt, JumpBase, Operator, Presence, Test, Value as Amount,
};
use super::mistake::{Read, broken, unsupported};
use super::number::{by_prefix, number};
use super::options::Value;

/// `isdataat:[!]N[,relative][,rawbytes]`
pub(super) fn is_data_at(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let mut parts = value.parts()?;
    let (first, at) = parts.next().unwrap_or_default();
    let (presence, offset) = match first.strip_prefix('!') {
        Some(rest) => (Presence::Absent, rest.trim_ascii()),
        None => (Presence::Present, first),
    };
    let offset = in_range(amount_of(draft, offset, at)?, 0, 65_535, at)?;
    let mut test = IsDataAt { presence, offset, from: From::Start, raw_bytes: false };
    for (part, at) in parts {
        match part {
            "relative" => test.from = From::LastMatch,
            "rawbytes" => test.raw_bytes = true,
            _ => return broken(at, format!("`{part}` is neither relative nor rawbytes")),
        }
    }
    match test.from {
        From::LastMatch => draft.test_relative(Test::IsDataAt(test)),
        From::Start => draft.test(Test::IsDataAt(test)),
    }
    Ok(())
}

/// `byte_test:LENGTH,[!]OPERATOR,VALUE,OFFSET[,...]`
pub(super) fn byte_test(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let parts: Vec<_> = value.parts()?.collect();
    let [(length, length_at), (operator, at), (with, with_at), (offset, offset_at), ref rest @ ..] =
        *parts
    else {
        return broken(value.at, "byte_test is `LENGTH,OPERATOR,VALUE,OFFSET[,...]`");
    };
    let (presence, word) = match operator.strip_prefix('!') {
        // `!` alone is `!=`.
        Some("") => (Presence::Absent, "="),
        Some(word) => (Presence::Absent, word.trim_ascii()),
        None => (Presence::Present, operator),
    };
    let operator = match word {
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        "=" => Operator::Equal,
        "&" => Operator::And,
        "^" => Operator::Or,
        _ => return broken(at, format!("`{word}` is none of < <= > >= = & ^")),
    };
    let mut flags = Flags::default();
    for (part, at) in rest {
        if !flags.take(part, *at)? {
            return broken(*at, format!("byte_test knows no `{part}`"));
        }
    }
    let field = Field {
        length: amount_of(draft, length, length_at)?,
        offset: in_range(amount_of(draft, offset, offset_at)?, -65_535, 65_535, offset_at)?,
        from: flags.from,
        encoding: flags.encoding(value.at)?,
        mask: flags.mask,
    };
    check_length(&field, 1, length_at)?;
    let with = match with.starts_with(|c: char| c.is_ascii_digit()) {
        true => Amount::Number(by_prefix(with, with_at)?.cast_signed()),
        false => amount_of(draft, with, with_at)?,
    };
    add(draft, field.from, Test::ByteTest(ByteTest { field, operator, presence, value: with }));
    Ok(())
}

/// `byte_jump:LENGTH,OFFSET[,...]`
pub(super) fn byte_jump(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let parts: Vec<_> = value.parts()?.collect();
    let [(length, length_at), (offset, offset_at), ref rest @ ..] = *parts else {
        return broken(value.at, "byte_jump is `LENGTH,OFFSET[,...]`");
    };
    let mut flags = Flags::default();
    let (mut multiplier, mut align) = (1, false);
    let (mut base, mut post_offset) = (JumpBase::Field, Amount::Number(0));
    for (part, at) in rest {
        let at = *at;
        if flags.take(part, at)? {
            continue;
        }
        let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let word = word.trim_ascii();
        match (key, word) {
            ("align", "") => align = true,
            ("from_beginning", "") if base != JumpBase::End => base = JumpBase::Start,
            ("from_end", "") if base != JumpBase::Start => base = JumpBase::End,
            ("from_beginning" | "from_end", "") => {
                return broken(at, "a jump from the beginning and from the end");
            }
            ("multiplier", n) => multiplier = at_least_one(n, 65_535, at)?,
            ("post_offset", n) => {
                post_offset = in_range(amount_of(draft, n, at)?, -65_535, 65_535, at)?;
            }
            _ => return broken(at, format!("byte_jump knows no `{part}`")),
        }
    }
    let field = Field {
        length: amount_of(draft, length, length_at)?,
        offset: in_range(amount_of(draft, offset, offset_at)?, -65_535, 65_535, offset_at)?,
        from: flags.from,
        encoding: flags.encoding(value.at)?,
        mask: flags.mask,
    };
    check_length(&field, 0, length_at)?;
    let jump = ByteJump { field, multiplier, align, base, post_offset };
    add(draft, field.from, Test::ByteJump(jump));
    Ok(())
}

/// `byte_extract:LENGTH,OFFSET,NAME[,...]`
pub(super) fn byte_extract(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let parts: Vec<_> = value.parts()?.collect();
    let [(length, length_at), (offset, offset_at), (name, name_at), ref rest @ ..] = *parts else {
        return broken(value.at, "byte_extract is `LENGTH,OFFSET,NAME[,...]`");
    };
    let mut flags = Flags::default();
    let (mut multiplier, mut align) = (1, None);
    for (part, at) in rest {
        let at = *at;
        if flags.take(part, at)? {
            continue;
        }
        let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        match (key, word.trim_ascii()) {
            ("multiplier", n) => multiplier = at_least_one(n, 65_535, at)?,
            ("align", "2") => align = Some(2),
            ("align", "4") => align = Some(4),
            _ => return broken(at, format!("byte_extract knows no `{part}`")),
        }
    }
    let field = Field {
        length: Amount::Number(number::<u32>(length, length_at)?.into()),
        offset: in_range(amount_of(draft, offset, offset_at)?, -65_535, 65_535, offset_at)?,
        from: flags.from,
        encoding: flags.encoding(value.at)?,
        mask: flags.mask,
    };
    check_length(&field, 1, length_at)?;
    let variable = draft.new_variable(name, name_at)?;
    let extract = ByteExtract { field, multiplier, align, variable };
    add(draft, field.from, Test::ByteExtract(extract));
    Ok(())
}

/// `byte_math:bytes N,offset N,oper O,rvalue N,result NAME[,...]`
pub(super) fn byte_math(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let mut flags = Flags::default();
    let (mut length, mut offset, mut operator, mut with, mut name) = (None, None, None, None, None);
    for (part, at) in value.parts()? {
        let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let word = word.trim_ascii();
        match key {
            "bytes" => length = Some((amount_of(draft, word, at)?, at)),
            "offset" => offset = Some(in_range(amount_of(draft, word, at)?, -65_535, 65_535, at)?),
            "oper" => operator = Some(arithmetic(word, at)?),
            "rvalue" => with = Some((amount_of(draft, word, at)?, at)),
            "result" => name = Some((word, at)),
            "endian" => _ = flags.take(word, at)?,
            "string" if !word.is_empty() => {
                flags.take("string", at)?;
                flags.take(word, at)?;
            }
            _ if flags.take(part, at)? => {}
            _ => return broken(at, format!("byte_math knows no `{part}`")),
        }
    }
    let (Some((length, length_at)), Some(offset), Some(operator)) = (length, offset, operator)
    else {
        return broken(value.at, "byte_math needs `bytes`, `offset` and `oper`");
    };
    let (Some((with, with_at)), Some((name, name_at))) = (with, name) else {
        return broken(value.at, "byte_math needs `rvalue` and `result`");
    };
    in_range(with, i64::from(operator == Arithmetic::Divide), u32::MAX.into(), with_at)?;
    let encoding = flags.encoding(value.at)?;
    let field = Field { length, offset, from: flags.from, encoding, mask: flags.mask };
    check_length(&field, 1, length_at)?;
    let variable = draft.new_variable(name, name_at)?;
    let math = ByteMath { field, operator, value: with, variable };
    add(draft, field.from, Test::ByteMath(math));
    Ok(())
}

/// `base64_decode[:[bytes N][,offset N][,relative]]`
pub(super) fn base64_decode(draft: &mut Draft<'_>, value: Option<Value<'_>>) -> Read<()> {
    let mut decode = Base64Decode { bytes: None, offset: 0, from: From::Start };
    if let Some(value) = value.filter(|v| !v.bytes.is_empty()) {
        for (part, at) in value.parts()? {
            let (key, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            match (key, word.trim_ascii()) {
                ("bytes", n) => decode.bytes = Some(at_least_one(n, u64::from(u32::MAX), at)?),
                ("offset", n) => decode.offset = number::<u16>(n, at)?.into(),
                ("relative", "") => decode.from = From::LastMatch,
                _ => return broken(at, format!("base64_decode knows no `{part}`")),
            }
        }
    }
    add(draft, decode.from, Test::Base64Decode(decode));
    Ok(())
}

fn add(draft: &mut Draft<'_>, from: From, test: Test) {
    match from {
        From::LastMatch => draft.test_relative(test),
        From::Start => draft.test(test),
    }
}

fn arithmetic(word: &str, at: usize) -> Read<Arithmetic> {
    Ok(match word {
        "+" => Arithmetic::Add,
        "-" => Arithmetic::Subtract,
        "*" => Arithmetic::Multiply,
        "/" => Arithmetic::Divide,
        "<<" => Arithmetic::ShiftLeft,
        ">>" => Arithmetic::ShiftRight,
        _ => return broken(at, format!("`{word}` is none of + - * / << >>")),
    })
}

fn in_range(amount: Amount, least: i64, most: i64, at: usize) -> Read<Amount> {
    match amount {
        Amount::Number(n) if !(least..=most).contains(&n) => {
            broken(at, format!("{n} is not between {least} and {most}"))
        }
        amount => Ok(amount),
    }
}

fn at_least_one(text: &str, most: u64, at: usize) -> Read<u32> {
    match number::<u32>(text, at)? {
        n if n == 0 || u64::from(n) > most => {
            broken(at, format!("{n} is not between 1 and {most}"))
        }
        n => Ok(n),
    }
}

/// As many bytes as a number of 64 bits has, in this encoding.
fn check_length(field: &Field, least: i64, at: usize) -> Read<()> {
    let most = match field.encoding {
        Encoding::BigEndian | Encoding::LittleEndian => 8,
        Encoding::Digits(16) => 14,
        Encoding::Digits(10) => 20,
        Encoding::Digits(_) | Encoding::AnyDigits => 23,
    };
    in_range(field.length, least, most, at).map(drop)
}

/// What all of them know.
#[derive(Default)]
struct Flags {
    from: From,
    endian: Option<Encoding>,
    string: bool,
    base: Option<u32>,
    mask: Option<u32>,
}

impl Flags {
    /// Takes a word that it knows; whether it did.
    fn take(&mut self, word: &str, at: usize) -> Read<bool> {
        match word.to_ascii_lowercase().as_str() {
            "relative" => self.from = From::LastMatch,
            "big" => self.endian = Some(Encoding::BigEndian),
            "little" => self.endian = Some(Encoding::LittleEndian),
            "string" => self.string = true,
            "hex" => self.base = Some(16),
            "dec" => self.base = Some(10),
            "oct" => self.base = Some(8),
            "dce" => return unsupported(at, "dce"),
            _ => {
                let Some(mask) = word.strip_prefix("bitmask").map(str::trim_ascii) else {
                    return Ok(false);
                };
                let digits = mask.strip_prefix("0x").or(mask.strip_prefix("0X")).unwrap_or(mask);
                match u32::from_str_radix(digits, 16) {
                    Ok(mask) if mask != 0 => self.mask = Some(mask),
                    _ => return broken(at, format!("`{mask}` is no mask of 32 bits")),
                }
            }
        }
        Ok(true)
    }

    fn encoding(&self, at: usize) -> Read<Encoding> {
        match (self.string, self.base, self.endian) {
            (true, _, Some(_)) => broken(at, "digits have no byte order"),
            (true, Some(base), None) => Ok(Encoding::Digits(base)),
            (true, None, None) => Ok(Encoding::AnyDigits),
            // A base of what are no digits is of no meaning, and Suricata forgives it.
            (false, _, endian) => Ok(endian.unwrap_or(Encoding::BigEndian)),
        }
    }
}
