//! The server of `--metrics`: `/metrics` in Prometheus' form, and `/livez`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::Builder;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bourn_engine::metrics::{JobStats, publish};
use metrics_exporter_prometheus::PrometheusBuilder;

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

    /// Serves the counters of a job until the process ends, on a thread of its own, so that busy stages never silence it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn serve(self, stats: Arc<JobStats>) -> io::Result<()> {
        let serve = move || -> io::Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
                let listener = tokio::net::TcpListener::from_std(self.0)?;
                axum::serve(listener, routes(stats)).await
            })
        };
        let told = move || {
            if let Err(e) = serve() {
                tracing::error!("the server of --metrics has ended: {e}");
            }
        };
        Builder::new().name("bourn-metrics".into()).spawn(told).map(drop)
    }
}

fn routes(stats: Arc<JobStats>) -> Router {
    let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
    let handle = recorder.handle();
    let render = move || {
        publish(&stats, &*recorder);
        let text = handle.render();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new().route("/metrics", get(render)).route("/livez", get(|| async { "ok\n" }))
}
