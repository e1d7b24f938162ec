//! What a chain file says of an emulated NIC: `emulated,profile=iavf,queues=4,wire=net_af_packet0,iface=wan0`.

use crate::offload::Facts;

/// An emulated NIC as the chain file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmulatedDevice {
    /// Whose rules it takes.
    pub profile: String,
    /// How many queue pairs it has.
    pub queues: u16,
    /// In which way it does not do what it says, and to whom.
    pub lie: Option<(Lie, LiedTo)>,
    /// The device that is its wire, with its arguments; without one it is fed by a bench.
    pub wire: Option<String>,
}

/// A fault of a NIC: it takes a rule, and does another thing. Drivers with such faults exist; that they are found is tested
/// with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It writes no tag.
    Mark,
    /// It writes the tag of another class.
    Tag,
    /// No packet meets a rule.
    Match,
}

/// Where a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiedTo {
    /// In all frames.
    All,
    /// Not in frames that it is shown to see what it does, only in those that come from the wire.
    Wire,
}

impl EmulatedDevice {
    /// The profile that takes every rule.
    pub const ANY: &str = "any";

    /// Reads a device's text; `None`: it is another device.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix(NAME)?;
        if !(rest.is_empty() || rest.starts_with(',')) {
            return None;
        }
        Some(Self::read_options(rest))
    }

    /// Its text without the wire.
    pub fn unwired(&self) -> String {
        let lie = LIES.iter().find(|(_, lie, to)| self.lie == Some((*lie, *to)));
        let lies = lie.map(|(name, ..)| format!(",lies={name}")).unwrap_or_default();
        format!("{NAME},profile={},queues={}{lies}", self.profile, self.queues)
    }

    fn read_options(text: &str) -> Result<Self, String> {
        let (options, wire) = match text.split_once(",wire=") {
            Some((options, wire)) => (options, Some(wire)),
            None => (text, None),
        };
        let mut device = Self { profile: Self::ANY.to_owned(), queues: 4, lie: None, wire: None };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("profile", name) => device.profile = profile(name)?,
                ("queues", count) => match count.parse() {
                    Ok(count @ 1..=QUEUES_MAX) => device.queues = count,
                    _ => return Err(format!("`{option}`: a number from 1 to {QUEUES_MAX}")),
                },
                ("lies", what) => match LIES.iter().find(|(name, ..)| *name == what) {
                    Some((_, lie, to)) => device.lie = Some((*lie, *to)),
                    None => {
                        let names: Vec<&str> = LIES.iter().map(|(name, ..)| *name).collect();
                        return Err(format!("`{option}`: it is one of {}", names.join(" ")));
                    }
                },
                _ => {
                    return Err(format!("`{option}`: the options are profile, queues, lies, wire"));
                }
            }
        }
        match wire {
            Some(wire) if wire.is_empty() || Self::read(wire).is_some() => {
                return Err(format!("`wire={wire}`: a device of DPDK's, such as net_tap0"));
            }
            wire => device.wire = wire.map(str::to_owned),
        }
        Ok(device)
    }
}

/// A profile by its name.
fn profile(name: &str) -> Result<String, String> {
    if name == EmulatedDevice::ANY || Facts::named(name).is_some() {
        return Ok(name.to_owned());
    }
    let near = Facts::nearest(name).map(|near| format!("did you mean `{near}`? "));
    let names: Vec<&str> = std::iter::once(EmulatedDevice::ANY).chain(Facts::names()).collect();
    let (near, names) = (near.unwrap_or_default(), names.join(" "));
    Err(format!("there is no profile `{name}`: {near}profiles: {names}"))
}

/// Faults by their names.
const LIES: [(&str, Lie, LiedTo); 6] = [
    ("mark", Lie::Mark, LiedTo::All),
    ("tag", Lie::Tag, LiedTo::All),
    ("match", Lie::Match, LiedTo::All),
    ("wire-mark", Lie::Mark, LiedTo::Wire),
    ("wire-tag", Lie::Tag, LiedTo::Wire),
    ("wire-match", Lie::Match, LiedTo::Wire),
];
/// What its device begins with.
const NAME: &str = "emulated";
/// What DPDK's port made of rings has.
const QUEUES_MAX: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EmulatedDevice, String> {
        EmulatedDevice::read(text).unwrap()
    }

    #[test]
    fn the_wire_takes_the_rest_of_the_text() {
        let device = read("emulated,profile=iavf,queues=2,lies=tag,wire=net_tap0,iface=a").unwrap();
        assert_eq!((device.profile.as_str(), device.queues), ("iavf", 2));
        assert_eq!(
            (device.lie, device.wire.as_deref()),
            (Some((Lie::Tag, LiedTo::All)), Some("net_tap0,iface=a"))
        );
        assert_eq!(read("emulated").unwrap().profile, "any");
        assert!(EmulatedDevice::read("emulated_other").is_none());
    }

    #[test]
    fn what_is_no_option_is_said_so() {
        for text in
            ["queues=0", "queues=17", "queue=1", "lies=all", "profile=", "wire=", "wire=emulated"]
        {
            assert!(read(&format!("emulated,{text}")).is_err(), "{text}");
        }
    }
}
