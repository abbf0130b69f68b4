//! The octets of a connection, as they are or inside TLS. Reading has its buffer on the stack, for as long as there is
//! something to read: a connection that waits holds none.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Octets read at once.
pub(super) const READ: usize = 4096;
/// Reads that take away what a client has sent when its connection is closed.
const LAST_READS: usize = 16;
/// How long closing may wait for a client to take the end of TLS.
const CLOSE_WAIT: Duration = Duration::from_millis(200);

/// One connection's octets.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Waits for octets and adds them to `inbox`; how many, 0 at the end.
    pub(super) async fn read(&mut self, inbox: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => loop {
                stream.readable().await?;
                match try_read(stream, inbox) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
            Stream::Tls(stream) => poll_fn(|context| poll_read(stream, context, inbox)).await,
        }
    }

    /// Adds octets that have arrived to `inbox`; how many, 0 at the end. `WouldBlock` when there are none.
    pub(super) async fn read_now(&mut self, inbox: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => try_read(stream, inbox),
            Stream::Tls(stream) => match poll_fn(|context| Poll::Ready(poll_read(stream, context, inbox))).await {
                Poll::Ready(read) => read,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    /// Writes all of it, until the kernel has it.
    pub(super) async fn write(&mut self, outbox: &mut io::Cursor<Vec<u8>>) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all_buf(outbox).await,
            Stream::Tls(stream) => {
                stream.write_all_buf(outbox).await?;
                stream.flush().await
            }
        }
    }

    /// Closes with what is there to read taken away: else the kernel sends a reset, which may overtake answers. Whoever
    /// takes nothing any more is not waited for: `is_orderly` is false.
    pub(super) async fn close(mut self, is_orderly: bool) {
        let patience = if is_orderly { CLOSE_WAIT } else { Duration::ZERO };
        let socket = match &mut self {
            Stream::Plain(stream) => {
                let _ = stream.shutdown().await;
                &*stream
            }
            Stream::Tls(stream) => {
                let _ = tokio::time::timeout(patience, stream.shutdown()).await;
                stream.get_ref().0
            }
        };
        for _ in 0..LAST_READS {
            if !matches!(socket.try_read(&mut [0; READ]), Ok(1..)) {
                return;
            }
        }
    }
}

fn try_read(stream: &TcpStream, inbox: &mut Vec<u8>) -> io::Result<usize> {
    let mut octets = [0; READ];
    let length = stream.try_read(&mut octets)?;
    inbox.extend_from_slice(&octets[..length]);
    Ok(length)
}

fn poll_read(
    stream: &mut TlsStream<TcpStream>,
    context: &mut Context<'_>,
    inbox: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let mut octets = [0; READ];
    let mut buffer = ReadBuf::new(&mut octets);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    inbox.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}
