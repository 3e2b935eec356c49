//! One answer: its rows as they come, and where it says that the next page is.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::Chunk;
use bourn_engine::data::position::Split;
use bourn_engine::{Error, Kind, Result};
use bourn_http::Body;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, Url};

use super::ask::{Asking, within};
use super::config::Reading;
use super::{Format, Http, Planned};
use crate::codec::csv::{self, Dialect};
use crate::codec::json::Columns;
use crate::codec::json::document::{self, Document, Pointer};
use crate::codec::lines::{LineBuffer, Piece};
use crate::file::read_lines::{LineDecoder, next_chunk};

/// How bodies become rows.
pub struct Decoding {
    pub format: Format,
    pub pointer: Option<Pointer>,
    pub cursor: Option<Pointer>,
    pub response_max: usize,
    schema: SchemaRef,
    dialect: Arc<Dialect>,
    planned: Planned,
}

impl Decoding {
    /// Into the columns that were planned.
    pub fn new(config: &Http, reading: &Reading, schema: SchemaRef, planned: Planned) -> Self {
        Self {
            format: config.format,
            pointer: config.rows.is_some().then(|| reading.pointer.clone()),
            cursor: reading.cursor.clone(),
            response_max: usize::try_from(config.response_max.0).unwrap_or(usize::MAX),
            schema,
            dialect: reading.dialect.clone(),
            planned,
        }
    }

    fn decoder(&self) -> Result<LineDecoder> {
        let schema = self.schema.clone();
        Ok(match self.format {
            Format::Json | Format::JsonLines | Format::Object => {
                LineDecoder::json(Columns::new(schema, &self.planned.mixed))?
            }
            Format::Csv => LineDecoder::Csv(csv::Decoder::new(self.dialect.clone(), schema, &self.planned.names)?),
            Format::Lines => LineDecoder::lines(schema),
        })
    }
}

/// An answer that is being read.
pub struct Page {
    /// What is still to come; none once a document was read.
    body: Option<Body>,
    lines: LineBuffer,
    asked: String,
    /// The address of the next page, by the header.
    pub link: Option<Url>,
    /// The value that the next request names.
    pub cursor: Option<String>,
}

impl Page {
    /// The answer to what was asked at `url`. A document is read as a whole; anything else as it comes.
    pub async fn open(asking: &Asking, decoding: &Decoding, url: &Url, response: Response) -> Result<Self> {
        let asked = asking.shown(url);
        let link = next_link(response.headers(), url);
        let too_large = || {
            let most = decoding.response_max;
            Error::new(Kind::Budget, format!("{asked}: the document has more than {most} bytes (`response_max`)"))
        };
        let is_document = decoding.format == Format::Json;
        if is_document && response.content_length().is_some_and(|n| n > decoding.response_max as u64) {
            return Err(too_large());
        }
        let body = Body::of(response).map_err(|e| e.context(&asked))?;
        let mut page =
            Self { body: Some(body), lines: LineBuffer::default(), asked: asked.clone(), link, cursor: None };
        if !is_document {
            return Ok(page);
        }
        let mut text = Vec::new();
        while let Some(piece) = page.piece(asking).await? {
            if text.len() + piece.len() > decoding.response_max {
                return Err(too_large());
            }
            text.extend_from_slice(&piece);
        }
        let rows = page.document(decoding, text).map_err(|e| e.context(&asked))?;
        page.body = None;
        page.lines.space(rows.len())[..rows.len()].copy_from_slice(&rows);
        if !rows.is_empty() {
            page.lines.filled(rows.len());
        }
        page.lines.filled(0);
        Ok(page)
    }

    fn document(&mut self, decoding: &Decoding, text: Vec<u8>) -> Result<Vec<u8>> {
        if text.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        // A server that breaks off in the middle without a word leaves no document: asked again it may do better.
        if decoding.pointer.is_none() && decoding.cursor.is_none() {
            return document::rows(text).map_err(Error::transient);
        }
        let document = Document::read(&text).map_err(Error::transient)?;
        if let Some(cursor) = &decoding.cursor {
            self.cursor = document.token(cursor).map_err(|e| e.context("the value for `pagination.cursor`"))?;
        }
        document.lines(decoding.pointer.as_ref().unwrap_or(&Pointer::default()))
    }

    async fn piece(&mut self, asking: &Asking) -> Result<Option<bytes::Bytes>> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let piece = within(&asking.env, asking.timeout, &self.asked, body.piece()).await?;
        piece.map_err(|e| e.context(&self.asked))
    }

    /// Reads on.
    async fn fill(&mut self, asking: &Asking) -> Result<()> {
        let piece = self.piece(asking).await?.unwrap_or_default();
        self.lines.space(piece.len())[..piece.len()].copy_from_slice(&piece);
        self.lines.filled(piece.len());
        Ok(())
    }

    /// The whole lines at its beginning, up to about `most` bytes, and whether these are all of it.
    pub async fn beginning(mut self, asking: &Asking, most: usize) -> Result<(Vec<u8>, bool)> {
        while !self.lines.is_read() && self.lines.held() < most {
            self.fill(asking).await?;
        }
        let all = self.lines.is_read();
        match self.lines.piece() {
            Some(Piece::Lines(text)) => Ok((text.to_vec(), all)),
            Some(Piece::Overlong(_)) => Ok((Vec::new(), all)),
            None if all => Ok((Vec::new(), true)),
            None => Err(Error::validation(format!("{}: its first line is longer than 1 MiB", self.asked))),
        }
    }
}

/// A page with its decoder, read from a place on.
pub struct OpenPage {
    pub page: Page,
    decoder: LineDecoder,
    /// Up to where rows were read before.
    skip: u64,
    /// Whether it has had rows, broken ones included.
    pub has_rows: bool,
    /// What tells a server that nothing has changed since, once it was read to its end.
    pub known: HeaderMap,
}

impl OpenPage {
    /// The page behind its first `skip` bytes, as they are when they are not compressed.
    pub fn new(page: Page, decoding: &Decoding, skip: u64, known: HeaderMap) -> Result<Self> {
        Ok(Self { page, decoder: decoding.decoder()?, skip, has_rows: skip > 0, known })
    }

    /// How far it was read.
    pub fn offset(&self) -> u64 {
        self.page.lines.place().offset
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.page.lines.is_done()
    }

    /// The next rows and rejected lines; `None` at the end.
    pub async fn read(&mut self, asking: &Asking, split: &Split) -> Result<Option<Chunk>> {
        loop {
            if self.pass_over()? {
                let named = |e: Error| e.context(&self.page.asked);
                if let Some(chunk) = next_chunk(&mut self.page.lines, &mut self.decoder, split).map_err(named)? {
                    self.has_rows = true;
                    return Ok(Some(chunk));
                }
                if self.page.lines.is_done() {
                    return Ok(None);
                }
            } else if self.page.lines.is_done() {
                let message = format!("{}: is shorter than what was read of it before", self.page.asked);
                return Err(Error::validation(message));
            }
            self.page.fill(asking).await?;
        }
    }

    /// Passes over what was read before; false while more of it is to come.
    fn pass_over(&mut self) -> Result<bool> {
        let lines = &mut self.page.lines;
        while lines.place().offset < self.skip {
            let most = self.skip - lines.place().offset;
            let (bytes, count) = match lines.piece() {
                None => return Ok(false),
                Some(Piece::Overlong(long)) => {
                    lines.consume_overlong(&long);
                    continue;
                }
                Some(Piece::Lines(text)) => {
                    if let LineDecoder::Csv(decoder) = &mut self.decoder
                        && decoder.needs_header()
                        && decoder.read_header(text)?.is_none()
                    {
                        return Ok(false);
                    }
                    let bytes = text.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    (bytes, memchr::memchr_iter(b'\n', &text[..bytes]).count() as u64)
                }
            };
            lines.consume(bytes, count);
        }
        Ok(true)
    }
}

/// The target of the header `Link` with `rel="next"` (RFC 8288).
pub fn next_link(headers: &HeaderMap, base: &Url) -> Option<Url> {
    let texts = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(links).find(|(_, parameters)| is_next(parameters)).and_then(|(target, _)| base.join(target).ok())
}

/// Targets, each with its parameters.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find('<')? + 1;
        let end = begin + rest[begin..].find('>')?;
        let behind = &rest[end + 1..];
        let mut quoted = false;
        let over = behind.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let parameters = &behind[..over.unwrap_or(behind.len())];
        let target = &rest[begin..end];
        rest = &behind[parameters.len()..];
        Some((target, parameters))
    })
}

fn is_next(parameters: &str) -> bool {
    parameters.split(';').filter_map(|p| p.split_once('=')).any(|(name, value)| {
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel") && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_the_header() {
        let base = Url::parse("https://h/a/b?page=1").unwrap();
        let next = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(LINK, text.parse().unwrap());
            next_link(&headers, &base).map(|url| url.to_string())
        };
        let first_and_next = "<https://h/a?p=0>; rel=\"first\"; title=\"a, <b>\", </a?p=2,3>; REL=\"last next\"";
        assert_eq!(next(first_and_next).as_deref(), Some("https://h/a?p=2,3"));
        assert_eq!(next("<?page=2>;rel=next").as_deref(), Some("https://h/a/b?page=2"));
        for none in ["", "<", "<a", "<a>; rel=prev", "a; rel=next", "<a>; rel=\"nextish\""] {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
