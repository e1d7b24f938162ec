//! IPv4's and TCP's options, as far as something may be odd about them.

use super::Decoded;

impl Decoded<'_> {
    /// Judges the options of an IPv4 header (RFC 791, section 3.1).
    pub(super) fn ipv4_options(&mut self, options: &[u8]) {
        if !options.len().is_multiple_of(8) && options.last() != Some(&END) {
            self.remarks.add("ipv4.opt_pad_required");
        }
        let mut rest = options;
        let mut seen = [false; 256];
        while let [kind, ref behind @ ..] = *rest {
            if kind == END {
                return;
            }
            if kind == NOP {
                rest = behind;
                continue;
            }
            let Some((option, behind)) = split(rest) else {
                return self.remarks.fail("ipv4.opt_invalid_len");
            };
            if let Some(seen) = seen.get_mut(usize::from(kind))
                && std::mem::replace(seen, true)
            {
                self.remarks.add("ipv4.opt_duplicate");
            }
            let is_right = match kind {
                RECORD_ROUTE | LOOSE_ROUTE | STRICT_ROUTE => is_route(option),
                TIMESTAMP => is_timestamp(option),
                STREAM_ID | ROUTER_ALERT => option.len() == 4,
                QUICK_START => option.len() == 8,
                SECURITY => option.len() == 11,
                EXTENDED_SECURITY | CIPSO => option.len() >= 3,
                _ => {
                    self.remarks.add("ipv4.opt_invalid");
                    true
                }
            };
            if !is_right {
                let known = option.len() >= 3;
                let name = if known { "ipv4.opt_malformed" } else { "ipv4.opt_invalid_len" };
                return self.remarks.fail(name);
            }
            rest = behind;
        }
    }

    /// Judges the options of a TCP header (RFC 9293, section 3.2).
    pub(super) fn tcp_options(&mut self, options: &[u8]) {
        let mut rest = options;
        let mut seen = [false; 256];
        while let [kind, ref behind @ ..] = *rest {
            if kind == END {
                return;
            }
            if kind == NOP {
                rest = behind;
                continue;
            }
            let Some((option, behind)) = split(rest) else {
                return self.remarks.add("tcp.opt_invalid_len");
            };
            let (is_right, is_once) = match kind {
                2 => (option.len() == 4, true),
                3 => (option.len() == 3, true),
                4 => (option.len() == 2, true),
                5 => (option.len() >= 10 && option.len() % 8 == 2, true),
                8 => (option.len() == 10, true),
                _ => (true, false),
            };
            if !is_right {
                self.remarks.add("tcp.opt_invalid_len");
            } else if let Some(seen) = seen.get_mut(usize::from(kind))
                && std::mem::replace(seen, true)
                && is_once
            {
                self.remarks.add("tcp.opt_duplicate");
            }
            rest = behind;
        }
    }
}

/// The first option with its two bytes, and what is behind it.
fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*rest.get(1)?);
    if length < 2 { None } else { rest.split_at_checked(length) }
}

/// A route: the pointer is at one of the addresses, or behind the last.
fn is_route(option: &[u8]) -> bool {
    let pointer = usize::from(option.get(2).copied().unwrap_or_default());
    option.len() >= 7
        && option.len() % 4 == 3
        && pointer >= 4
        && pointer % 4 == 0
        && pointer <= option.len() + 1
}

/// Times, with or without addresses.
fn is_timestamp(option: &[u8]) -> bool {
    let &[_, _, pointer, flag, ..] = option else { return false };
    let size = if matches!(flag & 0x0f, 1 | 3) { 8 } else { 4 };
    let pointer = usize::from(pointer);
    pointer >= 5 && (pointer - 5) % size == 0 && pointer <= option.len() + 1
}

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 0x07;
const QUICK_START: u8 = 0x19;
const TIMESTAMP: u8 = 0x44;
const SECURITY: u8 = 0x82;
const LOOSE_ROUTE: u8 = 0x83;
const EXTENDED_SECURITY: u8 = 0x85;
const CIPSO: u8 = 0x86;
const STREAM_ID: u8 = 0x88;
const STRICT_ROUTE: u8 = 0x89;
const ROUTER_ALERT: u8 = 0x94;
