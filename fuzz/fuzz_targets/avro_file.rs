//! A file that may be an Avro container: rows or an error, never a panic, never more memory than it justifies.
#![no_main]

mod finding;
mod table;

use bourn_connectors::codec::table::Kind;
use libfuzzer_sys::fuzz_target;

// The decoders of the arrow crate may panic over a broken file; `Table` and `Rows` make an error of it.
fuzz_target!(init: finding::only_what_escapes(), |bytes: &[u8]| finding::check(bytes, || table::read(Kind::Avro, bytes)));
