//! The server of `--metrics`: `/metrics` in Prometheus' form, and `/livez`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bourn_engine::env::Env;
use bourn_engine::metrics::publish::Family;
use bourn_engine::metrics::{JobStats, histograms, publish};
use futures::channel::oneshot;
use futures::future::{Either, select};
use indexmap::IndexMap;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};
use metrics_exporter_prometheus::{LabelSet, PrometheusBuilder};

/// An address that is taken, and not served yet.
pub struct Server(TcpListener);

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When somebody has it, or it is none of this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Where it is: the port is a free one if 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves the counters of a job until what this returns is dropped, on a thread of its own, so that busy stages never
    /// silence it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn serve(self, stats: Arc<JobStats>, env: Env) -> io::Result<Serving> {
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || -> io::Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
                let listener = tokio::net::TcpListener::from_std(self.0)?;
                let serving = async { axum::serve(listener, routes(stats, env)).await };
                match select(pin!(serving), stopped).await {
                    Either::Left((ended, _)) => ended,
                    Either::Right(_) => Ok(()),
                }
            })
        };
        let told = move || {
            if let Err(e) = serve() {
                tracing::error!("the server of --metrics has ended: {e}");
            }
        };
        let thread = Builder::new().name("bourn-metrics".into()).spawn(told)?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    }
}

/// A server at work; when it is dropped, its address is free again.
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was told there, and takes nothing but the metrics.
            let _panicked = thread.join();
        }
    }
}

fn routes(stats: Arc<JobStats>, env: Env) -> Router {
    let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
    let handle = recorder.handle();
    let render = move || {
        publish(&stats, env.wall(), &*recorder);
        let mut text = handle.render();
        for family in histograms(&stats) {
            write_histograms(&mut text, &family);
        }
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new().route("/metrics", get(render)).route("/livez", get(|| async { "ok\n" }))
}

/// Writes counted histograms with the exporter's own means: its recorder would count single values anew.
fn write_histograms(text: &mut String, family: &Family<'_>) {
    let name = family.name;
    write_help_line(text, name, None, None, family.about);
    write_type_line(text, name, None, None, "histogram");
    for (key, histogram) in &family.members {
        let labels = LabelSet::from_key_and_global(key, &IndexMap::default());
        let buckets = histogram.cumulative();
        for (bound, below) in &buckets {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            write_metric_line(text, name, Some("bucket"), &labels, Some(("le", bound)), below, None);
        }
        // Of the same moment as the buckets: the counters go on meanwhile.
        let count = buckets.last().map_or(0, |(_, below)| *below);
        let seconds = Duration::from_nanos(histogram.sum()).as_secs_f64();
        write_metric_line::<&str, _>(text, name, Some("sum"), &labels, None, seconds, None);
        write_metric_line::<&str, _>(text, name, Some("count"), &labels, None, count, None);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use bourn_engine::Engine;

    use super::*;

    #[test]
    fn an_address_is_free_again_when_its_job_has_ended() {
        let mut address = "127.0.0.1:0".parse().unwrap();
        for _ in 0..2 {
            let server = Server::bind(address).unwrap();
            address = server.address().unwrap();
            drop(server.serve(Arc::default(), Engine::default().env().clone()).unwrap());
        }
    }
}
