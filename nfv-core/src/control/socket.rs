//! The control socket: a unix socket for its owner alone, a request and an answer a line.
//!
//! Nothing from it grows without bound: lines, connections and the time that a connection is idle have limits.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::requests::{Answer, Control};

/// A socket that listens; its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another run listens there.
    #[error("{}: another run listens there; give this one a --control of its own", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something is there that is no socket.
    #[error("{}: there is something that is no socket; give another --control", path.display())]
    NoSocket {
        /// What is there.
        path: PathBuf,
    },
    /// A call failed.
    #[error("{}: {call}", path.display())]
    Call {
        /// The socket.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Listens at `path`; the socket of a run that is dead is replaced. Call it in a tokio runtime with I/O.
    ///
    /// # Errors
    /// `Taken`, when a run answers there; `NoSocket`; `Call`.
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let fail = |call| {
            let path = path.to_owned();
            move |source| SocketError::Call { path, call, source }
        };
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::Taken { path: path.to_owned() }),
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => {
                let is_socket = fs::symlink_metadata(path)
                    .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()));
                if !is_socket {
                    return Err(SocketError::NoSocket { path: path.to_owned() });
                }
                fs::remove_file(path).map_err(fail("removing the socket of a dead run"))?;
            }
            Err(why) => return Err(fail("connect")(why)),
        }
        // Made in a folder that nobody else may enter, and moved when it is its owner's alone.
        let folder = path.with_extension(format!("{}.new", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(fail("mkdir beside it"))?;
        let inside = folder.join("s");
        let made = UnixListener::bind(&inside).map_err(fail("bind")).and_then(|listener| {
            fs::set_permissions(&inside, fs::Permissions::from_mode(0o600))
                .map_err(fail("chmod"))?;
            fs::rename(&inside, path).map_err(fail("rename"))?;
            Ok(Self { listener, path: path.to_owned() })
        });
        let _ = fs::remove_file(&inside);
        let _ = fs::remove_dir(&folder);
        made
    }

    /// Answers requests until the task is dropped.
    pub async fn serve(self, control: Control) -> io::Error {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                // Out of files, most likely: not for ever.
                Err(why) => {
                    tracing::warn!("control socket: accept: {why}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (control, permit) = (control.clone(), free.clone().try_acquire_owned());
            tokio::spawn(async move {
                let done = match permit {
                    Ok(_permit) => converse(stream, &control).await,
                    Err(_) => {
                        let why = format!("{CONNECTIONS_MAX} connections are open already");
                        tell(&mut { stream }, &Answer::Error(why)).await
                    }
                };
                if let Err(why) = done {
                    tracing::debug!("control socket: {why}");
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, control: &Control) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut read).take(LINE_MAX as u64 + 1);
        let n = timeout(IDLE_MAX, limited.read_until(b'\n', &mut line)).await??;
        if n == 0 {
            return Ok(());
        }
        if line.len() > LINE_MAX {
            let why = format!("a request is at most {LINE_MAX} bytes long");
            return tell(&mut write, &Answer::Error(why)).await;
        }
        tell(&mut write, &control.answer_line(&line)).await?;
    }
}

async fn tell(to: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(IDLE_MAX, to.write_all(&line)).await?
}

const CONNECTIONS_MAX: usize = 16;
const LINE_MAX: usize = 64 << 10;
const IDLE_MAX: Duration = Duration::from_secs(60);
