//! A transformer in ONNX: the vectors of a text's tokens become one.

use bourn_engine::{Error, Result};
use rten::{Model, NodeId, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, NdTensorView};
use serde::Deserialize;

use super::damaged;
use super::tokens::{Tokens, groups};

/// A transformer of the family of BERT, exported by sentence-transformers or alike.
pub struct Onnx {
    model: Model,
    tokens: Tokens,
    inputs: Vec<(NodeId, Input)>,
    output: NodeId,
    pooling: Pooling,
}

/// What it is given.
#[derive(Clone, Copy)]
enum Input {
    Ids,
    /// 1 for a token, 0 for what fills up.
    Mask,
    /// All tokens are of the first text.
    Types,
}

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

/// `1_Pooling/config.json` of sentence-transformers.
#[derive(Deserialize)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

impl Onnx {
    pub fn new(model: Vec<u8>, tokenizer: &[u8], pooling: Option<&[u8]>) -> Result<Self> {
        let model = Model::load(model).map_err(damaged)?;
        let name = |id: NodeId| model.node_info(id).and_then(|node| node.name().map(str::to_owned)).unwrap_or_default();
        let input = |id: &NodeId| match name(*id).as_str() {
            "input_ids" => Ok((*id, Input::Ids)),
            "attention_mask" => Ok((*id, Input::Mask)),
            "token_type_ids" => Ok((*id, Input::Types)),
            other => Err(Error::validation(format!("it asks for `{other}`, which no text gives"))),
        };
        let inputs = model.input_ids().iter().map(input).collect::<Result<_>>()?;
        let outputs = model.output_ids();
        let named = outputs.iter().find(|id| name(**id) == "last_hidden_state").or(outputs.first());
        let output = *named.ok_or_else(|| Error::validation("it gives nothing"))?;
        let pooling = match pooling.map(serde_json::from_slice::<PoolingFile>).transpose()? {
            None => Pooling::Mean,
            Some(file) if file.pooling_mode_mean_tokens => Pooling::Mean,
            Some(file) if file.pooling_mode_cls_token => Pooling::First,
            Some(_) => return Err(Error::unsupported("it wants another pooling than the mean and the first token")),
        };
        Ok(Self { tokens: Tokens::new(tokenizer)?, model, inputs, output, pooling })
    }

    /// A vector of length 1 for each text.
    pub fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let tokens = self.tokens.of(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let mut vectors = vec![Vec::new(); texts.len()];
        for group in groups(&lengths) {
            let made = self.group(&group.iter().map(|at| tokens[*at].as_slice()).collect::<Vec<_>>())?;
            group.into_iter().zip(made).for_each(|(at, vector)| vectors[at] = vector);
        }
        Ok(vectors)
    }

    fn group(&self, texts: &[&[i32]]) -> Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0).max(1);
        let of = |token: &dyn Fn(&[i32], usize) -> i32| {
            NdTensor::from_fn([texts.len(), longest], |[text, at]| token(texts[text], at))
        };
        let ids = of(&|text, at| text.get(at).copied().unwrap_or(0));
        let mask = of(&|text, at| i32::from(at < text.len()));
        let types = of(&|_, _| 0);
        let given = self.inputs.iter().map(|(id, input)| {
            let tensor: ValueOrView<'_> = match input {
                Input::Ids => ids.view().into(),
                Input::Mask => mask.view().into(),
                Input::Types => types.view().into(),
            };
            (*id, tensor)
        });
        let out = self.model.run(given.collect(), &[self.output], None).map_err(damaged)?;
        let out = out.into_iter().next().ok_or_else(|| Error::validation("it gave nothing"))?;
        let out: NdTensor<f32, 3> = out.try_into().map_err(|_| Error::validation("it gave no vectors of tokens"))?;
        Ok(texts.iter().enumerate().map(|(n, text)| self.pooled(out.slice(n), text.len())).collect())
    }

    /// One vector of the first `count`.
    fn pooled(&self, tokens: NdTensorView<'_, f32, 2>, count: usize) -> Vec<f32> {
        let count = if self.pooling == Pooling::First { 1 } else { count.max(1) };
        let mut vector = vec![0.0; tokens.size(1)];
        for token in 0..count.min(tokens.size(0)) {
            for (sum, x) in vector.iter_mut().zip(tokens.slice(token).iter()) {
                *sum += x;
            }
        }
        // The mean and the sum point the same way.
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in &mut vector {
            *x /= length.max(f32::MIN_POSITIVE);
        }
        vector
    }
}
