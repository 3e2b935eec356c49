//! Tests of whole specs: what is told of bad ones, and what good ones become.

pub(crate) mod kinds;

mod bad_pipelines;
mod bad_workflows;
mod good;
mod named;

use std::time::Duration;

use futures::future::BoxFuture;

use super::{Loaded, load};
use crate::Result;
use crate::diagnostic::Diagnostic;
use crate::env::{Child, Env, Files, Finished, Launch, Program, World};
use crate::time::Timestamp;

/// A world that has some variables and nothing else.
struct Variables;

impl World for Variables {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!()
    }
    fn random(&self) -> u64 {
        0
    }
    fn spawn(&self, _: &str, _: BoxFuture<'static, ()>) {
        unreachable!()
    }
    fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        unreachable!()
    }
    fn files(&self) -> &dyn Files {
        unreachable!()
    }
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("s3cr3t-value".into()),
            "SHORT" => Some("abc".into()),
            "TEMPLATE" => Some("a ${b}".into()),
            _ => None,
        }
    }
    fn run(&self, _: Program) -> BoxFuture<'static, Result<Finished>> {
        unreachable!()
    }
    fn start(&self, _: Launch) -> BoxFuture<'static, Result<Child>> {
        unreachable!()
    }
}

fn loaded(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load(text, "spec.yaml", &kinds::registry(), &Env::new(Variables))
}

/// Every problem of a bad spec, one a line.
fn told(text: &str) -> String {
    let problems = loaded(text).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

proptest::proptest! {
    #[test]
    fn a_damaged_spec_never_makes_loading_panic_and_every_place_is_in_the_text(
        which in 0usize..3, at in 0.0f64..1.0, cut in 0usize..12, put in "[-a:\\[\\]{}&*'\"$#\\n é0]{0,6}",
    ) {
        let text = [good::CHAIN, good::SWARM, good::PIPELINE][which];
        let floor = |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a short text")]
        let start = floor((text.len() as f64 * at) as usize);
        let damaged = format!("{}{put}{}", &text[..start], &text[floor(start + cut)..]);
        for diagnostic in loaded(&damaged).err().unwrap_or_default() {
            proptest::prop_assert!(damaged.get(diagnostic.span.clone()).is_some(), "{diagnostic:?}");
        }
    }
}
