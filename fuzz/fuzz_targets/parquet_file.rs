//! A file that may be Parquet: rows or an error, never a panic, never more memory than the file justifies.
#![no_main]

mod finding;
mod table;

use bourn_connectors::codec::table::Kind;
use libfuzzer_sys::fuzz_target;

// The decoders of the parquet crate may panic over a broken file; `Table` and `Rows` make an error of it.
fuzz_target!(init: finding::only_what_escapes(), |bytes: &[u8]| finding::check(bytes, || table::read(Kind::Parquet, bytes)));
