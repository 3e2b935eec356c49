//! A file of columns in memory, read to its end or to its first error.

use std::io;
use std::sync::Arc;

use bourn_connectors::codec::table::{Kind, Table};
use bourn_engine::env::ReadFile;

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

/// Reads all columns of `bytes`, from its first row and from a later one.
pub fn read(kind: Kind, bytes: &[u8]) {
    for first in [0, 3] {
        read_from(kind, bytes, first);
    }
}

fn read_from(kind: Kind, bytes: &[u8], first: u64) {
    let Ok(table) = Table::open(kind, Arc::new(Bytes(bytes.to_vec()))) else { return };
    let schema = table.schema().clone();
    let Ok(mut rows) = table.rows(&schema, first) else { return };
    // A file may claim any number of rows.
    for _ in 0..100 {
        match rows.read() {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
}
