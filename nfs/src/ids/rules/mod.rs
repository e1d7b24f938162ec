//! The rule language of Suricata and Snort: from text to what detection evaluates.
