//! The control thread of a run: one thread, one runtime, beside the workers and never on their cores.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use nfv_core::control::metrics;
use nfv_core::control::requests::Control;
use nfv_core::control::running::Changed;
use nfv_core::control::socket::{ControlSocket, SocketError};
use nfv_core::control::twin::Change;
use nfv_core::flow::RouteTable;
use nfv_core::nf::{PortIndex, Task};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::ctl;
use crate::failure::{Failure, Outcome};
use crate::network::{Network, RoutedPort};

/// What the control side of a run does.
#[allow(missing_debug_implementations, reason = "futures have none")]
pub struct Tasks {
    /// The run.
    pub control: Control,
    /// Where to listen; `None`: at the default place, if that can be had.
    pub socket: Option<PathBuf>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// What functions do beside the workers.
    pub functions: Vec<(String, Task)>,
    /// What reloads change of that.
    pub changes: UnboundedReceiver<Changed>,
    /// The routed ports that have twins, with the table that they use.
    pub routed: Option<(Arc<RouteTable>, Vec<RoutedPort>)>,
    /// Whether a port has a link, at each change.
    pub carriers: UnboundedReceiver<(PortIndex, Change)>,
}

/// Makes all that the tasks need; what is returned runs them until one fails.
///
/// # Errors
/// A twin, a socket or an address cannot be had.
pub async fn set_up(tasks: Tasks) -> Result<impl Future<Output = anyhow::Result<()>>, Failure> {
    let Tasks { control, socket, metrics, functions, changes, routed, carriers } = tasks;
    let network = match routed {
        Some((table, ports)) if !ports.is_empty() => Some(Network::up(table, ports).await?),
        _ => None,
    };
    let socket = listen(socket)?;
    let http = match metrics {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("--metrics {address}: it cannot be listened at"))?;
            tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
            Some(listener)
        }
    };
    Ok(async move {
        let shown = control.clone();
        tokio::select! {
            why = answer(socket, control) => Err(why),
            why = serve_metrics(http, shown) => Err(why),
            why = follow(network, carriers) => Err(why),
            () = work(functions, changes) => Ok(()),
        }
    })
}

/// The socket that was asked for, or the default one; that one may fail, and is then gone without.
fn listen(asked: Option<PathBuf>) -> Result<Option<ControlSocket>, Failure> {
    if let Some(path) = asked {
        return match ControlSocket::listen(&path) {
            Ok(socket) => Ok(Some(socket)),
            Err(why @ (SocketError::Taken { .. } | SocketError::NoSocket { .. })) => {
                Err(Failure::User(format!("nfv: {why}")))
            }
            Err(why) => Err(Failure::Machine(why.into())),
        };
    }
    let folder = ctl::default_folder();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    let first =
        made.map_err(|source| SocketError::Call { path: folder.clone(), call: "mkdir", source });
    let socket = first.and_then(|()| match ControlSocket::listen(&ctl::default_path()) {
        Err(SocketError::Taken { .. }) => {
            let own = folder.join(format!("nfv-{}.sock", std::process::id()));
            tracing::info!(
                "another run has the default socket; this one: nfv ctl --control {}",
                own.display()
            );
            ControlSocket::listen(&own)
        }
        other => other,
    });
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(why) => {
            tracing::warn!("no control socket, so no `nfv ctl`: {why}");
            Ok(None)
        }
    }
}

async fn answer(socket: Option<ControlSocket>, control: Control) -> anyhow::Error {
    match socket {
        Some(socket) => anyhow!(socket.serve(control).await).context("the control socket"),
        None => std::future::pending().await,
    }
}

async fn serve_metrics(listener: Option<TcpListener>, control: Control) -> anyhow::Error {
    let Some(listener) = listener else { return std::future::pending().await };
    let text = move || {
        let text = metrics::text(&control);
        async move {
            match text {
                Ok(text) => Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)),
                Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
            }
        }
    };
    let router = Router::new().route("/metrics", get(text));
    match axum::serve(listener, router).await {
        Ok(()) => anyhow!("the metrics' server ended"),
        Err(why) => anyhow!(why).context("the metrics' server"),
    }
}

/// Does what functions do beside the workers, as reloads change it; for ever.
async fn work(functions: Vec<(String, Task)>, mut changes: UnboundedReceiver<Changed>) {
    let mut tasks: HashMap<String, AbortHandle> = HashMap::new();
    // All end with it.
    let mut running = JoinSet::new();
    for (name, task) in functions {
        tasks.insert(name, running.spawn(task));
    }
    while let Some(changed) = changes.recv().await {
        for name in changed.replaced {
            if let Some(task) = tasks.remove(&name) {
                task.abort();
            }
        }
        for (name, task) in changed.tasks {
            tasks.insert(name, running.spawn(task));
        }
    }
    std::future::pending().await
}

async fn follow(
    network: Option<Network>,
    carriers: UnboundedReceiver<(PortIndex, Change)>,
) -> anyhow::Error {
    match network {
        Some(network) => match network.run(carriers).await {
            Ok(()) => anyhow!("the kernel's side ended"),
            Err(why) => why,
        },
        None => {
            // Links that flap must not fill a channel that nobody reads.
            drop(carriers);
            std::future::pending().await
        }
    }
}

/// A control thread that runs; it ends with [`ControlThread::stop`].
#[derive(Debug)]
pub struct ControlThread {
    thread: JoinHandle<Outcome>,
    stop: oneshot::Sender<()>,
}

impl ControlThread {
    /// Starts the thread. It inherits the CPUs of the caller, whom EAL pinned to the main lcore: no worker's.
    ///
    /// All is set up when this returns. When a task ends by itself, it failed, and the run ends too.
    ///
    /// # Errors
    /// Those of [`set_up`].
    pub fn start(tasks: Tasks) -> Result<Self, Failure> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, mut stopped) = oneshot::channel();
        let ended = tasks.control.stop.clone();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the control thread's runtime")?;
            runtime.block_on(async move {
                let run = set_up(tasks).await?;
                let _ = ready.send(());
                tokio::select! {
                    result = run => {
                        ended.store(true, Ordering::Relaxed);
                        Ok(result?)
                    }
                    _ = &mut stopped => Ok(()),
                }
            })
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(body)
            .context("starting the control thread")?;
        match is_ready.recv() {
            Ok(()) => Ok(Self { thread, stop }),
            // It ended before it was ready: it says why.
            Err(_) => Err((Self { thread, stop })
                .stop()
                .err()
                .unwrap_or_else(|| anyhow!("the control thread ended before it was ready").into())),
        }
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    pub fn stop(self) -> Outcome {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the control thread panicked"))?
    }
}
