//! What is checked: small HTTP servers that can be told how to behave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, JoinSet};

/// The instances of `tests/example`.
pub(crate) const EXAMPLE: [(&str, &str); 5] = [
    ("eu-1", "127.0.11.1"),
    ("eu-2", "127.0.11.2"),
    ("us-1", "127.0.12.1"),
    ("us-2", "127.0.12.2"),
    ("ap-1", "127.0.13.1"),
];

/// How a backend meets a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// Nobody listens.
    Refuse,
    /// A response of this status.
    Status(u16),
    /// The same, this much later.
    Slow(Duration),
    /// The connection is accepted, and nothing comes.
    Hang,
    /// The connection is reset when the request was read.
    Reset,
    /// This status to each third request, 200 to the others.
    EachThird(u16),
    /// This status once, 200 from then on.
    Once(u16),
    /// 200, with this load in the header `X-Load` and in the field `/load/now` of a JSON body.
    Loaded(u32),
}

/// All well.
pub(crate) const HEALTHY: Behaviour = Behaviour::Status(200);

/// Backends on one port, by name.
pub(crate) struct Backends {
    runtime: Runtime,
    backends: BTreeMap<&'static str, Backend>,
}

struct Backend {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

struct State {
    behaviour: Mutex<Behaviour>,
    served: AtomicUsize,
}

impl Backends {
    /// The five of `tests/example`, healthy.
    pub(crate) fn example(port: u16) -> Backends {
        Backends::start(port, &EXAMPLE)
    }

    /// These, healthy.
    pub(crate) fn start(port: u16, all: &[(&'static str, &str)]) -> Backends {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let new = |&(name, address): &(&'static str, &str)| {
            let address = SocketAddr::new(address.parse().expect("an address"), port);
            let state = State { behaviour: Mutex::new(Behaviour::Refuse), served: AtomicUsize::new(0) };
            (name, Backend { address, state: Arc::new(state), listener: None })
        };
        let mut backends = Backends { runtime, backends: all.iter().map(new).collect() };
        all.iter().for_each(|(name, _)| backends.set(name, HEALTHY));
        backends
    }

    /// Tells a backend how to behave from now on.
    #[track_caller]
    pub(crate) fn set(&mut self, name: &str, behaviour: Behaviour) {
        let backend = self.backends.get_mut(name).expect("a backend");
        *backend.state.behaviour.lock().expect("no panic") = behaviour;
        if behaviour == Behaviour::Refuse {
            if let Some(listener) = backend.listener.take() {
                listener.abort();
                // Cancelled; the socket is closed when this returns.
                let _ = self.runtime.block_on(listener);
            }
        } else if backend.listener.is_none() {
            let listener = self.runtime.block_on(TcpListener::bind(backend.address)).expect("the port is ours");
            backend.listener = Some(self.runtime.spawn(listen(listener, Arc::clone(&backend.state))));
        }
    }

    /// Nobody listens any more: connections are refused, those that are open end.
    #[track_caller]
    pub(crate) fn kill(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.set(name, Behaviour::Refuse));
    }

    /// Healthy again.
    #[track_caller]
    pub(crate) fn revive(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.set(name, HEALTHY));
    }

    /// How many requests a backend has read.
    #[track_caller]
    pub(crate) fn served(&self, name: &str) -> usize {
        self.backends[name].state.served.load(Ordering::Relaxed)
    }
}

/// Accepts until it is aborted; then the connections end as well.
async fn listen(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, Arc::clone(&state)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    if !read_head(&mut stream).await {
        return;
    }
    let earlier = state.served.fetch_add(1, Ordering::Relaxed);
    let behaviour = state.next();
    match behaviour {
        Behaviour::Status(status) | Behaviour::Once(status) => respond(&mut stream, status).await,
        Behaviour::EachThird(status) => respond(&mut stream, if earlier % 3 == 2 { status } else { 200 }).await,
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            respond(&mut stream, 200).await;
        }
        Behaviour::Hang => {
            // Until the prober has had enough.
            let _ = stream.read_u8().await;
        }
        Behaviour::Reset => {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        Behaviour::Loaded(load) => {
            let body = format!("{{\"load\": {{\"now\": {load}}}}}");
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
            let response = format!("{head}X-Load: {load}\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Behaviour::Refuse => {}
    }
}

impl State {
    fn next(&self) -> Behaviour {
        let mut behaviour = self.behaviour.lock().expect("no panic");
        let healed = if matches!(*behaviour, Behaviour::Once(_)) { HEALTHY } else { *behaviour };
        std::mem::replace(&mut *behaviour, healed)
    }
}

/// Whether a whole request came.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => head.extend_from_slice(&buffer[..length]),
            _ => return false,
        }
    }
    true
}

async fn respond(stream: &mut TcpStream, status: u16) {
    let response = format!("HTTP/1.1 {status} As Told\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    // The prober may have gone.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}
