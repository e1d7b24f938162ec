//! What applications say: HTTP, DNS, TLS and SSH, parsed from streams and datagrams.
