//! The `nfv` command: dispatches to one subcommand a file.

fn main() {}
