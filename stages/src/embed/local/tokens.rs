//! Texts to the numbers of their tokens, in groups of texts of like length.

use bourn_engine::Result;
use tokenizers::{Tokenizer, TruncationParams};

use super::damaged;

/// The longest text that a model of the family of BERT reads; what is longer is cut.
const TOKENS_MAX: usize = 512;
/// The most tokens of a group, with what fills its shorter texts up: they are all in memory at once, in every layer.
const GROUP_MAX: usize = 4_096;

/// A tokenizer that does not fill up.
pub struct Tokens(Tokenizer);

impl Tokens {
    pub fn new(tokenizer: &[u8]) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(damaged)?;
        tokenizer.with_padding(None);
        if tokenizer.get_truncation().is_none_or(|cut| cut.max_length > TOKENS_MAX) {
            let cut = TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() };
            tokenizer.with_truncation(Some(cut)).map_err(damaged)?;
        }
        Ok(Self(tokenizer))
    }

    /// The tokens of each text, with those that mark its beginning and end.
    pub fn of(&self, texts: &[String]) -> Result<Vec<Vec<i32>>> {
        let ids = |text: &String| -> Result<Vec<i32>> {
            let encoded = self.0.encode_fast(text.as_str(), true).map_err(damaged)?;
            Ok(encoded.get_ids().iter().map(|id| i32::try_from(*id)).collect::<Result<_, _>>()?)
        };
        texts.iter().map(ids).collect()
    }
}

/// Places of texts that go through a model together: none needs much filling up, and a group is bounded.
pub fn groups(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|at| lengths[*at]);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in places {
        match groups.last_mut() {
            // The longest comes last, and all are filled up to it.
            Some(group) if (group.len() + 1) * lengths[at] <= GROUP_MAX => group.push(at),
            _ => groups.push(vec![at]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_texts_of_like_length_and_a_bound() {
        assert_eq!(groups(&[3, 1, 2]), [[1, 2, 0]]);
        assert_eq!(groups(&[512; 9]).iter().map(Vec::len).collect::<Vec<_>>(), [8, 1]);
        assert_eq!(groups(&[4_096, 1, 5_000]), [vec![1], vec![0], vec![2]]);
        assert!(groups(&[]).is_empty());
    }
}
