//! The two health tests that NIST SP 800-90B wants of every noise source (section 4.4), on bytes that carry 4 bits of entropy at least. A
//! good source fails one of them once in 2^30 bytes at most.

/// So many equal bytes in a row are a stuck source: 1 + 30 / 4, rounded up (section 4.4.1).
pub const REPETITIONS: u32 = 9;
/// The length of the window of the second test, in bytes (section 4.4.2).
pub const WINDOW: u32 = 512;
/// So many bytes of a window that are equal to its first are a biased source: 1 + the critical value of the binomial distribution of 512
/// trials at 2^-4 for 1 - 2^-30 (section 4.4.2).
pub const PROPORTION: u32 = 71;

/// What the tests remember of a source.
pub struct Health {
    last: Option<u8>,
    repeated: u32,
    first: u8,
    seen: u32,
    equal: u32,
}

impl Health {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        Self { last: None, repeated: 0, first: 0, seen: 0, equal: 0 }
    }

    /// Whether the source still looks sound with `byte` as its next.
    pub fn passes(&mut self, byte: u8) -> bool {
        self.repeated = if self.last == Some(byte) { self.repeated + 1 } else { 1 };
        self.last = Some(byte);

        if self.seen == 0 {
            (self.first, self.equal) = (byte, 0);
        }
        self.equal += u32::from(byte == self.first);
        self.seen = (self.seen + 1) % WINDOW;

        self.repeated < REPETITIONS && self.equal < PROPORTION
    }
}
