//! Gzip, undone piece by piece, with a bound on what comes of it.

use std::io::Write;

use bourn_engine::{Error, Kind, Result};
use flate2::write::MultiGzDecoder;

/// How much larger than what was sent a body may become.
pub const RATIO_MAX: u64 = 200;
/// So much may come of a few bytes: small texts of one letter are no bombs.
const FREE: u64 = 1 << 20;
/// How much is worked at once, in bytes: no more than 4 MiB can come of it before it is looked at.
const STEP: usize = 4 << 10;

/// Inflates a body of gzip as its pieces come.
pub struct Inflate {
    decoder: MultiGzDecoder<Vec<u8>>,
    taken: u64,
    given: u64,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), taken: 0, given: 0 }
    }
}

impl Inflate {
    /// What comes of the beginning of `piece`, of which what was worked is cut off.
    ///
    /// # Errors
    /// When it is no gzip, or would become more than 200 times as large as it is.
    pub fn step(&mut self, piece: &mut &[u8]) -> Result<Vec<u8>> {
        let (now, later) = piece.split_at(piece.len().min(STEP));
        *piece = later;
        self.decoder.write_all(now).map_err(|e| broken(&e))?;
        self.taken += now.len() as u64;
        self.take()
    }

    /// The last of it.
    ///
    /// # Errors
    /// When it breaks off before its end.
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        self.decoder.try_finish().map_err(|e| broken(&e))?;
        self.take()
    }

    fn take(&mut self) -> Result<Vec<u8>> {
        let out = std::mem::take(self.decoder.get_mut());
        self.given += out.len() as u64;
        if self.given > FREE + self.taken * RATIO_MAX {
            let message = format!("its gzip becomes more than {RATIO_MAX} times as large as it is: it is not inflated");
            return Err(Error::new(Kind::Budget, message));
        }
        Ok(out)
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::validation(format!("is no whole gzip: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(mut bytes: &[u8], step: usize) -> Result<Vec<u8>> {
        let (mut inflate, mut out) = (Inflate::default(), Vec::new());
        while !bytes.is_empty() {
            let mut piece = &bytes[..step.min(bytes.len())];
            bytes = &bytes[piece.len()..];
            while !piece.is_empty() {
                out.extend(inflate.step(&mut piece)?);
            }
        }
        out.extend(inflate.finish()?);
        Ok(out)
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back_however_it_is_cut(text in "[a-z]{0,300}", step in 1_usize..40) {
            let mut twice = gzip(text.as_bytes());
            twice.extend(gzip(text.as_bytes()));
            prop_assert_eq!(inflated(&twice, step).unwrap(), [text.as_bytes(), text.as_bytes()].concat());
        }

        #[test]
        fn any_bytes_at_all_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _refused_or_read = inflated(&bytes, 7);
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        let bomb = gzip(&vec![b'0'; 64 << 20]);
        let mut inflate = Inflate::default();
        let (mut piece, mut most) = (bomb.as_slice(), 0);
        let error = loop {
            match inflate.step(&mut piece) {
                Ok(out) => most += out.len(),
                Err(error) => break error,
            }
            assert!(!piece.is_empty(), "it was inflated");
        };
        assert!(error.message().contains("200 times") && most < 8 << 20, "{error} after {most} bytes");
    }

    #[test]
    fn gzip_that_breaks_off_is_told() {
        let whole = gzip(b"a text of some length, so that half of it is not enough");
        let told = inflated(&whole[..whole.len() / 2], 1_000).unwrap_err();
        assert!(told.message().contains("no whole gzip"), "{told}");
    }
}
