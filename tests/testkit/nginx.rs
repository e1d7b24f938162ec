//! nginx as a user runs it, but in the foreground, with all its files in a folder of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{must, shell, wait_until};

/// A running nginx; it ends with it.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it in a namespace with these `server` blocks, and waits until it listens on TCP `port`.
    pub fn start(namespace: &str, port: u16, servers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, whole(folder.path(), servers)).unwrap();
        let (prefix, config) = (folder.path().display(), config.display());
        must(&format!("nginx -t -q -p {prefix} -e {prefix}/error.log -c {config}"));
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "nginx"])
            .args(["-p", &prefix.to_string()])
            .args(["-e", &format!("{prefix}/error.log")])
            .args(["-c", &config.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let line = format!("ip netns exec {namespace} ss -Hltn sport = :{port}");
        wait_until("nginx listens", || !shell(&line).stdout.is_empty());
        Self { child, _folder: folder }
    }

    /// As [`Nginx::start`], for the files of a folder at one port, of both families.
    pub fn of_files(namespace: &str, port: u16, root: &Path) -> Self {
        let root = root.display();
        let server = format!("server {{ listen [::]:{port} ipv6only=off; root {root}; }}");
        Self::start(namespace, port, &server)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One process, so that whoever is root of own namespaces only can run it too; and nothing outside of the folder.
fn whole(folder: &Path, servers: &str) -> String {
    let own = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|of| format!("{of}_temp_path {own}/{of};")).join(" ");
    format!(
        "daemon off; master_process off; pid {own}/pid;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; keepalive_requests 100000; {temporary}\n{servers}\n}}\n"
    )
}
