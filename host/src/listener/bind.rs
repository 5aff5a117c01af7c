//! Binds an address once per worker, so that the kernel spreads connections over the workers.
//!
//! `server` binds at start, and at a reload before anything is swapped: an address that cannot
//! be had refuses the new configuration and disturbs nothing. Never accepts.
//!
//! `SO_REUSEPORT` alone would let a second process of the same user take a silent share of the
//! connections. So the first socket binds *and listens* without it, which the kernel refuses as
//! soon as anybody else listens there; only then is the option set on it, and the sockets of the
//! other workers join. Linux looks at the option anew for each socket that joins
//! (`inet_csk_bind_conflict`, `reuseport_add_sock`).

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that may wait to be accepted, per socket; the kernel caps it at
/// `net.core.somaxconn`, 4,096 since Linux 5.4.
pub(super) const BACKLOG: i32 = 4096;

/// A peer that is gone without a word shows after 60 to 75 s of silence and 4 × 15 s more. Accepted
/// sockets inherit it.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(SILENCE).with_interval(INTERVAL).with_retries(4);
const SILENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);

/// When the kernel asks whether the peer of the connection with this number is still there.
///
/// Connections that came at the same moment, as all do after a restart, are not asked at the same
/// moment: ten thousand questions at once overflow the queue of a loopback device
/// (`net.core.netdev_max_backlog`), and those that are lost would count as peers that are gone.
pub(super) fn spread(number: u64) -> TcpKeepalive {
    TcpKeepalive::new().with_time(SILENCE + Duration::from_secs(number % (INTERVAL.as_secs() + 1)))
}

/// An address with one listening socket per worker. It holds the sockets open until it is
/// dropped, so that the accept loops of one snapshot can follow those of another without a gap.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Bound {
    /// Binds `address` for so many workers (at least one). With port 0 all share the port that
    /// the first is given.
    ///
    /// # Errors
    /// `AddrInUse` also if a socket of this very process listens there.
    pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
        let first = listen(address, Sharing::No)?;
        first.set_reuse_port(true)?;
        let first = TcpListener::from(first);
        let address = first.local_addr()?;
        let mut sockets = Vec::with_capacity(workers.max(1));
        sockets.push(first);
        while sockets.len() < workers {
            sockets.push(listen(address, Sharing::Yes)?.into());
        }
        Ok(Bound { address, sockets })
    }

    /// With the port that was given for port 0.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Another handle to the socket of a worker (counted round), for an accept loop to own.
    pub fn socket(&self, worker: usize) -> io::Result<TcpListener> {
        self.sockets[worker % self.sockets.len()].try_clone()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    No,
    Yes,
}

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Against the TIME_WAIT sockets of a former run; it does not let two listeners share.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Yes {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn connections_that_came_together_are_asked_at_different_times() {
        let bound = Bound::bind(loopback(), 1).unwrap();
        let _clients: Vec<_> = (0..64).map(|_| TcpStream::connect(bound.local_address()).unwrap()).collect();
        let socket = bound.socket(0).unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut times = std::collections::BTreeSet::new();
        for number in 0..64 {
            let (stream, _) = socket.accept().unwrap();
            let stream = socket2::SockRef::from(&stream);
            assert!(stream.keepalive().unwrap());
            stream.set_tcp_keepalive(&spread(number)).unwrap();
            assert_eq!(stream.tcp_keepalive_interval().unwrap(), INTERVAL);
            times.insert(stream.tcp_keepalive_time().unwrap());
        }
        assert_eq!(times, (60..=75).map(Duration::from_secs).collect());
    }

    #[test]
    fn all_workers_share_one_port_and_each_gets_connections() {
        let bound = Bound::bind(loopback(), 3).unwrap();
        assert_ne!(bound.local_address().port(), 0);
        let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(bound.local_address()).unwrap()).collect();
        let mut counts = [0; 3];
        for (worker, count) in counts.iter_mut().enumerate() {
            let socket = bound.socket(worker).unwrap();
            assert_eq!(socket.local_addr().unwrap(), bound.local_address());
            while socket.accept().is_ok() {
                *count += 1;
            }
        }
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn an_address_in_use_is_refused_whoever_uses_it() {
        let bound = Bound::bind(loopback(), 2).unwrap();
        let error = Bound::bind(bound.local_address(), 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

        let foreign = TcpListener::bind(loopback()).unwrap();
        let error = Bound::bind(foreign.local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_is_free_again_once_all_handles_are_gone() {
        let bound = Bound::bind(loopback(), 2).unwrap();
        let (address, handle) = (bound.local_address(), bound.socket(7).unwrap());
        // A connection that the server closed first leaves a TIME_WAIT socket behind.
        let client = TcpStream::connect(address).unwrap();
        drop(bound);
        assert_eq!(Bound::bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(handle);
        drop(client);
        Bound::bind(address, 1).unwrap();
    }
}
