//! The simulation's origins: each does with a request what its plan says, and writes down all it saw.
//!
//! Used by the simulation alone. Never judges; a request whose bytes are not those planned is a
//! complaint, which the judge reads.

use super::*;
use socket2::SockRef;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

/// What an endpoint does with a request that it has got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    Answer(u16, Shape),
    /// Reads the head alone, and resets the connection.
    Cut,
    /// Reads it whole, and closes.
    Close,
    Nonsense(&'static str),
    /// A head that promises more than comes.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Plain,
    Chunked,
    /// The head is away for a while before the body goes.
    Late,
    Large,
    /// Says that it closes, and does.
    Closing,
    /// Closes without having said so.
    Leaving,
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    None,
    Full(String),
    Stream(Vec<String>),
}

/// A request, and what awaits it, try by try; what comes after the last is an answer 200.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) method: Method,
    pub(super) payload: Payload,
    pub(super) acts: Vec<Act>,
    /// The client drops the answer's body instead of reading it.
    pub(super) drops: bool,
}

/// A request seen by an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) request: usize,
    pub(super) site: usize,
    /// Not the first on its connection.
    pub(super) used: bool,
    pub(super) act: Act,
}

#[derive(Default)]
pub(super) struct World {
    /// By the number of the request.
    pub(super) plans: RefCell<HashMap<usize, Plan>>,
    pub(super) log: RefCell<Vec<Delivery>>,
    pub(super) complaints: RefCell<Vec<String>>,
}

/// An endpoint that can go down and come back at its address.
pub(super) struct Site {
    index: usize,
    pub(super) address: SocketAddr,
    /// Keeps the port while nobody listens.
    _port: socket2::Socket,
    listening: RefCell<Option<tokio::task::JoinHandle<()>>>,
    pub(super) accepted: Cell<u64>,
    /// Connections to be closed as soon as they are there, and how many have been.
    pub(super) hang_ups: Cell<u64>,
    pub(super) hung_up: Cell<u64>,
    open: RefCell<BTreeMap<u64, OwnedFd>>,
    world: Rc<World>,
}

fn bind(address: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket.set_reuse_port(true).expect("port to share");
    socket.set_reuse_address(true).expect("address to share");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.bind(&address.into()).expect("bind");
    socket
}

impl Site {
    pub(super) fn new(index: usize, world: &Rc<World>) -> Rc<Site> {
        let port = bind("127.0.0.1:0".parse().expect("address"));
        let address = port.local_addr().expect("address").as_socket().expect("address");
        let site = Rc::new(Site {
            index,
            address,
            _port: port,
            listening: RefCell::default(),
            accepted: Cell::new(0),
            hang_ups: Cell::new(0),
            hung_up: Cell::new(0),
            open: RefCell::default(),
            world: world.clone(),
        });
        site.rise();
        site
    }

    pub(super) fn is_up(&self) -> bool {
        self.listening.borrow().is_some()
    }

    pub(super) fn rise(self: &Rc<Site>) {
        if self.is_up() {
            return;
        }
        let socket = bind(self.address);
        socket.listen(128).expect("listen");
        let listener = TcpListener::from_std(socket.into()).expect("listener");
        let site = self.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = site.accepted.replace(site.accepted.get() + 1);
                if site.hang_ups.get() > 0 {
                    site.hang_ups.set(site.hang_ups.get() - 1);
                    site.hung_up.set(site.hung_up.get() + 1);
                    continue;
                }
                // Or a body would wait for the acknowledgement of its head.
                stream.set_nodelay(true).expect("no delay");
                let copy = stream.as_fd().try_clone_to_owned().expect("descriptor");
                site.open.borrow_mut().insert(number, copy);
                let site = site.clone();
                tokio::task::spawn_local(async move {
                    site.serve(number, stream).await;
                    site.open.borrow_mut().remove(&number);
                });
            }
        });
        *self.listening.borrow_mut() = Some(task);
    }

    /// From here on connections are refused.
    pub(super) async fn fall(&self) {
        let task = self.listening.borrow_mut().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        self.close_idle();
    }

    /// Closes all connections at this moment, before any other task can look.
    pub(super) fn close_idle(&self) {
        for open in self.open.borrow().values() {
            let _ = SockRef::from(open).shutdown(std::net::Shutdown::Both);
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.borrow().len()
    }

    async fn serve(&self, number: u64, stream: TcpStream) {
        let mut wire = Wire { stream, read: Vec::new(), heads: Rc::default() };
        let mut used = false;
        while let Some(head) = wire.head().await {
            let path = head.split(' ').nth(1).and_then(|path| path[1..].parse().ok());
            let plan =
                path.and_then(|request| Some((request, self.world.plans.borrow().get(&request)?.clone())));
            let Some((request, plan)) = plan else {
                return self.complain(format!("nobody sent {head:?}"));
            };
            if !head.starts_with(plan.method.as_str()) || !head.contains(&format!("x-number: {request}\r\n"))
            {
                self.complain(format!("another's head for {request}: {head:?}"));
            }
            let before = self.world.log.borrow().iter().filter(|seen| seen.request == request).count();
            let act = plan.acts.get(before).copied().unwrap_or(Act::Answer(200, Shape::Plain));
            let serial = {
                let mut log = self.world.log.borrow_mut();
                log.push(Delivery { request, site: self.index, used, act });
                log.len() - 1
            };
            used = true;
            if act == Act::Cut {
                self.open.borrow_mut().remove(&number);
                let _ = SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO));
                return;
            }
            let body = match &plan.payload {
                Payload::None => String::new(),
                Payload::Full(text) => text.clone(),
                Payload::Stream(parts) => {
                    let chunks = parts.iter().map(|part| format!("{:X}\r\n{part}\r\n", part.len()));
                    chunks.collect::<String>() + "0\r\n\r\n"
                }
            };
            if wire.body(body.len()).await.is_none_or(|read| read != body.as_bytes()) {
                return self.complain(format!("the body of {request} is another's, or broke off"));
            }
            if !self.answer(&mut wire, request, serial, act).await {
                return;
            }
        }
    }

    /// Says whether the connection stays.
    async fn answer(&self, wire: &mut Wire, request: usize, serial: usize, act: Act) -> bool {
        let (status, shape) = match act {
            Act::Answer(status, shape) => (status, shape),
            Act::Cut | Act::Close => return false,
            Act::Nonsense(text) => {
                wire.say(text).await;
                return false;
            }
            Act::Short => {
                wire.say(&format!(
                    "HTTP/1.1 200 OK\r\nx-serial: {serial}\r\ncontent-length: 99\r\n\r\nshort"
                ))
                .await;
                return false;
            }
        };
        let text = text_of(request, serial, shape);
        let length = text.len();
        let head = format!("HTTP/1.1 {status} Some\r\nx-serial: {serial}\r\n");
        match shape {
            Shape::Plain | Shape::Large | Shape::Leaving => {
                wire.say(&format!("{head}content-length: {length}\r\n\r\n{text}")).await;
            }
            Shape::Chunked => {
                let (one, other) = text.split_at(length / 2);
                let (ones, others) = (one.len(), other.len());
                let chunks = format!("{ones:x}\r\n{one}\r\n{others:x}\r\n{other}\r\n0\r\n\r\n");
                wire.say(&format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}")).await;
            }
            Shape::Late => {
                wire.say(&format!("{head}content-length: {length}\r\n\r\n")).await;
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                wire.say(&text).await;
            }
            Shape::Closing => {
                wire.say(&format!("{head}connection: close\r\ncontent-length: {length}\r\n\r\n{text}")).await;
            }
        }
        !matches!(shape, Shape::Closing | Shape::Leaving)
    }

    fn complain(&self, what: String) {
        self.world.complaints.borrow_mut().push(what);
    }
}

/// The body of an answer, which is no other's.
pub(super) fn text_of(request: usize, serial: usize, shape: Shape) -> String {
    let text = format!("answer to {request}, the {serial}th seen. ");
    if shape == Shape::Large { text.repeat(8_000) } else { text }
}
