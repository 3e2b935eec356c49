//! How a value is hidden.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bourn_engine::Result;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Algorithm;

/// How a value is hidden.
#[derive(Clone)]
pub enum Hide {
    /// `text` stands in its place, and before the last `keep` characters.
    Mask { text: String, keep: usize },
    /// Its hash stands in its place.
    Hash(Arc<Hash>),
    /// Null stands in its place.
    Clear,
}

/// A hash that has taken up its key.
pub enum Hash {
    Sha256,
    Hmac(Box<Hmac<Sha256>>),
    Blake3(Box<blake3::Hasher>),
}

/// Whether a column has text, in any of the forms that Arrow knows.
pub fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

impl Hide {
    /// The values in hiding, in their type; a null stays null.
    ///
    /// # Errors
    /// When the values are no text.
    pub fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        if matches!(self, Self::Clear) {
            return Ok(new_null_array(values.data_type(), values.len()));
        }
        let texts = cast(values, &DataType::Utf8)?;
        let mut hidden = StringBuilder::with_capacity(texts.len(), 0);
        for text in texts.as_string::<i32>() {
            let Some(text) = text else {
                hidden.append_null();
                continue;
            };
            match self {
                Self::Mask { text: mask, keep } => hidden.append_value(format!("{mask}{}", last(text, *keep))),
                Self::Hash(hash) => hidden.append_value(hash.of(text)),
                Self::Clear => hidden.append_null(),
            }
        }
        Ok(cast(&(Arc::new(hidden.finish()) as ArrayRef), values.data_type())?)
    }
}

/// The last `keep` characters of a text that has more of them; nothing otherwise.
fn last(text: &str, keep: usize) -> &str {
    let mut starts = text.char_indices().rev().map(|(at, _)| at);
    match keep.checked_sub(1).and_then(|n| starts.nth(n)) {
        Some(at) if at > 0 => &text[at..],
        _ => "",
    }
}

impl Hash {
    /// With the salt as its key, if there is one.
    pub fn new(algorithm: Algorithm, salt: Option<&[u8]>) -> Self {
        match (algorithm, salt) {
            (Algorithm::Sha256, None) => Self::Sha256,
            (Algorithm::Sha256, Some(salt)) => {
                Self::Hmac(Box::new(Hmac::new_from_slice(salt).expect("a key of HMAC may have any length")))
            }
            (Algorithm::Blake3, None) => Self::Blake3(Box::new(blake3::Hasher::new())),
            (Algorithm::Blake3, Some(salt)) => {
                Self::Blake3(Box::new(blake3::Hasher::new_keyed(blake3::hash(salt).as_bytes())))
            }
        }
    }

    /// The hexadecimal digits of the hash of a text.
    fn of(&self, text: &str) -> String {
        match self {
            Self::Sha256 => hex(&Sha256::digest(text)),
            Self::Hmac(keyed) => hex(&keyed.as_ref().clone().chain_update(text).finalize().into_bytes()),
            Self::Blake3(keyed) => keyed.clone().update(text.as_bytes()).finalize().to_hex().to_string(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}
