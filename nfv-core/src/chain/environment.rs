//! `${VAR}`, `${VAR:-default}` and `$$` inside the values of a chain file.
//!
//! Substitution happens in each scalar after the YAML is parsed, not in the text before: so a
//! value from the environment can never change the structure of the file, and every column in a
//! message points into the file that the user sees.
use super::report::{Report, quoted};
use super::source::Span;

/// Where `${VAR}` takes its values from: `None` for a variable that is not set.
///
/// In the program `&|name| std::env::var(name).ok()`; in tests a table.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Replaces the references of one scalar.
///
/// `text`: the scalar's value; `raw`: as it stands in the file at `at`, to place mistakes.
/// Returns `None` when there is a mistake, which is then in `report`.
pub(crate) fn substitute(
    text: &str,
    raw: &str,
    at: Span,
    environment: Environment<'_>,
    report: &mut Report,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut sound = true;
    let mut rest = text;
    let mut looked = 0;
    while let Some(dollar) = rest.find('$') {
        let (before, reference) = rest.split_at(dollar);
        out.push_str(before);
        match Reference::parse(reference) {
            Reference::Dollar => {
                out.push('$');
                rest = reference.get(2..).unwrap_or_default();
            }
            Reference::Literal => {
                out.push('$');
                rest = reference.get(1..).unwrap_or_default();
            }
            Reference::Variable { name, default, text } => {
                match environment(name).filter(|value| !(value.is_empty() && default.is_some())) {
                    Some(value) => out.push_str(&value),
                    None => match default {
                        Some(default) => out.push_str(default),
                        None => {
                            sound = false;
                            let message = format!("the environment variable `{name}` is not set");
                            report
                                .error(place(raw, text, &mut looked, at), message)
                                .hint(format!("set it, or give a default: `${{{name}:-value}}`"));
                        }
                    },
                }
                rest = reference.get(text.len()..).unwrap_or_default();
            }
            Reference::Wrong { text } => {
                sound = false;
                report
                    .error(
                        place(raw, text, &mut looked, at),
                        format!("{} is not a reference to a variable", quoted(text)),
                    )
                    .hint("write `${NAME}` or `${NAME:-default}`; `$$` stands for a dollar sign");
                rest = reference.get(text.len()..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    sound.then_some(out)
}

/// What a dollar sign starts.
enum Reference<'t> {
    /// `$$`.
    Dollar,
    /// A dollar sign before anything but `$` and `{`.
    Literal,
    /// `${name}` or `${name:-default}`; `text` is all of it.
    Variable { name: &'t str, default: Option<&'t str>, text: &'t str },
    /// `${` and something else.
    Wrong { text: &'t str },
}

impl<'t> Reference<'t> {
    /// `from` starts with a dollar sign.
    fn parse(from: &'t str) -> Self {
        if from.starts_with("$$") {
            return Self::Dollar;
        }
        let Some(inner) = from.strip_prefix("${") else { return Self::Literal };
        let Some(len) = inner.find('}') else { return Self::Wrong { text: from } };
        let (inner, text) = inner
            .get(..len)
            .zip(from.get(..len + "${}".len()))
            .expect("a brace is one byte, so both ends lie between characters");
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        // A default may not refer to another variable: the first `}` would end both.
        let nested = default.is_some_and(|default| default.contains("${"));
        if nested || !is_variable_name(name) {
            return Self::Wrong { text };
        }
        Self::Variable { name, default, text }
    }
}

/// Letters, digits and `_`, as in a shell; also `-`, which the variables of the SR-IOV device
/// plugin for Kubernetes (`PCIDEVICE_...`) can have.
fn is_variable_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(allowed)
}

/// The place of `text` in the file, searched from `looked` on; of the whole scalar when it is
/// written with escapes, or further down in a scalar of several lines.
fn place(raw: &str, text: &str, looked: &mut usize, at: Span) -> Span {
    let Some(skip) = raw.get(*looked..).and_then(|rest| rest.find(text)) else { return at };
    let skip = *looked + skip;
    *looked = skip + text.len();
    if raw.get(..skip).is_some_and(|before| before.contains(['\n', '\r'])) {
        return at;
    }
    at.part(raw, skip, text.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::source::Source;
    use super::*;

    fn run(text: &str) -> (Option<String>, Vec<(u32, String)>) {
        let mut report = Report::new(Arc::new(Source::from_bytes("a", text.into()).unwrap()));
        let environment = |name: &str| {
            [("A", "1"), ("EMPTY", "")].into_iter().find(|v| v.0 == name).map(|v| v.1.into())
        };
        let at = Span { line: 1, column: 1, start: 0, end: text.len() as u32 };
        let out = substitute(text, text, at, &environment, &mut report);
        let errors =
            report.entries().iter().map(|e| (e.span().column, e.message().to_owned())).collect();
        (out, errors)
    }

    #[test]
    fn references_are_replaced_and_other_dollars_stay() {
        for (text, value) in [
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("${B:-2}", "2"),
            ("${B:-}", ""),
            ("${A:-2}", "1"),
            ("${EMPTY:-2}", "2"),
            ("${EMPTY}", ""),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("5$", "5$"),
            ("$A é", "$A é"),
            ("${B:-é-:-}", "é-:-"),
        ] {
            assert_eq!(run(text), (Some(value.into()), vec![]), "{text}");
        }
    }

    #[test]
    fn every_wrong_reference_is_an_error_at_its_own_column() {
        let not_set = "the environment variable `B` is not set";
        assert_eq!(run("é ${B} ${B}"), (None, vec![(3, not_set.into()), (8, not_set.into())]));
        for text in ["${", "${}", "${A B}", "${1}", "${A-x}", "${A:-${B}}", "${A:-"] {
            let (value, errors) = run(text);
            assert_eq!(value, None, "{text}");
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        }
    }
}
