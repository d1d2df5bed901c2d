//! Randomness from the operating system, drawn in larger pieces since a nonce for each record is a call for each.

use zeroize::Zeroize;

/// Bytes drawn at a time.
const POOL_BYTES: usize = 4096;

/// A source of random bytes; each thread has its own.
pub struct RandomPool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

impl Default for RandomPool {
    fn default() -> Self {
        RandomPool { bytes: [0; POOL_BYTES], used: POOL_BYTES }
    }
}

impl RandomPool {
    /// N fresh bytes; they are wiped from the pool. N is at most 4096.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > POOL_BYTES {
            getrandom::fill(&mut self.bytes).expect("the operating system gives random bytes");
            self.used = 0;
        }
        let slice = &mut self.bytes[self.used..self.used + N];
        let mut out = [0; N];
        out.copy_from_slice(slice);
        slice.zeroize();
        self.used += N;
        out
    }
}
