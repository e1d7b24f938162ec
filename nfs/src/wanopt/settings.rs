//! What both sides of a box are made with.

use siphasher::sip::SipHasher13;

use super::cipher::Salt;
use super::seal::Seal;
use super::wire::Which;

/// What both sides of a box are made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of memory of each side.
    pub memory: usize,
    /// What only the two boxes know.
    pub seal: Seal,
    /// By which zstd compresses.
    pub level: i32,
    /// For what has to be hard to guess, and for the numbers of epochs.
    pub secret: [u64; 2],
    /// Which of the box's it is, of how many.
    pub instance: u8,
    /// How many there are.
    pub of: u8,
}

impl Settings {
    /// The first epoch of one of the box's ends, by its number.
    pub fn epoch(&self, number: usize) -> u32 {
        let [a, b] = self.secret;
        let number = (number as u64) << 8 | u64::from(self.instance);
        SipHasher13::new_with_keys(a, b).hash(&number.to_le_bytes()) as u32
    }

    /// Tells the log that an end of this epoch begins from all others.
    pub fn log(&self, epoch: u32) -> Which {
        let [a, b] = self.secret;
        let own = [epoch, u32::from(self.instance)].map(u32::to_le_bytes);
        // 0 stands for none.
        SipHasher13::new_with_keys(!a, !b).hash(own.as_flattened()) | 1
    }

    /// What an encoder draws at its start, which has no other one's secret, number and epoch.
    pub fn salt(&self, epoch: u32) -> Salt {
        let [a, b] = self.secret;
        let hasher = SipHasher13::new_with_keys(!a, b);
        let half = |n: u32| {
            let [own, drawn] = [u32::from(self.instance) << 8 | n, epoch].map(u32::to_le_bytes);
            hasher.hash([own, drawn].as_flattened()).to_le_bytes()
        };
        let mut salt = [0; 16];
        let halves = [half(1), half(2)];
        salt.iter_mut().zip(halves.as_flattened()).for_each(|(to, from)| *to = *from);
        salt
    }

    /// The same with a secret of one peer's own.
    pub fn of_peer(self, at: usize) -> Self {
        let [a, b] = self.secret;
        let hasher = SipHasher13::new_with_keys(a, !b);
        let part = |n: u64| hasher.hash(&((at as u64) << 8 | n).to_le_bytes());
        Self { secret: [part(1), part(2)], ..self }
    }
}

#[cfg(test)]
impl Settings {
    /// Of small memory, without a key.
    pub fn for_tests(memory: usize) -> Self {
        let seal = Seal::new([0; 16]);
        Self { memory, seal, level: 3, secret: [1, 2], instance: 0, of: 1 }
    }
}
