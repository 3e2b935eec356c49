//! Vectors that cost nothing: made of the words of a text, so that texts with the same words are near each other.

use bourn_engine::Result;
use bourn_engine::api::{CallContext, Usage};

use super::call::{Embedded, Embedder};
use crate::model::About;
use crate::model::mock::tokens;

/// What `--mock` asks instead of a service.
pub struct Mock;

impl Embedder for Mock {
    fn about(&self) -> About<'_> {
        About { provider: "mock", ..About::default() }
    }

    async fn embed(&self, texts: &[String], dimensions: u32, _: &CallContext) -> Result<Embedded> {
        let vectors = texts.iter().map(|text| vector(text, dimensions as usize)).collect();
        let input_tokens = texts.iter().map(|text| tokens(text)).sum();
        Ok(Embedded { vectors, usage: Usage { input_tokens, ..Usage::default() }, limits: None })
    }

    fn manner(&self, dimensions: u32) -> String {
        format!("mock {dimensions}")
    }
}

/// A vector of length 1 in which each word adds to one direction (the hashing trick). It is fixed for good; `bourn mock-llm`
/// makes the same.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions.max(1)];
    let count = vector.len() as u64;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // FNV-1a (draft-eastlake-fnv).
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let at = usize::try_from((hash >> 1) % count).unwrap_or(0);
        vector[at] += if hash & 1 == 0 { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    } else {
        vector[0] = 1.0;
    }
    vector
}
