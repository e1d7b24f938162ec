//! What is odd about a packet.

/// The names of what is odd about a packet, as `decode-event` rules have them, without `decoder.` before them.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Remarks {
    names: [&'static str; MOST],
    len: u8,
    is_invalid: bool,
}

impl Remarks {
    /// Adds one about a packet that can be read all the same.
    #[cold]
    pub fn add(&mut self, name: &'static str) {
        if self.names().contains(&name) {
            return;
        }
        if let Some(free) = self.names.get_mut(usize::from(self.len)) {
            *free = name;
            self.len += 1;
        }
    }

    /// Adds one about a packet that cannot be read further.
    #[cold]
    pub fn fail(&mut self, name: &'static str) {
        self.is_invalid = true;
        self.add(name);
    }

    /// Whether the packet can be read no further: it is of no flow.
    pub fn is_invalid(&self) -> bool {
        self.is_invalid
    }

    /// In the order in which they were found.
    pub fn names(&self) -> &[&'static str] {
        self.names.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Remarks about a packet that are kept.
const MOST: usize = 8;
