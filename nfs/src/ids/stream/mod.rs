//! TCP streams put together as their receivers do.
