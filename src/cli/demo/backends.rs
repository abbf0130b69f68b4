//! The demo's backends: small real HTTP/1.1 servers, each in a task of its own.
//!
//! `/health` says `ok`, `/` says which instance this is and where. Killing one closes its listener and its connections,
//! so that new ones are refused, as when a process dies.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::refused;
use super::site::{Placed, Site};

/// Connections that a backend serves at once; the one that is in the way of a further one is told nothing and closed.
const MOST_CONNECTIONS: usize = 64;
/// Octets that a request's head may have.
const MOST_OCTETS: usize = 8 * 1024;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The backends of a site, by the site's numbers.
#[derive(Debug)]
pub(super) struct Backends {
    all: Vec<Backend>,
}

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    greeting: String,
    /// `None` while it is killed.
    task: Option<JoinHandle<()>>,
}

impl Backends {
    /// Starts all; the error says which address cannot be had, and what to do.
    pub(super) async fn start(site: &Site) -> Result<Backends, String> {
        let backend = |placed: &Placed| Backend {
            address: placed.address,
            greeting: format!("Hello from {} in {} ({})\n", placed.name, placed.region, placed.address),
            task: None,
        };
        let mut backends = Backends { all: site.instances.iter().map(backend).collect() };
        for index in 0..backends.all.len() {
            backends.revive(index).await?;
        }
        Ok(backends)
    }

    pub(super) fn is_alive(&self, index: usize) -> bool {
        self.all[index].task.is_some()
    }

    /// Whether it was alive. Once this returns, connections are refused.
    pub(super) async fn kill(&mut self, index: usize) -> bool {
        let Some(task) = self.all[index].task.take() else { return false };
        task.abort();
        // The listener closes when the task is gone; that it was aborted is no news.
        let _ = task.await;
        true
    }

    /// Whether it was dead. Once this returns, connections are accepted.
    pub(super) async fn revive(&mut self, index: usize) -> Result<bool, String> {
        let backend = &mut self.all[index];
        if backend.task.is_some() {
            return Ok(false);
        }
        let address = backend.address;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| refused(address, "--backend-port", &error))?;
        backend.task = Some(tokio::spawn(accept(listener, backend.greeting.clone())));
        Ok(true)
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.all.iter().filter_map(|backend| backend.task.as_ref()).for_each(JoinHandle::abort);
    }
}

/// Serves until it is aborted; its connections end with it.
async fn accept(listener: TcpListener, greeting: String) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                    connections.spawn(tokio::time::timeout(PATIENCE, converse(stream, greeting.clone())));
                }
                Ok(_) => {}
                // No descriptor is free; the next one may be a moment away.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request, one response.
async fn converse(mut stream: TcpStream, greeting: String) {
    let Some(path) = request_path(&mut stream).await else { return };
    let (status, body) = match path.as_str() {
        "/" => ("200 OK", greeting.as_str()),
        "/health" => ("200 OK", "ok\n"),
        _ => ("404 Not Found", "there is / and /health\n"),
    };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Whoever asked may be gone.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Reads a request's head; `None` when none comes.
async fn request_path(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MOST_OCTETS || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next()?.to_string();
    let target = line.split(' ').nth(1)?;
    Some(target.split('?').next().unwrap_or(target).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    }

    async fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").port()
    }

    /// One backend, on a free port.
    async fn one() -> (Site, Backends) {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().await));
        let placed = Placed { name: "eu-1".into(), region: "eu-west".into(), weight: 1, address };
        let site = Site { instances: vec![placed] };
        let backends = Backends::start(&site).await.expect("started");
        (site, backends)
    }

    #[tokio::test]
    async fn answers_by_path() {
        let (site, _backends) = one().await;
        let address = site.instances[0].address;
        for (path, status, body) in [
            ("/health", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n".to_string()),
            ("/health?x=1", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n".to_string()),
            ("/", "HTTP/1.1 200 OK\r\n", format!("\r\n\r\nHello from eu-1 in eu-west ({address})\n")),
            ("/else", "HTTP/1.1 404 Not Found\r\n", "/health\n".to_string()),
        ] {
            let response = get(address, path).await.expect("a response");
            assert!(response.starts_with(status) && response.ends_with(&body), "{path}: {response}");
        }
    }

    #[tokio::test]
    async fn killed_it_refuses_and_revived_it_answers() {
        let (site, mut backends) = one().await;
        let address = site.instances[0].address;
        let mut open = TcpStream::connect(address).await.expect("accepted");
        get(address, "/health").await.expect("a response");
        assert!(backends.kill(0).await);
        assert!(!backends.kill(0).await, "it is dead already");
        assert!(!backends.is_alive(0));
        assert_eq!(get(address, "/").await.expect_err("refused").kind(), std::io::ErrorKind::ConnectionRefused);
        let mut rest = Vec::new();
        let ended = open.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "open connections end too: {ended:?}");
        assert_eq!(backends.revive(0).await, Ok(true));
        assert_eq!(backends.revive(0).await, Ok(false), "it is alive already");
        assert!(get(address, "/").await.expect("a response").contains("eu-1"));
    }

    #[tokio::test]
    async fn a_taken_port_names_the_option() {
        let (site, _backends) = one().await;
        let problem = Backends::start(&site).await.expect_err("refused");
        assert!(problem.contains("is taken") && problem.contains("--backend-port"), "{problem}");
    }
}
