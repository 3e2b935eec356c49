//! The source: page after page, round after round.

use std::time::Duration;

use bourn_engine::api::limits::Retries;
use bourn_engine::api::{Chunk, Outage, Source};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::{Error, Result};
use bourn_http::{Attempts, errors};
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::ask::Asking;
use super::page::{Decoding, OpenPage, Page, next_link};
use super::{Http, Pagination};

/// The most pages of one round: a server whose pages have no end is told, and does not go unnoticed.
const PAGES_MAX: u64 = 100_000;

/// Where a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// What the request of this page names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// How many pages of the round lie before it.
    page: u64,
    /// How many bytes of it were read.
    offset: u64,
    /// Whether nothing follows.
    #[serde(default)]
    over: bool,
}

/// Which source begins where.
pub struct Begin {
    /// Its id in the spec.
    pub id: String,
    pub split: Split,
    pub at: At,
}

/// Reads what a server has.
pub struct HttpSource {
    asking: Asking,
    decoding: Decoding,
    pagination: Option<Pagination>,
    every: Option<Duration>,
    retry: Retries,
    split: Split,
    /// Its id in the spec.
    id: String,
    at: At,
    /// Whether a cursor that stays was told.
    told: bool,
    open: Option<OpenPage>,
    attempts: Option<Attempts>,
    outage: Outage,
    /// The address of this page, where the page before it has named it.
    link: Option<Url>,
    /// When this round began, and whether it has.
    began: Option<Duration>,
    waits: bool,
    /// The tag of the page under way: another one is another page.
    tag: Option<HeaderValue>,
    /// By what a server tells whether anything has changed.
    known: HeaderMap,
}

/// What one step came to.
enum Step {
    Rows(Box<Chunk>),
    On,
    Over,
}

/// The address of the first page.
pub fn first_url(config: &Http, asking: &Asking) -> Url {
    page_url(config.pagination.as_ref(), &asking.url, &At::default())
}

/// The address of a page that is found without the one before it.
fn page_url(pagination: Option<&Pagination>, first: &Url, at: &At) -> Url {
    match pagination {
        Some(Pagination::Cursor(cursor)) => match &at.cursor {
            Some(value) => with_parameter(first, &cursor.parameter, value),
            None => first.clone(),
        },
        Some(Pagination::Page(page)) => {
            with_parameter(first, &page.parameter, &page.first.saturating_add(at.page).to_string())
        }
        Some(Pagination::NextLink) | None => first.clone(),
    }
}

/// The URL with the one parameter of this name.
fn with_parameter(url: &Url, name: &str, value: &str) -> Url {
    let mut found = url.clone();
    let others = url.query_pairs().filter(|(n, _)| n != name);
    found.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    found
}

impl HttpSource {
    /// From `at` on.
    pub fn new(config: &Http, asking: Asking, decoding: Decoding, begin: Begin) -> Self {
        let Begin { id, split, at } = begin;
        Self {
            decoding,
            pagination: config.pagination.clone(),
            every: config.every.map(|i| i.0),
            retry: config.retry.0.clone(),
            split,
            outage: Outage::of(&id, &asking.env),
            id,
            at,
            told: false,
            open: None,
            attempts: None,
            link: None,
            began: None,
            waits: false,
            tag: None,
            known: HeaderMap::new(),
            asking,
        }
    }

    async fn step(&mut self) -> Result<Step> {
        if self.at.over {
            return Ok(Step::Over);
        }
        if self.waits {
            let due = self.began.unwrap_or_default() + self.every.unwrap_or_default();
            self.asking.env.sleep(due.saturating_sub(self.asking.env.monotonic())).await;
            (self.waits, self.began) = (false, None);
        }
        if self.began.is_none() {
            self.began = Some(self.asking.env.monotonic());
        }
        let Some(open) = &mut self.open else { return self.next_page().await };
        let chunk = open.read(&self.asking, &self.split).await?;
        self.at.offset = open.offset();
        if open.is_done() {
            self.turn()?;
        }
        let Some(mut chunk) = chunk else { return Ok(Step::On) };
        chunk.position = Position::of(&self.at)?;
        Ok(Step::Rows(Box::new(chunk)))
    }

    /// Asks for the page that is next.
    async fn next_page(&mut self) -> Result<Step> {
        let url = self.url().await?;
        let response = self.asking.ask(&url, &self.known).await?;
        if matches!(response.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
            self.end_round(None);
            return Ok(Step::On);
        }
        let tag = response.headers().get(ETAG).cloned();
        if self.at.offset > 0 && self.tag.is_some() && tag.is_some() && tag != self.tag {
            let message = format!("{}: has changed while it was read", self.asking.shown(&url));
            return Err(Error::validation(message));
        }
        let mut known = HeaderMap::new();
        if self.pagination.is_none() && self.every.is_some() {
            let date = response.headers().get(LAST_MODIFIED).cloned();
            known.extend(tag.clone().map(|tag| (IF_NONE_MATCH, tag)));
            known.extend(date.map(|date| (IF_MODIFIED_SINCE, date)));
        }
        let page = Page::open(&self.asking, &self.decoding, &url, response).await?;
        // Asking again for the rest of a page that broke off must not be told that nothing has changed.
        (self.tag, self.known) = (tag, HeaderMap::new());
        self.open = Some(OpenPage::new(page, &self.decoding, self.at.offset, known)?);
        Ok(Step::On)
    }

    /// The address of the page that is next. Pages that only name each other are walked from the first one.
    async fn url(&mut self) -> Result<Url> {
        if !matches!(self.pagination, Some(Pagination::NextLink)) || self.at.page == 0 {
            return Ok(page_url(self.pagination.as_ref(), &self.asking.url, &self.at));
        }
        if let Some(link) = &self.link {
            return Ok(link.clone());
        }
        let mut url = self.asking.url.clone();
        for _ in 0..self.at.page {
            let response = self.asking.ask(&url, &HeaderMap::new()).await?;
            let next = next_link(response.headers(), &url);
            let gone = || Error::validation(format!("{}: names no next page any more", self.asking.shown(&url)));
            url = self.allowed(&url, next.ok_or_else(gone)?)?;
        }
        self.link = Some(url.clone());
        Ok(url)
    }

    /// A next page may be on the same host only, which is to see the headers, and is another page.
    fn allowed(&self, from: &Url, next: Url) -> Result<Url> {
        if next.origin() != self.asking.url.origin() {
            let (from, next) = (self.asking.shown(from), errors::shown(&next));
            return Err(Error::validation(format!("{from}: its next page {next} is on another host")));
        }
        if next == *from {
            return Err(Error::validation(format!("{}: is its own next page", self.asking.shown(from))));
        }
        Ok(next)
    }

    /// From a page that was read to the next one, or to the next round.
    fn turn(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let next = At { page: self.at.page + 1, ..At::default() };
        if next.page >= PAGES_MAX {
            let message = format!("{}: more than {PAGES_MAX} pages", self.asking.shown(&self.asking.url));
            return Err(Error::validation(message));
        }
        self.known = open.known;
        match &self.pagination {
            Some(Pagination::NextLink) => {
                if let Some(link) = open.page.link {
                    let from = self.link.clone().unwrap_or_else(|| self.asking.url.clone());
                    self.link = Some(self.allowed(&from, link)?);
                    self.at = next;
                    return Ok(());
                }
            }
            Some(Pagination::Page(_)) if open.has_rows => {
                self.at = next;
                return Ok(());
            }
            Some(Pagination::Cursor(named)) => {
                let cursor = open.page.cursor;
                if cursor.is_none() || !open.has_rows {
                    self.end_round(cursor);
                } else if cursor == self.at.cursor {
                    let said = format!(
                        "{}: the value at `{}` is the one that this page was asked with, and it has rows: they would come for ever",
                        self.asking.shown(&self.asking.url),
                        named.from
                    );
                    if self.every.is_none() {
                        return Err(Error::validation(said));
                    }
                    // A poll that counts from a time on may well see its last rows again.
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::warn!("`{}`: {said}; the poll ends with them", self.id);
                    }
                    self.end_round(cursor);
                } else {
                    self.at = At { cursor, ..next };
                }
                return Ok(());
            }
            Some(Pagination::Page(_)) | None => {}
        }
        self.end_round(None);
        Ok(())
    }

    fn passed(&mut self) {
        self.attempts = None;
        self.outage.passed();
    }

    /// The round is over; the next one begins with `cursor`.
    fn end_round(&mut self, cursor: Option<String>) {
        (self.link, self.tag) = (None, None);
        self.waits = self.every.is_some();
        self.at = At { cursor, over: self.every.is_none(), ..At::default() };
    }
}

impl Source for HttpSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let had_page = self.open.is_some();
            match self.step().await {
                Ok(Step::Over) => return Ok(None),
                Ok(Step::Rows(chunk)) => {
                    self.passed();
                    return Ok(Some(*chunk));
                }
                // A page that was only opened is no success yet.
                Ok(Step::On) if had_page || self.open.is_none() => self.passed(),
                Ok(Step::On) => {}
                Err(error) => {
                    self.open = None;
                    let policy = &self.retry;
                    let env = &self.asking.env;
                    let attempts =
                        self.attempts.get_or_insert_with(|| Attempts::new(policy, env.random(), &self.outage));
                    let wait = attempts.after(error)?;
                    env.sleep(wait).await;
                }
            }
        }
    }
}
