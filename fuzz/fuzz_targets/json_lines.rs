//! Our decoder of JSON lines against arrow-json: every line means the same to both, and neither panics.
#![no_main]

mod finding;

use bourn_connectors::codec::json::{Columns, Decoder, Encoder, Inference};
use bourn_connectors::codec::types::Declared;
use libfuzzer_sys::fuzz_target;

const SCHEMA: &str = r#"{"i":"bigint","j":"int","f":"double","b":"boolean","s":"text","t":"timestamp","d":"json"}"#;

fuzz_target!(init: finding::only_what_escapes(), |text: &[u8]| finding::check(text, || work(text)));

fn work(text: &[u8]) {
    let declared: Declared = serde_json::from_str(SCHEMA).expect("the schema is one");
    let with_documents = declared.schema().expect("the types are known");
    let plain = with_documents.project(&[0, 1, 2, 3, 4, 5]).expect("there are seven").into();
    check(&Columns::new(plain, &[]), text);
    let mut inference = Inference::default();
    inference.look(text);
    let inferred = inference.finish();
    for columns in [Columns::new(with_documents, &[]), Columns::new(inferred.schema, &inferred.mixed)] {
        // Where columns keep JSON, arrow-json's leniency is not ours; here it is enough that nothing panics.
        if let Ok(mut decoder) = Decoder::new(columns) {
            let read = decoder.decode(text).expect("lines are read whatever they hold");
            let mut out = Vec::new();
            if let Ok(encoder) = Encoder::new(&read.batch.schema()) {
                encoder.encode(&read.batch, &mut out).expect("it was checked");
                assert_eq!(out.iter().filter(|b| **b == b'\n').count(), read.batch.num_rows());
            }
        }
    }
}

fn check(columns: &Columns, text: &[u8]) {
    for line in text.split(|b| *b == b'\n') {
        let read = |decoder: bourn_engine::Result<Decoder>| {
            let read = decoder.and_then(|mut d| d.decode(line)).expect("lines are read whatever they hold");
            let faults: Vec<_> = read.faults.iter().map(|f| (f.line, f.error.to_string())).collect();
            (read.batch, faults)
        };
        assert_eq!(read(Decoder::new(columns.clone())), read(Decoder::general(columns.clone())));
    }
}
