//! Messages under way: acknowledged when their epoch has committed, and kept from coming again until then.
#![expect(clippy::disallowed_methods, reason = "while the source waits to hand rows on, nobody polls it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::subject::Subject;
use bourn_engine::api::Ack;
use bourn_engine::env::Env;
use futures::future::select;
use tokio::task::JoinHandle;

use super::connect::PATIENCE;

/// Tells the server, three times in each wait for an acknowledgement, that messages are still being worked on. It ends
/// with its source.
pub(super) struct Keeper {
    client: Client,
    env: Env,
    under_way: Arc<Mutex<UnderWay>>,
    telling: JoinHandle<()>,
}

#[derive(Default)]
struct UnderWay {
    /// Where to acknowledge the messages of each chunk.
    chunks: BTreeMap<u64, Vec<Subject>>,
    next: u64,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

impl Keeper {
    pub(super) fn start(client: Client, ack_wait: Duration, env: Env) -> Self {
        let under_way = Arc::new(Mutex::new(UnderWay::default()));
        let telling = tokio::spawn(tell(client.clone(), under_way.clone(), ack_wait / 3, env.clone()));
        Self { client, env, under_way, telling }
    }

    /// The ack of a chunk, whose messages are kept from coming again until it is fired.
    pub(super) fn ack(&self, replies: Vec<Subject>) -> Ack {
        let number = {
            let mut under_way = lock(&self.under_way);
            under_way.next += 1;
            let number = under_way.next;
            under_way.chunks.insert(number, replies);
            number
        };
        let (client, env, under_way) = (self.client.clone(), self.env.clone(), self.under_way.clone());
        Ack::new(move || async move {
            let replies = lock(&under_way).chunks.remove(&number).unwrap_or_default();
            // What does not get through comes again, which the guarantee allows: no reason to end a job.
            let _ = select(Box::pin(acknowledge(client, replies)), env.sleep(PATIENCE)).await;
            Ok(())
        })
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Acknowledges the messages; the server confirms the last, and with it those before.
async fn acknowledge(client: Client, mut replies: Vec<Subject>) {
    let Some(last) = replies.pop() else { return };
    for reply in replies {
        if client.publish(reply, "+ACK".into()).await.is_err() {
            return;
        }
    }
    let _ = client.request(last, "+ACK".into()).await;
}

async fn tell(client: Client, under_way: Arc<Mutex<UnderWay>>, every: Duration, env: Env) {
    loop {
        env.sleep(every).await;
        let replies: Vec<_> = lock(&under_way).chunks.values().flatten().cloned().collect();
        for reply in replies {
            if client.publish(reply, "+WPI".into()).await.is_err() {
                return;
            }
        }
    }
}
