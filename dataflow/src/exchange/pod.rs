//! Rows as their own bytes, by bytemuck: the compiler proves that a row has no padding and that any bytes are one.

use super::row::{BYTES, Row};
use crate::flow::Admitted;
use std::io::Write;

/// The codec's name.
pub const NAME: &str = "bytemuck";

/// Writes events.
pub fn encode(events: &[Admitted], writer: &mut impl Write) -> std::io::Result<()> {
    events.iter().try_for_each(|event| writer.write_all(bytemuck::bytes_of(&Row::from(event))))
}

/// Reads what [`encode`] wrote, at any alignment.
pub fn decode(bytes: &[u8]) -> Vec<Admitted> {
    let rows = bytes.chunks_exact(BYTES);
    assert!(rows.remainder().is_empty(), "a batch is whole rows");
    rows.map(|bytes| Admitted::from(&bytemuck::pod_read_unaligned::<Row>(bytes))).collect()
}

#[cfg(test)]
mod tests {
    use crate::exchange::row::tests::keeps_its_promises;

    #[test]
    fn what_is_written_is_read() {
        keeps_its_promises(super::encode, super::decode);
    }
}
