//! The classes of rules, and how grave they are: `classification.config`.

use std::collections::HashMap;
use std::sync::Arc;

use super::rule::Class;

/// Classes by their names.
#[derive(Clone, Debug)]
pub struct Classes {
    by_name: HashMap<Box<str>, Arc<Class>>,
}

/// A line of a classification that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: a class is `config classification: NAME,DESCRIPTION,PRIORITY`, its priority 1 to 255"
)]
pub struct BadClass {
    /// From 1.
    pub line: u32,
}

impl Classes {
    /// Those of the lines `config classification: NAME,DESCRIPTION,PRIORITY` of a file. Of two of a name the first counts.
    pub fn read(text: &str) -> (Self, Vec<BadClass>) {
        let mut classes = Self { by_name: HashMap::new() };
        let mut wrong = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match class(text) {
                Some(class) => {
                    let name = class.name.clone();
                    classes.by_name.entry(name).or_insert_with(|| Arc::new(class));
                }
                None => wrong.push(BadClass { line }),
            }
        }
        (classes, wrong)
    }

    /// The class of this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&Arc<Class>> {
        self.by_name.get(name).or_else(|| self.by_name.get(name.to_ascii_lowercase().as_str()))
    }
}

impl Default for Classes {
    /// Those that both Suricata and Snort deliver.
    fn default() -> Self {
        let class = |(name, description, priority): &(&str, &str, u8)| {
            let (name, description, priority): (Box<str>, _, _) =
                ((*name).into(), (*description).into(), *priority);
            (name.clone(), Arc::new(Class { name, description, priority }))
        };
        Self { by_name: DELIVERED.iter().map(class).collect() }
    }
}

fn class(line: &str) -> Option<Class> {
    let rest = line.strip_prefix("config")?.trim_ascii_start().strip_prefix("classification")?;
    let mut parts = rest.trim_ascii_start().strip_prefix(':')?.split(',').map(str::trim_ascii);
    let (name, description, priority) = (parts.next()?, parts.next()?, parts.next()?);
    let priority: u8 = priority.parse().ok().filter(|p| *p > 0)?;
    if name.is_empty() || description.is_empty() || parts.next().is_some() {
        return None;
    }
    let name = name.to_ascii_lowercase().into();
    Some(Class { name, description: description.into(), priority })
}

const DELIVERED: &[(&str, &str, u8)] = &[
    ("not-suspicious", "Not Suspicious Traffic", 3),
    ("unknown", "Unknown Traffic", 3),
    ("bad-unknown", "Potentially Bad Traffic", 2),
    ("attempted-recon", "Attempted Information Leak", 2),
    ("successful-recon-limited", "Information Leak", 2),
    ("successful-recon-largescale", "Large Scale Information Leak", 2),
    ("attempted-dos", "Attempted Denial of Service", 2),
    ("successful-dos", "Denial of Service", 2),
    ("attempted-user", "Attempted User Privilege Gain", 1),
    ("unsuccessful-user", "Unsuccessful User Privilege Gain", 1),
    ("successful-user", "Successful User Privilege Gain", 1),
    ("attempted-admin", "Attempted Administrator Privilege Gain", 1),
    ("successful-admin", "Successful Administrator Privilege Gain", 1),
    ("rpc-portmap-decode", "Decode of an RPC Query", 2),
    ("shellcode-detect", "Executable code was detected", 1),
    ("string-detect", "A suspicious string was detected", 3),
    ("suspicious-filename-detect", "A suspicious filename was detected", 2),
    ("suspicious-login", "An attempted login using a suspicious username was detected", 2),
    ("system-call-detect", "A system call was detected", 2),
    ("tcp-connection", "A TCP connection was detected", 4),
    ("trojan-activity", "A Network Trojan was detected", 1),
    ("unusual-client-port-connection", "A client was using an unusual port", 2),
    ("network-scan", "Detection of a Network Scan", 3),
    ("denial-of-service", "Detection of a Denial of Service Attack", 2),
    ("non-standard-protocol", "Detection of a non-standard protocol or event", 2),
    ("protocol-command-decode", "Generic Protocol Command Decode", 3),
    ("web-application-activity", "access to a potentially vulnerable web application", 2),
    ("web-application-attack", "Web Application Attack", 1),
    ("misc-activity", "Misc activity", 3),
    ("misc-attack", "Misc Attack", 2),
    ("icmp-event", "Generic ICMP event", 3),
    ("inappropriate-content", "Inappropriate Content was Detected", 1),
    ("policy-violation", "Potential Corporate Privacy Violation", 1),
    ("default-login-attempt", "Attempt to login by a default username and password", 2),
    ("targeted-activity", "Targeted Malicious Activity was Detected", 1),
    ("exploit-kit", "Exploit Kit Activity Detected", 1),
    ("external-ip-check", "Device Retrieving External IP Address Detected", 2),
    ("domain-c2", "Domain Observed Used for C2 Detected", 1),
    ("pup-activity", "Possibly Unwanted Program Detected", 2),
    ("credential-theft", "Successful Credential Theft Detected", 1),
    ("social-engineering", "Possible Social Engineering Attempted", 2),
    ("coin-mining", "Crypto Currency Mining Activity Detected", 2),
    ("command-and-control", "Malware Command and Control Activity Detected", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classification_is_read_and_its_wrong_lines_are_told() {
        let text = "# comment\nconfig classification: mine,My own,9\nnonsense\n\
            config classification: a,b,0\nconfig classification: MINE,Other,1\n";
        let (classes, wrong) = Classes::read(text);
        assert_eq!(wrong, [BadClass { line: 3 }, BadClass { line: 4 }]);
        assert_eq!(classes.get("Mine").map(|c| c.priority), Some(9));
        assert_eq!(Classes::default().get("trojan-activity").map(|c| c.priority), Some(1));
    }
}
