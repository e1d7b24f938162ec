//! What is wrong with a rule, and where in it.

/// Why a rule is not loaded, at a byte of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Offset into the rule's text, its continued lines joined.
    pub at: usize,
    pub kind: Kind,
    /// A sentence without its end; of a rule that is skipped, the word that it is skipped for.
    pub text: String,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The rule's: Suricata refuses it too.
    Broken,
    /// Ours: it asks for what this IDS does not do.
    Unsupported,
}

/// The answer of all that reads a piece of a rule.
pub(super) type Read<T> = Result<T, Mistake>;

/// The rule is wrong at `at`.
pub(super) fn broken<T>(at: usize, text: impl Into<String>) -> Read<T> {
    Err(Mistake { at, kind: Kind::Broken, text: text.into() })
}

/// The rule asks at `at` for something that there is not here.
pub(super) fn unsupported<T>(at: usize, text: impl Into<String>) -> Read<T> {
    Err(Mistake { at, kind: Kind::Unsupported, text: text.into() })
}
