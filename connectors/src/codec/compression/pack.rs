//! Text to gzip or zstd, in members or frames that are whole by themselves.

use std::io::Write;

use bourn_engine::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder;

use super::Packing;

/// Compresses a text that is written as it comes. It holds what the open member has not given out yet: some 100 KiB.
pub struct Packer {
    packing: Packing,
    open: Option<Open>,
}

enum Open {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// Nothing was written yet.
    pub fn new(packing: Packing) -> Self {
        Self { packing, open: None }
    }

    /// Adds `text`, and appends to `out` what it gives.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn pack(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self.open()? {
            Open::Gzip(encoder) => {
                encoder.write_all(text)?;
                out.append(encoder.get_mut());
            }
            Open::Zstd(encoder) => {
                encoder.write_all(text)?;
                out.append(encoder.get_mut());
            }
        }
        Ok(())
    }

    /// Ends the member or frame, if one is open: what was written so far can be read by itself.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self.open.take() {
            Some(Open::Gzip(encoder)) => out.append(&mut encoder.finish()?),
            Some(Open::Zstd(encoder)) => out.append(&mut encoder.finish()?),
            None => {}
        }
        Ok(())
    }

    /// Opens a member, so that its end makes one even without a text.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn begin(&mut self) -> Result<()> {
        self.open().map(drop)
    }

    fn open(&mut self) -> Result<&mut Open> {
        let new = match (&self.open, self.packing) {
            (Some(_), _) => None,
            (None, Packing::Gzip) => Some(Open::Gzip(GzEncoder::new(Vec::new(), Compression::default()))),
            (None, Packing::Zstd) => Some(Open::Zstd(Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?)),
        };
        if let Some(new) = new {
            return Ok(self.open.insert(new));
        }
        self.open.as_mut().ok_or_else(|| bourn_engine::Error::engine("no member is open"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compression::{Limits, Text};
    use bourn_engine::data::units::Size;
    use bourn_engine::env::Env;
    use bourn_engine::testing::simulation::Simulation;
    use bourn_engine::testing::simulation::files::Fault;
    use bourn_engine::{Error, Kind};
    use std::path::Path;

    const BOTH: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

    fn packed(packing: Packing, parts: &[&[u8]]) -> Vec<u8> {
        let (mut packer, mut out) = (Packer::new(packing), Vec::new());
        for part in parts {
            packer.pack(part, &mut out).unwrap();
            packer.end(&mut out).unwrap();
        }
        out
    }

    fn open(env: &Env, packing: Packing, limits: Limits) -> Text {
        Text::open(env.files().open(Path::new("a")).unwrap(), Some(packing), limits).unwrap()
    }

    fn rest(mut text: Text) -> Result<Vec<u8>, Error> {
        let (mut all, mut buffer) = (Vec::new(), [0; 1_000]);
        loop {
            match text.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn read(packing: Packing, bytes: &[u8], limits: Limits) -> Result<Vec<u8>, Error> {
        let simulation = Simulation::new(1);
        simulation.files().put("a", bytes);
        rest(open(&simulation.env(), packing, limits))
    }

    #[test]
    fn members_and_frames_are_read_as_one_text_and_from_any_place_on() {
        for packing in BOTH {
            let bytes = packed(packing, &[b"one\n", b"", b"two\nthree\n"]);
            assert_eq!(read(packing, &bytes, Limits::default()).unwrap(), b"one\ntwo\nthree\n");
            assert_eq!(read(packing, &[], Limits::default()).unwrap(), b"");
            let simulation = Simulation::new(1);
            simulation.files().put("a", bytes);
            for offset in 0..=14 {
                let mut text = open(&simulation.env(), packing, Limits::default());
                text.skip_to(offset).unwrap();
                assert_eq!(rest(text).unwrap(), &b"one\ntwo\nthree\n"[usize::try_from(offset).unwrap()..]);
            }
            let error = open(&simulation.env(), packing, Limits::default()).skip_to(15).unwrap_err();
            assert!(error.message().starts_with("holds 14 bytes, and 15"), "{error}");
        }
    }

    #[test]
    fn what_is_cut_off_or_broken_is_told_with_its_place_wherever_it_is() {
        for packing in BOTH {
            let text: Vec<_> = (0..2_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            let whole = packed(packing, &[&text]);
            for length in 1..whole.len() {
                let error = read(packing, &whole[..length], Limits::default()).unwrap_err();
                assert_eq!(error.kind(), Kind::Validation);
                assert!(error.message().contains(packing.name()), "{length} of {}: {error}", whole.len());
            }
            let mut broken = whole.clone();
            broken[1] ^= 0xFF;
            let error = read(packing, &broken, Limits::default()).unwrap_err();
            assert!(error.message().starts_with(&format!("is no {} at byte ", packing.name())), "{error}");
            let error = read(packing, &b"{\"a\":1}\n".repeat(9), Limits::default()).unwrap_err();
            assert!(error.message().starts_with(&format!("is no {} at byte ", packing.name())), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_an_error_before_it_has_gone_off() {
        for packing in BOTH {
            let zeros = vec![b'0'; 22 << 20];
            let bytes = packed(packing, &[&zeros]);
            let error = read(packing, &bytes, Limits::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Budget);
            assert!(error.message().contains("holds more than 200 times its"), "{error}");
            let meant = Limits { ratio: 1_000_000, size: None };
            assert_eq!(read(packing, &bytes, meant).unwrap().len(), zeros.len());
            let capped = Limits { ratio: 1_000_000, size: Some(Size(20 << 20)) };
            let error = read(packing, &bytes, capped).unwrap_err();
            assert!(error.message().contains("holds more than 20971520 bytes"), "{error}");
            // What is small anyway may be as regular as it likes.
            assert!(read(packing, &packed(packing, &[&zeros[..16 << 20]]), Limits::default()).is_ok());
        }
    }

    #[test]
    fn an_error_of_the_disk_stays_one() {
        for packing in BOTH {
            let simulation = Simulation::new(1);
            simulation.files().put("a", packed(packing, &[b"one\n"]));
            let text = open(&simulation.env(), packing, Limits::default());
            simulation.files().fail(simulation.files().calls() + 1, Fault::Io);
            assert_eq!(rest(text).unwrap_err().kind(), Kind::Io);
        }
    }
}
