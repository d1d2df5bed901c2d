//! Connections: accepted up to a bound, with or without TLS, cut where they are slow, finished before the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::place::client;
use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::people::Peer;

/// For the head of a request, at most; an idle connection is closed after this too.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// For a TLS handshake, at most.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// For what is under way when the server is told to stop, at most.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, at most.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// After an accept failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until `stop` ends; then answers what was taken.
pub async fn serve(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>, stop: impl Future<Output = ()>) {
    let router = crate::app::router(Arc::clone(&app));
    let places = Arc::new(Semaphore::new(app.parts.limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Over the bound the connection is closed at once: who waits in the dark waits for nothing.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        let (app, router, tls, watcher) = (Arc::clone(&app), router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            app.metrics.connections.inc();
            match tls {
                None => connection(stream, router, watcher, (peer.ip(), &app)).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_WAIT, tls.accept(stream)).await {
                        connection(stream, router, watcher, (peer.ip(), &app)).await;
                    }
                }
            }
            app.metrics.connections.dec();
            drop(place);
        });
    }
    app.stop();
    drop(listener);
    // Idle connections end at once, others after their answer.
    let _ = tokio::time::timeout(STOP_WAIT, graceful.shutdown()).await;
}

async fn connection<S>(stream: S, router: Router, watcher: Watcher, (peer, app): (IpAddr, &Arc<App>))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(64);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Some(HEAD_WAIT))
        .keep_alive_timeout(HANDSHAKE_WAIT);
    let inner = TowerToHyperService::new(router);
    let app = Arc::clone(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let forwarded: Vec<&str> =
            request.headers().get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
        let client = client(peer, forwarded.into_iter(), &app.parts.proxies);
        request.extensions_mut().insert(Peer(client));
        // HTTP/2 names the host in the request's own line.
        let named = request.uri().authority().and_then(|named| HeaderValue::from_str(named.as_str()).ok());
        if let (false, Some(named)) = (request.headers().contains_key(HOST), named) {
            request.headers_mut().insert(HOST, named);
        }
        inner.call(request)
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // A client that goes away is no failure of ours.
    let _ = watcher.watch(serving).await;
}
