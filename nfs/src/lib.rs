//! The network functions of nfv, one file each, none knowing another.
#![forbid(unsafe_code)]
