//! The chain file: reading, reporting mistakes, compiling to a program.
