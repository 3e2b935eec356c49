//! A file that may be Parquet: rows or an error, never a panic, never more memory than the file justifies.
#![no_main]

mod finding;

use std::io;
use std::sync::Arc;

use bourn_connectors::codec::parquet::Footer;
use bourn_engine::env::ReadFile;
use libfuzzer_sys::fuzz_target;

struct Bytes(Vec<u8>);

impl ReadFile for Bytes {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.0.get(o..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

// The decoders of the parquet crate may panic over a broken file; `Footer` and `Rows` make an error of it.
fuzz_target!(init: finding::only_what_escapes(), |bytes: &[u8]| finding::check(bytes, || {
    for first in [0, 3] {
        read(bytes, first);
    }
}));

fn read(bytes: &[u8], first: u64) {
    let Ok(footer) = Footer::read(Arc::new(Bytes(bytes.to_vec()))) else { return };
    let schema = footer.schema().clone();
    let Ok(mut rows) = footer.rows(&schema, first) else { return };
    // A footer may claim any number of rows.
    for _ in 0..100 {
        match rows.read() {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
}
