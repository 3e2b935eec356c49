//! The body of an answer, piece by piece or up to a limit.

use bourn_engine::{Error, Kind, Result};
use bytes::{Buf, Bytes};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use super::errors;
use super::inflate::Inflate;

/// The body of an answer as it comes, inflated where the server has compressed it.
pub struct Body {
    response: Response,
    inflate: Option<Inflate>,
    /// What came and is not inflated yet.
    waiting: Bytes,
    ended: bool,
}

impl Body {
    /// The body of `response`.
    ///
    /// # Errors
    /// When it is compressed by something else than gzip.
    pub fn of(response: Response) -> Result<Self> {
        let inflate = is_gzip(response.headers())?.then(Inflate::default);
        Ok(Self { response, inflate, waiting: Bytes::new(), ended: false })
    }

    /// The next piece, of at least one byte; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off, or is a bomb.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        while !self.ended {
            if self.waiting.is_empty() {
                let next = self.response.chunk().await.map_err(|e| errors::transport("reading the answer", e))?;
                self.ended = next.is_none();
                self.waiting = next.unwrap_or_default();
            }
            let Some(inflate) = &mut self.inflate else {
                if !self.waiting.is_empty() {
                    return Ok(Some(std::mem::take(&mut self.waiting)));
                }
                continue;
            };
            let out = if self.ended {
                inflate.finish()?
            } else {
                let mut rest = &self.waiting[..];
                let out = inflate.step(&mut rest)?;
                let worked = self.waiting.len() - rest.len();
                self.waiting.advance(worked);
                out
            };
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }
}

/// Whether headers say that what follows is gzip.
///
/// # Errors
/// When they name another encoding.
pub fn is_gzip(headers: &HeaderMap) -> Result<bool> {
    let encoding = headers.get(CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip" | "x-gzip") => Ok(true),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(Error::unsupported(format!("the encoding `{shown}` of a body is not known; gzip is")))
        }
    }
}

/// The error of an answer with more than `max` bytes, the field `named` of the spec.
pub fn too_large(max: usize, named: &str) -> Error {
    Error::new(Kind::Budget, format!("the answer has more than {max} bytes (`{named}`)"))
}

/// Reads a body as a whole.
///
/// # Errors
/// When it has more than `max` bytes (the field `named` of the spec), or breaks off.
pub async fn read(response: Response, max: usize, named: &str) -> Result<Vec<u8>> {
    if response.content_length().is_some_and(|n| n > max as u64) {
        return Err(too_large(max, named));
    }
    let mut body = Body::of(response)?;
    let mut whole = Vec::new();
    while let Some(piece) = body.piece().await? {
        if whole.len() + piece.len() > max {
            return Err(too_large(max, named));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}
