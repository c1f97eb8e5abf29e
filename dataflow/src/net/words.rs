//! What processes of a running cluster say to each other, on the connection that is not timely's.

use super::Start;
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Write};

/// The longest word, in bytes: a plan names every verdict that a clock had a part in, some 25 bytes each.
const LONGEST: u32 = 256 << 20;

/// A word.
#[derive(Serialize, Deserialize)]
pub enum Word {
    /// Process 0's plan.
    Start(Box<Start>),
    /// Stop reading, commit what was read, and end.
    Stop,
    /// A sign of life.
    Alive,
    /// I have ended well, and everything that I had is with its owner.
    Done,
    /// I end because of this.
    Failed(String),
}

/// Says a word.
pub fn write(to: &mut impl Write, word: &Word) -> Result<(), Error> {
    let bytes = bincode::serialize(word).map_err(Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= LONGEST);
    let length = length.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the plan is too long to be sent"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(bytes);
    to.write_all(&frame)?;
    to.flush()
}

/// Hears a word; an end of the connection is an error too.
pub fn read(from: &mut impl Read) -> Result<Word, Error> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "a word is too long"));
    }
    // It grows as bytes arrive: a wrong length must not take memory.
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    bincode::deserialize(&bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_and_others_are_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Word::Failed("no disk".to_owned())).unwrap();
        write(&mut bytes, &Word::Done).unwrap();
        let mut from = &bytes[..];
        assert!(matches!(read(&mut from), Ok(Word::Failed(why)) if why == "no disk"));
        assert!(matches!(read(&mut from), Ok(Word::Done)));
        assert_eq!(read(&mut from).err().unwrap().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(&mut &[0xff; 8][..]).err().unwrap().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&mut &[0, 0, 0, 4, 9, 9, 9, 9][..]).err().unwrap().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&mut &[0, 0, 0, 4, 2, 0][..]).err().unwrap().kind(), ErrorKind::InvalidData);
    }
}
