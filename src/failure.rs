//! How a subcommand ends.

/// Why a subcommand failed, which decides the exit code.
#[derive(Debug)]
pub enum Failure {
    /// The user's mistake: a text that says what, where, and what to do. Exit 2.
    User(String),
    /// The machine's failure. Exit 1.
    Machine(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(why: E) -> Self {
        Self::Machine(why.into())
    }
}

/// What all subcommands return.
pub type Outcome = Result<(), Failure>;
