//! Base64 as `base64_decode` reads it (RFC 4648): what is none of its characters ends it, blanks do not.

/// Puts what is decoded into `out`, in place of what is in it.
pub(super) fn decode(encoded: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in encoded {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.extend(u8::try_from(bits >> count & 0xff));
        }
        // What is left are fewer than eight bits.
        bits &= 0xff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_bytes_until_one_is_none() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"SGVsbG8=", b"Hello"),
            (b"SGVs\r\n bG8", b"Hello"),
            (b"SGVsbG8!SGVs", b"Hello"),
            (b"SGVsbG8=SGVs", b"Hello"),
            (b"/+8=", b"\xff\xef"),
            (b"S", b""),
            (b"!", b""),
        ];
        let mut out = b"before".to_vec();
        for (encoded, decoded) in cases {
            decode(encoded, &mut out);
            assert_eq!(out, decoded, "{}", encoded.escape_ascii());
        }
    }
}
