//! What may have to wait for long: it works on a thread that may, and is kept for whoever asks again.

use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Something that is here, or away at work that ends in an `O`.
pub struct Aside<T, O> {
    here: Option<T>,
    away: Option<BoxFuture<'static, Result<(T, O)>>>,
}

impl<T: Send + 'static, O: Send + 'static> Aside<T, O> {
    /// It is here.
    pub fn new(it: T) -> Self {
        Self { here: Some(it), away: None }
    }

    /// Does `work` where it may wait.
    ///
    /// Cancel safety: dropped before its end, the work goes on, and the next call gives what it came to instead of doing
    /// its own.
    ///
    /// # Errors
    /// When the work gave up.
    pub async fn run(&mut self, env: &Env, work: impl FnOnce(&mut T) -> O + Send + 'static) -> Result<(O, &mut T)> {
        if let Some(mut it) = self.here.take() {
            let env = env.clone();
            let work = async move {
                env.blocking(move || {
                    let came_to = work(&mut it);
                    (it, came_to)
                })
                .await
            };
            self.away = Some(work.boxed());
        }
        let lost = || Error::engine("what was at work on another thread was lost by a failure");
        let done = self.away.as_mut().ok_or_else(lost)?.await;
        self.away = None;
        let (it, came_to) = done?;
        Ok((came_to, self.here.insert(it)))
    }
}
