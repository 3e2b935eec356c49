//! A model in the process: static vectors of tokens (`Model2Vec`), or a transformer in ONNX.

mod onnx;
mod tokens;

use std::path::Path;
use std::sync::Arc;

use bourn_engine::api::{CallContext, Usage};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use model2vec_rs::model::StaticModel;

use super::call::{Embedded, Embedder};
use onnx::Onnx;

/// A model from a folder.
pub struct Local {
    model: Arc<Model>,
    /// What tells its files from all others.
    hash: String,
}

enum Model {
    Static(Box<StaticModel>),
    Onnx(Box<Onnx>),
}

impl Local {
    /// Reads the model in this folder.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model makes vectors of another length.
    pub fn open(folder: &Path, dimensions: u32, env: &Env) -> Result<Self> {
        Self::read(folder, dimensions, env).map_err(|e| e.context(format!("the model in {}", folder.display())))
    }

    fn read(folder: &Path, dimensions: u32, env: &Env) -> Result<Self> {
        let is_there = |name: &str| env.files().open(&folder.join(name)).is_ok();
        let content = |name: &str| -> Result<Vec<u8>> {
            let at = |e: Error| e.context(name.to_owned());
            env.files().open(&folder.join(name)).and_then(|file| Ok(file.content()?)).map_err(at)
        };
        let tokenizer = content("tokenizer.json")?;
        let mut hash = blake3::Hasher::new();
        hash.update(&tokenizer);
        let model = match (is_there("model.safetensors"), is_there("model.onnx")) {
            (true, false) => {
                let weights = content("model.safetensors")?;
                let config = if is_there("config.json") { content("config.json")? } else { b"{}".to_vec() };
                hash.update(&config).update(&weights);
                let model = StaticModel::from_bytes(&tokenizer, &weights, &config, None).map_err(damaged)?;
                Model::Static(Box::new(model))
            }
            (false, true) => {
                let weights = content("model.onnx")?;
                let pooling =
                    is_there("1_Pooling/config.json").then(|| content("1_Pooling/config.json")).transpose()?;
                hash.update(pooling.as_deref().unwrap_or_default()).update(&weights);
                Model::Onnx(Box::new(Onnx::new(weights, &tokenizer, pooling.as_deref())?))
            }
            (true, true) => {
                let what = "`model.safetensors` and `model.onnx` stand beside each other: which is it?";
                return Err(Error::validation(what));
            }
            (false, false) => {
                let what = "there is no `model.safetensors` (static vectors) and no `model.onnx`";
                return Err(Error::validation(what));
            }
        };
        let local = Self { model: Arc::new(model), hash: hash.finalize().to_hex()[..32].to_owned() };
        let made = local.model.vectors(&["a".to_owned()])?.first().map_or(0, Vec::len);
        if made != dimensions as usize {
            return Err(Error::validation(format!(
                "it makes vectors of {made} numbers, where `dimensions` says {dimensions}"
            )));
        }
        Ok(local)
    }

    /// How many requests it works on at once, at most: a transformer has all cores for one.
    pub fn in_flight(&self, cores: usize) -> usize {
        match *self.model {
            Model::Static(_) => cores,
            Model::Onnx(_) => 1,
        }
    }
}

/// A file that is not what it should be.
fn damaged(e: impl std::fmt::Display) -> Error {
    Error::validation(format!("{e:#}"))
}

impl Model {
    fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Static(model) => Ok(model.encode(texts)),
            Self::Onnx(model) => model.vectors(texts),
        }
    }
}

impl Embedder for Local {
    async fn embed(&self, texts: &[String], _: u32, context: &CallContext) -> Result<Embedded> {
        let (model, texts) = (self.model.clone(), texts.to_vec());
        let vectors = context.env.blocking(move || model.vectors(&texts)).await??;
        Ok(Embedded { vectors, usage: Usage::default(), limits: None })
    }

    fn manner(&self, dimensions: u32) -> String {
        format!("local {} {dimensions}", self.hash)
    }
}
