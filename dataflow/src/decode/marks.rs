//! Where strings can end: the quotes, backslashes and control characters of a text, found for 64 bytes at a time.
//!
//! The marks of a block do not depend on where the strings in it begin, so the processor computes them ahead; a search from
//! string to string would make each wait for the one before.

/// Bytes of a block, one bit each.
const BLOCK: usize = 64;

/// The marks of a text, computed as the search reaches them.
pub(super) struct Marks<'a> {
    bytes: &'a [u8],
    /// The first byte of the block at hand.
    from: usize,
    /// Bit i: byte `from + i` is marked. Bits past the end of the text are not set.
    bits: u64,
}

impl<'a> Marks<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Marks { bytes, from: 0, bits: marks_from(bytes, 0) }
    }

    /// The first byte from `at` on that does not stand for itself in a string: a quote, a backslash or a control character;
    /// the end of the text if there is none. `at` is never before the last answer.
    #[inline(always)]
    pub fn next(&mut self, mut at: usize) -> usize {
        loop {
            let skipped = at - self.from;
            if skipped < BLOCK {
                let rest = self.bits >> skipped;
                if rest != 0 {
                    return at + rest.trailing_zeros() as usize;
                }
                at = self.from + BLOCK;
            }
            if at >= self.bytes.len() {
                return self.bytes.len();
            }
            self.from = at;
            self.bits = marks_from(self.bytes, at);
        }
    }
}

/// The marks of the block that starts at `from`.
#[inline(always)]
fn marks_from(bytes: &[u8], from: usize) -> u64 {
    if let Some(block) = bytes[from..].first_chunk() {
        return marks_of(block);
    }
    // The last block ends with the text and begins before `from`.
    match bytes.last_chunk() {
        Some(block) => marks_of(block) >> (from + BLOCK - bytes.len()),
        None => marks_of_short(&bytes[from..]),
    }
}

/// The marks of a text that is shorter than a block.
#[cold]
fn marks_of_short(bytes: &[u8]) -> u64 {
    let is_marked = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
    bytes.iter().rev().fold(0, |marks, &byte| marks << 1 | u64::from(is_marked(byte)))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn marks_of(block: &[u8; BLOCK]) -> u64 {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { marks_by_sse2(block) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn marks_of(block: &[u8; BLOCK]) -> u64 {
    marks_by_words(block)
}

/// Four lanes of 16 bytes: with `marks_by_words` in its place, decoding takes about a third longer.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn marks_by_sse2(block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::*;
    let (lanes, _) = block.as_chunks::<16>();
    lanes.iter().rev().fold(0, |marks, lane| {
        // SAFETY: `lane` is 16 readable bytes, and this load needs no alignment.
        let lane = unsafe { _mm_loadu_si128(lane.as_ptr().cast()) };
        let quote = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'"'.cast_signed()));
        let backslash = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'\\'.cast_signed()));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(0x1f)), lane);
        let marked = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control));
        marks << 16 | u64::from(marked.cast_unsigned())
    })
}

/// The same for processors without SSE2: eight bytes a step.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn marks_by_words(block: &[u8; BLOCK]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = ONES * 0x7f;
    // The top bit of each byte that is zero: adding 0x7f to its low bits never carries into the next byte.
    let zeros = |word: u64| !(((word & LOW) + LOW) | word | LOW);
    let (words, _) = block.as_chunks::<8>();
    words.iter().rev().fold(0, |marks, word| {
        let word = u64::from_le_bytes(*word);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = zeros(word & (ONES * 0xe0));
        // The product moves the bit of byte i to bit 56 + i.
        let marked = ((quote | backslash | control) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        marks << 8 | marked
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};

    fn naive(bytes: &[u8], at: usize) -> usize {
        let found = bytes[at.min(bytes.len())..].iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        found.map_or(bytes.len(), |found| at + found)
    }

    #[test]
    fn both_ways_mark_every_byte_alike() {
        for start in 0..=255_u8 {
            for repeat in [1, 7, 64] {
                let block: [u8; BLOCK] = std::array::from_fn(|i| start.wrapping_add(u8::try_from(i / repeat).unwrap()));
                assert_eq!(marks_of(&block), marks_of_short(&block));
                assert_eq!(marks_by_words(&block), marks_of_short(&block));
            }
        }
    }

    #[test]
    fn finds_the_next_mark_from_anywhere() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        for length in 0..400 {
            let mut bytes: Vec<u8> = (0..length).map(|_| random.random_range(b'a'..=0xff)).collect();
            for _ in 0..random.random_range(0..8) {
                if let Some(last) = bytes.len().checked_sub(1) {
                    bytes[random.random_range(0..=last)] = [b'"', b'\\', 0, 0x1f, b' ', b'!', b'#'][random.random_range(0..7)];
                }
            }
            let (mut marks, mut at) = (Marks::new(&bytes), 0);
            while at <= length {
                let found = marks.next(at);
                assert_eq!(found, naive(&bytes, at));
                at = found + random.random_range(1..90);
            }
        }
    }
}
